"""Keeps the page of all runs up to date."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gantrain.config.extras import is_url

# As in ``gantrain.report.pages.page``, which is slow to import.
PAGE, DATA = "index.html", "index_files/data"


def refresh_home(arguments: Sequence[str]) -> None:
    """Write the page of all runs if there is one and a run or sweep was added, changed, renamed or removed since.

    ``arguments`` are those of a command, which may set ``checkpoints_dir``.
    """
    given = [word.partition("=")[2] for word in arguments if word.startswith("checkpoints_dir=")]
    place = (given or ["checkpoints"])[-1].strip("'\"")
    if is_url(place):
        from gantrain.checkpoints.by_url import working_folder  # It is rarely needed.

        place = str(working_folder(place))
    folder = Path(place)
    with suppress(OSError, ValueError, RuntimeError):  # Such as a read-only folder; the command itself has succeeded.
        folder = folder.expanduser()
        if "RANK" not in os.environ and (folder / PAGE).is_file() and _is_stale(folder):
            from gantrain.report.pages.home_page import write_home

            write_home(folder)


def _is_stale(folder: Path) -> bool:
    data = folder / DATA / "runs.js"
    written = data.stat().st_mtime if data.is_file() else 0.0
    statuses = (path for place in ("*", "sweeps/*/*") for path in folder.glob(f"{place}/{DATA}/status.js"))
    folders = (folder, *folder.glob("sweeps/"), *folder.glob("sweeps/*/"))
    return any(path.stat().st_mtime >= written for path in (*folders, *statuses))
