"""Runs side by side: what differs between them, and what came of each, as a page, a table and JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, TypeAlias

from gantrain.config.settings import CHECKPOINTS
from gantrain.errors import ConfigError, nearest
from gantrain.report.pages.comparison_page import comparison_page
from gantrain.report.pages.home_page import write_home
from gantrain.report.pages.page import BESIDE
from gantrain.runtime.atomic import write_file
from gantrain.sweeps.summary import Run, figures, read_run
from gantrain.sweeps.sweep import JOBS, read_jobs

TABLE, RECORD = "runs.csv", "runs.json"
# keys that say nothing of what a run computes, or of how well
_UNTOLD = ("name", "resume", "dry_run", "plugins")
_UNTOLD_GROUPS = ("logger", "objective", "sweep", "hydra", "launcher", "sweeper")
_BESIDE_RUNS = (BESIDE, "sweeps")  # which checkpoints/* names too, and files
_CHOOSES = ("name", "mode")  # end the keys that choose a class

Columns: TypeAlias = dict[str, list[Any]]  # by key, a value for each run


# ---- what differs


def differing(runs: Sequence[Run]) -> tuple[Columns, Columns]:
    """Settings in which runs differ, with their values run by run: those to look at, and those that follow from them.

    If it is known of all runs what was typed, that is to be looked at. Otherwise what another choice decides (``clip``,
    which only one ``model.name`` has) follows from it.
    """
    keys = dict.fromkeys(key for run in runs for key in run.settings if _tells(key))
    columns = {key: [run.settings.get(key) for run in runs] for key in keys}
    known = [bool(run.settings) for run in runs]
    differ = {key: column for key, column in columns.items() if len(set(map(str, compress(column, known)))) > 1}
    if all(run.typed is not None for run in runs):
        typed = dict.fromkeys(key for run in runs for key in run.typed or () if _tells(key))
        values = {key: [_typed_value(run, key) for run in runs] for key in typed}
        main = {key: column for key, column in values.items() if len(set(map(str, column))) > 1}
    else:
        first = sorted(differ, key=lambda key: (key != "model.name", not key.endswith(_CHOOSES)))
        main = {key: differ[key] for key in first if not _follows(key, differ)}
    shown = {*main, *(f"{key.replace('/', '.')}.name" for key in main)}
    return main, {key: column for key, column in differ.items() if key not in shown}


def _tells(key: str) -> bool:
    return key not in _UNTOLD and re.split(r"[./]", key)[0] not in _UNTOLD_GROUPS


def _typed_value(run: Run, key: str) -> Any:
    """What was typed, and else what was composed; numbers as numbers."""
    place = key.replace("/", ".")
    if place in run.settings:
        return run.settings[place]
    assert run.typed is not None
    if key in run.typed:
        return run.typed[key]
    return next((run.settings[f"{place}.{of}"] for of in _CHOOSES if f"{place}.{of}" in run.settings), None)


def _follows(key: str, columns: Columns) -> bool:
    """Whether a choice of a class decides the value of ``key``: the model first of all, and choices before others."""
    choices = sorted((each for each in columns if each.endswith(_CHOOSES)), key=lambda each: each != "model.name")
    before = choices[: choices.index(key)] if key in choices else choices
    for choice in () if key == "seed" else before:
        decided: dict[str, str] = {}
        pairs = zip(map(str, columns[choice]), map(str, columns[key]), strict=True)
        if all(decided.setdefault(one, other) == other for one, other in pairs):
            return True
    return False


# ---- what is written


def compare_sweep(folder: Path) -> Path:
    """Write the page, the table and the record of a sweep into its folder; the path of the page."""
    jobs = read_jobs(folder)
    newest = max(jobs, key=lambda job: job.get("time", 0.0), default={})
    runs = [read_run(_place(folder, job), job) for job in jobs]
    page = compare(runs, folder, title=folder.resolve().name, command=newest.get("command", ""))
    if CHECKPOINTS.is_dir():
        write_home(CHECKPOINTS)  # which links to it
    return page


def _place(sweep: Path, job: Mapping[str, Any]) -> Path:
    return Path(os.path.normpath(sweep.resolve() / job.get("folder", f"../../{job['run']}")))


def compare(runs: Sequence[Run], folder: Path, *, title: str, command: str) -> Path:
    """Write the page, the table and the record of runs; the path of the page.

    Args:
        runs: At least one.
        folder: Where to.
        title: Of the page.
        command: That made the runs, or the page.

    Raises:
        OSError: It can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    main, further = differing(runs)
    rows = [
        {
            "run": run.name,
            "folder": os.path.relpath(run.folder, folder.resolve()),
            "status": run.status,
            "message": run.message,
            "step": run.step,
            "seconds": run.seconds,
            "settings": {key: column[place] for key, column in (main | further).items()},
            "figures": figures(run),
        }
        for place, run in enumerate(runs)
    ]
    record = {"name": title, "command": command, "differ": list(main), "follow": list(further), "runs": rows}
    write_file(folder / RECORD, json.dumps(record, indent=1, default=str) + "\n")
    _write_table(folder / TABLE, rows, [*main, *further])
    metric = next((run.settings["objective.metric"] for run in runs if run.settings.get("objective.metric")), None)
    return comparison_page(
        folder,
        record,
        objective=metric,
        lines={run.name: run.lines for run in runs},
        images={run.name: run.images for run in runs},
        tested={run.name: run.tested for run in runs},
        home=CHECKPOINTS,
    )


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]], settings: Sequence[str]) -> None:
    names = dict.fromkeys(name for row in rows for name in row["figures"])
    kinds = [(name, kind) for name in names for kind in ("final", "best")]
    text = io.StringIO(newline="")
    table = csv.writer(text)
    facts = ["run", "status", "message", "step", "seconds"]
    table.writerow([*facts, *settings, *(f"{kind} {name}" for name, kind in kinds)])
    for row in rows:
        found = [row["figures"].get(name, {}).get(kind) for name, kind in kinds]
        table.writerow([*(row[fact] for fact in facts), *(row["settings"][key] for key in settings), *found])
    write_file(path, text.getvalue())


# ---- the command


def main(arguments: Sequence[str]) -> int:
    """``gantrain compare RUN... | SWEEP_FOLDER [out=FOLDER]``.

    Raises:
        ConfigError: There is no such run, or something else lies where the page is to go.
    """
    words = [word for word in arguments if not word.startswith("out=")]
    out = next((Path(word.partition("=")[2]).expanduser() for word in arguments if word.startswith("out=")), None)
    if wrong := next((word for word in words if word.startswith("-") or "=" in word), None):
        raise ConfigError(f"{wrong}: gantrain compare takes folders of runs or of sweeps, and out=FOLDER")
    meant = [word for word in words if len(words) == 1 or not _is_beside_runs(Path(word).expanduser())]
    folders = [folder for word in meant for folder in _found(word)]
    if len(folders) == 1 and out is None and (folders[0] / JOBS).is_dir():
        page = compare_sweep(folders[0])
    else:
        runs = _told_apart([run for folder in folders for run in _runs(folder)])
        if len(runs) < 2:
            raise ConfigError("give two runs or more, or the folder of a sweep: gantrain compare checkpoints/*")
        out = Path("comparison") if out is None else out
        if out.exists() and any(out.iterdir()) and not (out / RECORD).exists():
            raise ConfigError(f"out={out}: something else is in there; give another out=FOLDER")
        command = shlex.join(["gantrain", "compare", *arguments])
        page = compare(runs, out, title=f"{len(runs)} runs", command=command)
    print(f"Page: {page}", file=sys.stderr)
    return 0


def _is_beside_runs(path: Path) -> bool:
    return path.name in _BESIDE_RUNS or path.is_file()


def _found(word: str) -> list[Path]:
    """The folders that are meant by a path, or by a name below ``checkpoints``: a run, a sweep, or what holds some."""
    for folder in (Path(word).expanduser(), CHECKPOINTS / word, CHECKPOINTS / "sweeps" / word):
        for folders in ([folder], sorted(folder.glob("*/"))):
            if found := [each for each in folders if _is_comparable(each)]:
                return found
    there = [path.parent.as_posix() for path in CHECKPOINTS.glob("*/config.yaml")]
    raise ConfigError(f"{word}: no run and no sweep; {nearest(word, there)}")


def _is_comparable(folder: Path) -> bool:
    return (folder / "config.yaml").exists() or (folder / JOBS).is_dir() or any(folder.glob("step_*.pt"))


def _runs(folder: Path) -> Iterable[Run]:
    if not (folder / JOBS).is_dir():
        return [read_run(folder)]
    return [read_run(_place(folder, job), job) for job in read_jobs(folder)]


def _told_apart(runs: Iterable[Run]) -> list[Run]:
    """Each run once; those that share a name are called by their paths."""
    once: dict[Path, Run] = {}
    for run in runs:
        once.setdefault(run.folder.resolve(), run)
    names = [run.name for run in once.values()]
    for folder, run in once.items():
        if names.count(run.name) > 1:
            run.name = Path(os.path.relpath(folder)).as_posix()
    return list(once.values())
