"""Compares runs: the settings in which they differ and the metrics they reached, as a page, a table and JSON."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, TypeAlias

from gantrain.checkpoints.by_url import runs_folder
from gantrain.config.extras import is_url
from gantrain.config.naming import JOBS, RUNS, SWEEPS
from gantrain.errors import ConfigError, nearest
from gantrain.report.pages.home_page import write_home
from gantrain.report.pages.page import ASSETS
from gantrain.runtime import console
from gantrain.runtime.atomic import write_file
from gantrain.sweeps.comparison_page import comparison_page
from gantrain.sweeps.summary import Run, metrics, read_run
from gantrain.sweeps.sweep import read_jobs

TABLE, RECORD = "runs.csv", "runs.json"
# Keys that do not affect what a run computes.
_IGNORED_KEYS = ("name", "checkpoints_dir", "resume", "dry_run", "plugins", "expected")
_IGNORED_GROUPS = ("logger", "objective", "sweep", "hydra", "launcher", "sweeper")
KEYS = ("out", "checkpoints_dir")  # Of the command.
_FACTS = ("status", "message", "step", "seconds")  # Attributes of a run in the table and the record.
_CHOICES = ("name", "mode")  # Last parts of the keys that choose a class.

Columns: TypeAlias = dict[str, list[Any]]  # The value of each run, by key.


def differing(runs: Sequence[Run]) -> tuple[Columns, Columns]:
    """Settings in which runs differ: the main ones, and those that follow from them.

    The main ones are those that were typed, if they are known for all runs. Otherwise a setting follows from a choice
    that determines it, as ``clip`` follows from ``model.name``.
    """
    keys = dict.fromkeys(key for run in runs for key in run.settings if _is_compared(key))
    columns = {key: [run.settings.get(key) for run in runs] for key in keys}
    known = [bool(run.settings) for run in runs]
    differ = {key: column for key, column in columns.items() if len(set(map(str, compress(column, known)))) > 1}
    if all(run.typed is not None for run in runs):
        typed = dict.fromkeys(key for run in runs for key in run.typed or () if _is_compared(key))
        values = {key: [_typed_value(run, key) for run in runs] for key in typed}
        main = {key: column for key, column in values.items() if len(set(map(str, column))) > 1}
    else:
        first = sorted(differ, key=lambda key: (key != "model.name", not key.endswith(_CHOICES)))
        main = {key: differ[key] for key in first if not _follows(key, differ)}
    shown = {*main, *(f"{key.replace('/', '.')}.name" for key in main)}
    return main, {key: column for key, column in differ.items() if key not in shown}


def _is_compared(key: str) -> bool:
    return key not in _IGNORED_KEYS and re.split(r"[./]", key)[0] not in _IGNORED_GROUPS


def _typed_value(run: Run, key: str) -> Any:
    """The composed value of a key that was typed for some run, or else the typed one."""
    dotted = key.replace("/", ".")
    choice = next((run.settings[f"{dotted}.{part}"] for part in _CHOICES if f"{dotted}.{part}" in run.settings), None)
    return run.settings.get(dotted, (run.typed or {}).get(key, choice))


def _follows(key: str, columns: Columns) -> bool:
    """Whether an earlier choice of a class determines the value of ``key``; the model is the first choice."""
    choices = sorted((each for each in columns if each.endswith(_CHOICES)), key=lambda each: each != "model.name")
    before = choices[: choices.index(key)] if key in choices else choices
    text = {each: [*map(str, columns[each])] for each in (*before, key)}
    determined = (len({*zip(text[choice], text[key], strict=True)}) == len({*text[choice]}) for choice in before)
    return key != "seed" and any(determined)


def compare_sweep(folder: Path, runs_folder: Path) -> Path:
    """Write the page, the table and the record of a sweep into its folder; returns the path of the page.

    The page of all runs, in ``runs_folder``, links to it.
    """
    newest = max(read_jobs(folder), key=lambda job: job["time"], default={"command": ""})
    title, command = folder.resolve().name, newest["command"]
    page = compare(_runs(folder), folder, title=title, command=command, home=runs_folder)
    if runs_folder.is_dir():
        write_home(runs_folder)
    return page


def compare(runs: Sequence[Run], folder: Path, *, title: str, command: str, home: Path) -> Path:
    """Write the page, the table and the record of runs; returns the path of the page.

    Args:
        runs: At least one.
        folder: The output folder.
        title: The title of the page.
        command: The command that trained the runs or created the page.
        home: The folder of all runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    main, further = differing(runs)
    rows = [
        {
            "run": run.name,
            "folder": os.path.relpath(run.folder, folder.resolve()),
            **{fact: getattr(run, fact) for fact in _FACTS},
            "settings": {key: column[number] for key, column in (main | further).items()},
            "metrics": metrics(run),
        }
        for number, run in enumerate(runs)
    ]
    record = {"name": title, "command": command, "differ": list(main), "follow": list(further), "runs": rows}
    write_file(folder / RECORD, json.dumps(record, indent=1, default=str) + "\n")
    table = [
        {
            **{fact: row[fact] for fact in ("run", *_FACTS)},
            **row["settings"],
            **{f"{kind} {name}": value for name, values in row["metrics"].items() for kind, value in values.items()},
        }
        for row in rows
    ]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, dict.fromkeys(column for row in table for column in row))
    writer.writeheader()
    writer.writerows({column: _cell(value) for column, value in row.items()} for row in table)
    write_file(folder / TABLE, text.getvalue())
    return comparison_page(folder, record, runs, home=home)


def _cell(value: Any) -> Any:
    """A value for a table: text that a spreadsheet would run as a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def main(arguments: Sequence[str]) -> int:
    """``gantrain compare RUN... | SWEEP_FOLDER [out=FOLDER] [checkpoints_dir=FOLDER]``.

    Raises:
        ConfigError: There is no such run, or the output folder contains other files.
    """
    given = {word: (key, value) for word in arguments for key, _, value in [word.partition("=")]}
    options = {key: value for key, value in given.values() if key in KEYS and value}
    place, named = options.get("checkpoints_dir", "checkpoints"), options.get("out")
    words = [word for word, (key, value) in given.items() if key not in KEYS or not value]
    if wrong := next((word for word in words if word.startswith("-") or "=" in word), None):
        raise ConfigError(f"{wrong}: give folders of runs or sweeps, and out=FOLDER or checkpoints_dir=FOLDER")
    home = runs_folder(place, words or None, logs_only=True)
    words = words or [str(home)] * is_url(place)
    if len(words) > 1:  # checkpoints/* also matches other files and folders.
        paths = {word: Path(word).expanduser() for word in words}
        words = [word for word, path in paths.items() if path.name not in (ASSETS, "sweeps") and not path.is_file()]
    folders = [folder for word in words for folder in _find(word, home)]
    if len(folders) == 1 and named is None and (folders[0] / JOBS).is_dir():
        parent = folders[0].resolve().parent  # ``sweeps`` in the folder of all runs, by default.
        home = Path(os.path.relpath(parent.parent)) if parent.name == "sweeps" else home
        page = compare_sweep(folders[0], home)
    else:
        runs = _unique([run for folder in folders for run in _runs(folder)])
        if len(runs) < 2:
            raise ConfigError("give two runs or more, or the folder of a sweep: gantrain compare checkpoints/*")
        out = Path(named or "comparison").expanduser()
        if out.exists() and any(out.iterdir()) and not (out / RECORD).exists():
            raise ConfigError(f"out={out}: the folder contains other files; give another out=FOLDER")
        command = shlex.join(["gantrain", "compare", *arguments])
        page = compare(runs, out, title=f"{len(runs)} runs", command=command, home=home)
    console.err(f"Page: {page}")
    return 0


def _find(word: str, home: Path) -> list[Path]:
    """The run or sweep at a path or with a name in ``home``, or else all inside that folder."""
    contents = ("config.yaml", "step_*.pt", f"{JOBS}/")  # A run contains one of the first two, a sweep the last one.
    in_sweeps = [] if os.path.isabs(word) else sorted(home.glob(f"{SWEEPS}/*/{glob.escape(word)}"))[:1]
    for folder in (Path(word).expanduser(), home / word, home / SWEEPS / word, *in_sweeps):
        for folders in ([folder], [each for place in RUNS for each in sorted(folder.glob(f"{place}/"))]):
            if found := [each for each in folders if any(any(each.glob(pattern)) for pattern in contents)]:
                return found
    known = [path.parent.as_posix() for place in RUNS for path in home.glob(f"{place}/config.yaml")]
    raise ConfigError(f"{word}: no run and no sweep; {nearest(word, known)}")


def _runs(folder: Path) -> list[Run]:
    """A run, or the runs of a sweep."""
    if not (folder / JOBS).is_dir():
        return [read_run(folder)]
    jobs = [(folder.resolve() / job.get("folder", f"../../{job['run']}"), job) for job in read_jobs(folder)]
    return [read_run(Path(os.path.normpath(path)), job) for path, job in jobs]


def _unique(runs: Iterable[Run]) -> list[Run]:
    """Each run once; runs that share a name are renamed to their paths."""
    once: dict[Path, Run] = {}
    for run in runs:
        once.setdefault(run.folder.resolve(), run)
    names = [run.name for run in once.values()]
    for folder, run in once.items():
        if names.count(run.name) > 1:
            run.name = Path(os.path.relpath(folder)).as_posix()
    return list(once.values())
