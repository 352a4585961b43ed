"""The page of all runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dominate import tags

from gantrain.config.naming import RUNS
from gantrain.report.pages import page

LEFTOVER_AGE = 60.0  # Seconds after which an incomplete file is not being written any more.


def write_home(folder: Path) -> None:
    """Write the page of all runs in ``folder``, alone or in a sweep, from one small file of each.

    A run is a folder with a ``config.yaml``.

    The page reads the status of runs that are training from their run folders.
    """
    runs = [_card(path.parent, folder) for place in RUNS for path in folder.glob(f"{place}/config.yaml")]
    runs.sort(key=lambda run: run["opened"], reverse=True)
    sweeps = sorted(folder.glob(f"sweeps/*/{page.PAGE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    document, body = page.new_document("Runs", scripts=("home",))
    body.add(tags.section(tags.div(id="controls", cls="controls"), aria_label="filter"))
    if sweeps:
        links = (tags.li(tags.a(page.as_text(path.parent.name), href=page.address(path, folder))) for path in sweeps)
        count = tags.summary("1 sweep" if len(sweeps) == 1 else f"{len(sweeps)} sweeps")
        body.add(tags.section(tags.details(count, tags.ul(*links)), aria_label="sweeps"))
    body.add(tags.div(id="runs"))
    page.remove_leftovers(folder, age=LEFTOVER_AGE)  # Other runs may be writing the page at the same time.
    page.write_data(folder, "runs", runs)
    page.write_document(folder / page.PAGE, document)


def _card(run: Path, home: Path) -> dict[str, Any]:
    status = page.read_status(run)
    if not isinstance(status.get("opened"), (int, float)):  # Written by an incompatible version.
        status = {"state": "unknown", "opened": (run / "config.yaml").stat().st_mtime}
    return {**status, "name": page.as_text(run.name), "folder": page.address(run, home)}
