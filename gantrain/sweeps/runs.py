"""``gantrain runs``: lists, removes and renames runs, and writes their pages anew."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gantrain.metrics  # noqa: F401 - registers the metrics, which know their better ends
from gantrain.checkpoints.by_url import runs_folder
from gantrain.config.extras import is_url, without_credentials
from gantrain.config.naming import JOBS
from gantrain.config.side_files import is_path
from gantrain.errors import ConfigError, nearest
from gantrain.report.images import image_entries
from gantrain.report.log import TABLES, read_lines
from gantrain.report.pages.home_page import run_folders, write_home
from gantrain.report.pages.page import ASSETS, read_data, read_status, seconds_of
from gantrain.report.pages.training_page import ABOUT, TrainingPage
from gantrain.runtime import console
from gantrain.runtime.atomic import write_file
from gantrain.runtime.run_lock import is_locked
from gantrain.runtime.storage import explain
from gantrain.sweeps.compare import compare_sweep
from gantrain.sweeps.sweep import read_config, read_jobs

USAGE = """\
gantrain runs                       lists all runs
gantrain runs remove RUN... [--yes] removes runs with their checkpoints, after a question
gantrain runs rename RUN NAME       gives a run another name
gantrain runs pages                 writes the pages of all runs and sweeps anew
  checkpoints_dir=FOLDER            the folder of the runs, by default checkpoints; list also takes a URL
"""
NEVER_NAMES = ("", ".", "..", "sweeps", ASSETS)


def main(arguments: Sequence[str], *, ask: Callable[[str], str] = input) -> int:
    """The command; ``ask`` puts a question to the user.

    Raises:
        ConfigError: There is no such command or run, a run is being trained, or a name is taken.
    """
    if {"-h", "--help", "help"}.intersection(arguments):
        console.out(*USAGE.splitlines())
        return 0
    given = [word.partition("=")[2] for word in arguments if word.startswith("checkpoints_dir=")]
    place = given[-1] if given else "checkpoints"
    command, *words = [word for word in arguments if not word.startswith("checkpoints_dir=")] or ["list"]
    is_sure = "--yes" in words
    words = [word for word in words if word != "--yes"]
    counts = {"list": (0, 0), "pages": (0, 0), "remove": (1, sys.maxsize), "rename": (2, 2)}
    if command not in counts:
        raise ConfigError(f"no command 'runs {command}'; {nearest(command, counts)}")
    least, most = counts[command]
    if not least <= len(words) <= most or any(word.startswith("-") for word in words):
        usage = next(line for line in USAGE.splitlines() if f"runs {command}" in line or command == "list")
        raise ConfigError(f"{' '.join(words) or 'runs ' + command}: expected {' '.join(usage.split())}")
    if command in ("remove", "rename") and is_url(place):
        raise ConfigError(f"checkpoints_dir={without_credentials(place)}: gantrain runs {command} needs a folder")
    home = runs_folder(place, logs_only=True)
    if command == "list":
        _list(home, elsewhere=is_url(place))
    elif command == "pages":
        _write_pages(home, run_folders(home))
    elif command == "remove":
        return _remove(home, [_find(word, home) for word in words], (lambda _: "y") if is_sure else ask)
    else:
        _rename(home, _find(words[0], home), words[1])
    return 0


def _list(home: Path, *, elsewhere: bool) -> None:
    """Print a line for each run, the one that was trained last at the end; other machines train those of a URL."""
    rows = []
    for folder in run_folders(home):
        status = read_status(folder)
        state = status.get("state", "unknown")
        if state == "running" and not elsewhere and not is_locked(folder):
            state = "killed"
        at = status.get("time", (folder / "config.yaml").stat().st_mtime)
        step = f"step {status['step']:,}" if "step" in status else ""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
        rows.append((at, [when, state, step, duration(seconds_of(status)), os.path.relpath(folder, home)]))
    if not rows:
        console.out(f"no runs in {home}")
    for _, cells in sorted(rows):
        console.out(f"{cells[0]}  {cells[1]:<8} {cells[2]:>14} {cells[3]:>12}  {ConfigError(cells[4])}")


def duration(seconds: float) -> str:
    """``1 h 23 min``."""
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _find(word: str, home: Path) -> Path:
    """The folder of a run that is given by its name or its path."""
    for folder in (home / word, Path(word).expanduser()):
        if is_path(word) and any(any(folder.glob(pattern)) for pattern in ("config.yaml", "step_*.pt")):
            return Path(os.path.normpath(folder))
    known = [os.path.relpath(folder, home) for folder in run_folders(home)]
    raise ConfigError(f"{word}: no run in {home}; {nearest(word, known)}")


def _check_idle(folder: Path) -> None:
    if is_locked(folder):
        raise ConfigError(f"{folder} is being trained: stop it first")


def _remove(home: Path, folders: Sequence[Path], ask: Callable[[str], str]) -> int:
    """Remove runs after a question; returns an exit status."""
    size = 0
    for folder in folders:
        _check_idle(folder)
        size += sum(path.lstat().st_size for path in folder.rglob("*") if not folder.is_symlink())
    names = ", ".join(map(str, folders))
    try:
        answer = ask(f"Remove {ConfigError(names)} ({size / 1e6:,.1f} MB) for good? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        console.err("", "nothing is removed; type y, or give --yes")
        return 1
    for folder in folders:
        records = _records_of(home, folder)
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
        for record in records:
            record.unlink()
        _refresh(home, records)
        console.out(f"removed {ConfigError(str(folder))}")
    return 0


def _rename(home: Path, folder: Path, name: str) -> None:
    if name in NEVER_NAMES or Path(name).name != name or not is_path(name):
        raise ConfigError(f"{name}: give a name for a folder beside {folder}, without slashes")
    target = folder.with_name(name)
    if os.path.lexists(target):
        raise ConfigError(f"{target} exists: give another name, or remove it first")
    _check_idle(folder)
    records = _records_of(home, folder)
    folder.rename(target)
    for path, record in records.items():
        path.unlink()
        renamed = {**record, "run": name, "folder": os.path.relpath(target, path.parents[1])}
        write_file(path.with_name(f"{name}.json"), json.dumps(renamed, indent=1) + "\n")
    _write_page(home, target)
    _refresh(home, records)
    console.out(f"renamed to {ConfigError(str(target))}; resume it with name={ConfigError(name)}")


def _records_of(home: Path, folder: Path) -> dict[Path, Mapping[str, Any]]:
    """The records of a run in sweeps, by their files."""
    found: dict[Path, Mapping[str, Any]] = {}
    for sweep in home.glob("sweeps/*/"):
        for job in read_jobs(sweep):
            own = sweep / job.get("folder", f"../../{job['run']}")
            if own.resolve() == folder.resolve():
                found[sweep / JOBS / f"{job['run']}.json"] = job
    return found


def _refresh(home: Path, records: Mapping[Path, Any]) -> None:
    """Write the page of all runs and those of sweeps to which a removed or renamed run belonged."""
    for sweep in {path.parents[1] for path in records}:
        if read_jobs(sweep):
            compare_sweep(sweep, home)
    write_home(home)


def _write_pages(home: Path, folders: Sequence[Path]) -> None:
    written = 0
    for folder in folders:
        try:
            written += _write_page(home, folder)
        except OSError as error:  # The others are written.
            console.err(f"warning: {explain(error, f'write the page of {folder}')}")
    sweeps = [sweep for sweep in home.glob("sweeps/*/") if read_jobs(sweep)]
    for sweep in sweeps:
        compare_sweep(sweep, home)
    if home.is_dir():
        write_home(home)
    console.out(f"wrote the pages of {written} of {len(folders)} runs and of {len(sweeps)} sweeps")


def _write_page(home: Path, folder: Path) -> bool:
    """Write the page of a run anew; False for one that is training, or whose facts an older version has not stored."""
    about = read_data(folder, "about", ABOUT)
    if is_locked(folder) or not about.keys() >= ABOUT.keys():
        return False
    own = {key: about[key] for key in ABOUT}
    logs = {table: read_lines(folder / f"{table}.jsonl") for table in TABLES}
    TrainingPage(folder, home, config=read_config(folder), **own).rebuild({**logs, "images": image_entries(folder)})
    return True
