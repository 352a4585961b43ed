"""The page of all runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dominate.tags import div, section

from gantrain.report.page import PAGE, document_with, read_status, remove_leftovers, write_data, write_document

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
    document, body = document_with("Runs", scripts=("home",))
    body.add(section(div(id="controls", cls="controls"), aria_label="filter"), div(id="runs"))
    # others may be writing it at this moment
    remove_leftovers(folder, age=LEFT)
    write_data(folder, "runs", runs)
    write_document(folder / PAGE, document)


def _card(run: Path) -> dict[str, Any]:
    """What a run says of itself, and where it is."""
    status = read_status(run)
    if not isinstance(status.get("opened"), (int, float)):  # made by another version
        status = {"state": "unknown", "opened": (run / "config.yaml").stat().st_mtime}
    name = run.name.encode(errors="replace").decode()
    return {**status, "name": name, "folder": quote(os.fsencode(run.name))}
