"""Deleting what a run has written besides its checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

from gantrain.report.log import EVALUATIONS, TABLES
from gantrain.report.pages.page import ASSETS


def remove_report(folder: Path) -> None:
    """Delete the logs, images and page of a run that starts over."""
    names = (*(f"{table}.jsonl" for table in TABLES), EVALUATIONS, "index.html", "config.yaml", "losses.csv")
    for path in (*(folder / name for name in names), *folder.glob("events.out.tfevents.*")):
        path.unlink(missing_ok=True)
    for name in ("images", "crash", ASSETS):
        shutil.rmtree(folder / name, ignore_errors=True)
