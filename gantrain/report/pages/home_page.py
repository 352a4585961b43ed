"""The page of all runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dominate.tags import a, details, div, li, section, summary, ul

from gantrain.report.pages.page import (
    PAGE,
    address,
    document_with,
    read_status,
    remove_leftovers,
    write_data,
    write_document,
)

LEFT = 60.0  # seconds after which a file that is half-written will stay so


def write_home(folder: Path) -> None:
    """Write the page of all runs below a folder: as many small files are read as there are runs.

    What a run says of itself while it goes on, the page reads from the run's own folder.

    Args:
        folder: Each folder in it with a ``config.yaml`` is a run.

    Raises:
        OSError: It can't be written.
    """
    runs = [_card(path.parent) for path in folder.glob("*/config.yaml")]
    runs.sort(key=lambda run: run["opened"], reverse=True)
    sweeps = sorted(folder.glob(f"sweeps/*/{PAGE}"), key=lambda page: page.stat().st_mtime, reverse=True)
    document, body = document_with("Runs", scripts=("home",))
    body.add(section(div(id="controls", cls="controls"), aria_label="filter"))
    if sweeps:
        links = (li(a(_name(page.parent), href=address(page, folder))) for page in sweeps)
        told = "1 sweep" if len(sweeps) == 1 else f"{len(sweeps)} sweeps"
        body.add(section(details(summary(told), ul(*links)), aria_label="sweeps"))
    body.add(div(id="runs"))
    # others may be writing it at this moment
    remove_leftovers(folder, age=LEFT)
    write_data(folder, "runs", runs)
    write_document(folder / PAGE, document)


def _card(run: Path) -> dict[str, Any]:
    """What a run says of itself, and where it is."""
    status = read_status(run)
    if not isinstance(status.get("opened"), (int, float)):  # made by another version
        status = {"state": "unknown", "opened": (run / "config.yaml").stat().st_mtime}
    return {**status, "name": _name(run), "folder": quote(os.fsencode(run.name))}


def _name(folder: Path) -> str:
    return folder.name.encode(errors="replace").decode()
