"""The page of all runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dominate import tags

from gantrain.config.naming import RUNS
from gantrain.report.pages import page
from gantrain.report.pages.reproductions_page import REPRODUCTIONS

LEFTOVER_AGE = 60.0  # Seconds after which an incomplete file is not being written any more.


def run_folders(folder: Path) -> list[Path]:
    """The run folders in the folder of all runs, those of sweeps included."""
    return [path.parent for place in RUNS for path in folder.glob(f"{place}/config.yaml")]


def write_home(folder: Path) -> None:
    """Write the page of all runs, the ``run_folders`` of a folder, from one small file of each.

    Runs that are training copy their status to its data.
    """
    sweep_of = _sweeps_by_run(folder)
    runs = [_card(run, folder, sweep_of.get(run.name)) for run in run_folders(folder)]
    runs.sort(key=lambda run: run["opened"], reverse=True)
    sweeps = sorted(folder.glob(f"sweeps/*/{page.PAGE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    document, body = page.new_document("Runs", scripts=("home",))
    body.add(tags.section(tags.div(id="controls", cls="controls"), aria_label="filter"))
    if sweeps:
        links = (tags.li(tags.a(page.as_text(path.parent.name), href=page.address(path, folder))) for path in sweeps)
        count = tags.summary("1 sweep" if len(sweeps) == 1 else f"{len(sweeps)} sweeps")
        body.add(tags.section(tags.details(count, tags.ul(*links)), aria_label="sweeps"))
    if (folder / REPRODUCTIONS).exists():
        link = tags.a("Reproductions of papers", href=REPRODUCTIONS)
        body.add(tags.section(link, aria_label="reproductions"))
    body.add(tags.section(id="chosen", aria_label="comparison", hidden=True), tags.div(id="runs"))
    page.remove_leftovers(folder, age=LEFTOVER_AGE)  # Other runs may be writing the page at the same time.
    page.write_document(folder / page.PAGE, document)
    _remove_copies(folder, {run["live"] for run in runs if run.get("state") == "running"})
    page.write_data(folder, "runs", runs)  # After the document: its time is compared with the folder's.


def _sweeps_by_run(folder: Path) -> dict[str, Path]:
    """The folder of the newest sweep of each run, by the run's name."""
    records = sorted(folder.glob("sweeps/*/jobs/*.json"), key=lambda path: path.stat().st_mtime)
    return {path.stem: path.parents[1] for path in records}


def _remove_copies(folder: Path, names: set[str]) -> None:
    """Remove copies of the status of runs that have ended, all but those of these ``names``."""
    data = page.make_folder(folder, page.DATA)
    for path in {*data.glob(f"{page.LIVE}*.js")} - {data / f"{name}.js" for name in names}:
        path.unlink(missing_ok=True)


def _card(run: Path, home: Path, sweep: Path | None) -> dict[str, Any]:
    status = page.read_status(run)
    if "opened" not in status:  # It is damaged, or was written by an incompatible version.
        status = {"state": "unknown", "opened": (run / "config.yaml").stat().st_mtime}
    status = {key: value for key, value in status.items() if key in page.STATUS}  # Other keys are those below.
    own = {"name": page.as_text(run.name), "folder": page.address(run, home), "path": page.as_text(str(run))}
    own["live"] = page.live_name(run, home)
    if sweep is not None:
        own["sweep"] = page.as_text(sweep.name)
        if (sweep / page.PAGE).exists():
            own["comparison"] = page.address(sweep / page.PAGE, home)
    return {**status, **own}
