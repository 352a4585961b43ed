"""Runs that are stored at a URL: commands work on a folder of this machine, and the runs' mirror is the URL.

This is the only code that turns ``checkpoints_dir=URL`` into a folder.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gantrain.checkpoints.mirror import CHECKPOINTS, LOGS, PATTERNS, Mirror, newest_step
from gantrain.config.extras import is_url, is_web, open_url, without_credentials
from gantrain.config.naming import RUNS, SWEEPS
from gantrain.config.side_files import is_path
from gantrain.errors import ConfigError, nearest
from gantrain.runtime import console
from gantrain.runtime.atomic import cache_dir
from gantrain.runtime.run_lock import is_locked

LIMIT = 20e9  # Bytes of the checkpoints in a working folder, besides those of the run in use.


def localized(config: Mapping[str, Any]) -> dict[str, Any]:
    """A composed configuration whose ``checkpoints_dir`` is a folder: a URL becomes its working folder.

    The runs of a command that trains have the URL as their mirror, from which they resume. For a command that applies
    runs, they are copied from there.

    Raises:
        ConfigError: The URL can't be read, or nothing can be written to its kind.
    """
    url = str(config.get("checkpoints_dir"))
    if not is_url(url):
        return dict(config)
    trainer = config.get("trainer")
    if isinstance(trainer, Mapping):
        if trainer.get("mirror") not in (None, url):
            raise ConfigError(
                f"trainer.mirror={without_credentials(trainer['mirror'])}: runs are copied to checkpoints_dir="
                f"{without_credentials(url)} already; give a folder there, or no mirror"
            )
        folder = _prepared(url)
        if os.environ.get("RANK", "0") == "0":
            _make_room(url, folder, keep=folder / str(config.get("name")))
        return {**config, "checkpoints_dir": str(folder), "trainer": {**trainer, "mirror": url}}
    runs = config.get("run") or []
    return {**config, "checkpoints_dir": str(runs_folder(url, [runs] if isinstance(runs, str) else runs))}


def runs_folder(place: str, runs: Sequence[str] | None = None, *, logs_only: bool = False) -> Path:
    """The folder of ``checkpoints_dir=PLACE``; at a URL these runs, by default all, are copied from it first."""
    if not is_url(place):
        return Path(place).expanduser()
    folder = _prepared(place)
    names = names_at(place) if runs is None else [name for run in runs for name in _meant(place, run, sweeps=logs_only)]
    fetch_runs(place, names, logs_only=logs_only)
    return folder


def working_folder(url: str) -> Path:
    """The folder of this machine for the runs of a URL: ``$GANTRAIN_CACHE/runs/s3-bucket-runs-1a2b3c4d``."""
    place = without_credentials(url).rstrip("/")
    name = re.sub(r"\W+", "-", place)[-80:].strip("-")
    return cache_dir() / "runs" / f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def names_at(url: str, places: Sequence[str] = RUNS) -> list[str]:
    """The names of the runs at a URL whose paths match a pattern, those of sweeps as ``sweeps/SWEEP/NAME``."""
    files, root = open_url(url, "checkpoints_dir")
    root = root.rstrip("/")
    files.invalidate_cache()
    try:
        found = [path for place in places for path in files.glob(f"{glob.escape(root)}/{place}/config.yaml")]
    except Exception as error:  # Drivers have their own.
        reason = without_credentials(str(error) or type(error).__name__)
        raise ConfigError(f"checkpoints_dir={without_credentials(url)}: can't be read: {reason}") from error
    return sorted(path[path.index(root) + len(root) + 1 :].rpartition("/")[0] for path in found)


def fetch_runs(url: str, names: Sequence[str], *, logs_only: bool = False) -> None:
    """Copy these runs, or their logs and images, to the working folder, if they are newer at the URL."""
    folder = working_folder(url)
    for name in names:
        _make_room(url, folder, keep=folder / name)
        mirror = Mirror(url, folder / name, name=name, warn=console.err)
        newest = newest_step((folder / name).glob(CHECKPOINTS))
        if mirror.fetch(after=newest, patterns=LOGS if logs_only else PATTERNS) and not logs_only:
            console.err(f"Copied the run from {mirror.url}")


def _meant(url: str, word: str, *, sweeps: bool) -> list[str]:
    """The names of the runs at a URL that a word means: a run, one of a sweep or, with ``sweeps``, all of a sweep.

    None for the path of a run on this machine.

    Raises:
        ConfigError: There is none, and nothing of this name on this machine.
    """
    if not is_path(word) or os.path.isabs(word) or ".." in Path(word).parts:
        return []
    if not Path(word).parts or any(Path(word).expanduser().glob("*.pt")):
        return []
    name = glob.escape(word.rstrip("/"))
    all_of_sweep = (f"{name}/*", f"{SWEEPS}/{name}/*") if sweeps else ()
    found = names_at(url, [name]) or names_at(url, [f"{SWEEPS}/*/{name}", *all_of_sweep])
    own = (place for place in (name, f"{SWEEPS}/{name}", f"{SWEEPS}/*/{name}") if any(working_folder(url).glob(place)))
    if not (found or Path(word).expanduser().exists() or any(own)):
        where = f"checkpoints_dir={without_credentials(url)}"
        raise ConfigError(f"{word}: no run of this name in {where}; {nearest(word, names_at(url))}")
    return found


def _prepared(url: str) -> Path:
    """The working folder of a URL to which runs can be written."""
    if is_web(url):
        raise ConfigError(
            f"checkpoints_dir={without_credentials(url)}: nothing can be written to a web server: give s3://..., "
            "gs://... or a folder"
        )
    open_url(url, "checkpoints_dir")
    folder = working_folder(url)
    _announce(without_credentials(url), folder)
    return folder


@cache
def _announce(url: str, folder: Path) -> None:
    """Print, once in a process, where the runs of a URL are on this machine."""
    if os.environ.get("RANK", "0") == "0":
        console.err(f"Runs of {url}: this machine works on them in {folder}")


def _make_room(url: str, folder: Path, *, keep: Path) -> None:
    """Delete the checkpoints of other runs that are at the URL as well, the oldest run first, beyond the limit.

    A run loses all or none: what a run that resumes lacks here would be deleted at the URL, too.
    """
    own = {path: path.stat() for place in RUNS for path in folder.glob(f"{place}/*.pt") if path.parent != keep}
    total = sum(status.st_size for status in own.values())
    newest_first = sorted(own, key=lambda path: own[path].st_mtime, reverse=True)
    for run in reversed(dict.fromkeys(path.parent for path in newest_first)):
        if total <= LIMIT:
            break
        paths = [path for path in newest_first if path.parent == run]
        mirror = Mirror(url, run, name=run.relative_to(folder).as_posix(), warn=console.err)
        if not is_locked(run) and all(map(mirror.has, paths)):
            for path in paths:
                path.unlink(missing_ok=True)
                total -= own[path].st_size
