"""The page that compares several runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dominate import tags

from gantrain.report.log import CLOCK, Line
from gantrain.report.pages import page
from gantrain.sweeps.summary import Run

MAX_POINTS = 300  # Points of a curve.
DIGITS = 5  # Significant digits of a point.


def comparison_page(folder: Path, record: Mapping[str, Any], runs: Sequence[Run], *, home: Path) -> Path:
    """Write ``index.html``; returns its path.

    Args:
        folder: Its folder, with the ``runs.csv`` and ``runs.json`` that it links to.
        record: The content of ``runs.json``: ``name``, ``command``, the settings that ``differ``, those that ``follow``
            from them, and the ``runs``.
        runs: The same runs, in the same order. Their ``objective.metric``, if any, ranks them.
        home: The folder of all runs; the page links to its page, if that exists.
    """
    objective = next((run.settings["objective.metric"] for run in runs if run.settings.get("objective.metric")), None)
    metrics = list(dict.fromkeys(name for row in record["runs"] for name in row["metrics"]))
    metrics.sort(key=lambda name: name != objective)
    back = {"all runs": page.address(home / page.PAGE, folder)} if (home / page.PAGE).exists() else None
    document, body = page.new_document(record["name"], scripts=("curves", "parallel", "comparison"), back=back)
    files = tags.p(
        "Also as ", tags.a("CSV", href="runs.csv"), " and ", tags.a("JSON", href="runs.json"), ".", cls="hint"
    )
    runs_table = tags.div(tags.table(id="runs"), cls="scroll")
    body.add(page.section("Runs", tags.div(id="columns", cls="controls"), runs_table, files))
    if len(record["differ"]) > 2:
        body.add(page.section("Settings and metrics", tags.div(id="parallel")))
    body.add(page.section("Samples", id="samples", hidden=True), page.section("Curves", id="curves"))
    if record["command"]:
        body.add(page.command_section(record["command"]))
    settings = [*record["differ"], *record["follow"]]
    rows = [
        {
            **{key: row[key] for key in ("status", "message", "step", "seconds", "metrics")},
            "name": row["run"],
            "folder": page.address(folder / row["folder"], folder),
            "has_page": (folder / row["folder"] / page.PAGE).exists(),
            "settings": [row["settings"][key] for key in settings],
            "curves": {name: _thin_out([*run.measured, *run.lines], name) for name in metrics},
            "images": run.images,
            "tested": run.tested,
        }
        for row, run in zip(record["runs"], runs, strict=True)
    ]
    keys = {"differ": record["differ"], "follow": record["follow"], "metrics": metrics, "objective": objective}
    page.write_data(folder, "comparison", {"runs": rows, **keys, "written": round(time.time(), 1)})
    page.write_document(folder / page.PAGE, document)
    return folder / page.PAGE


def _thin_out(lines: Sequence[Line], name: str) -> dict[str, list[float]]:
    """About ``MAX_POINTS`` points of a curve or fewer, always with the last one: ``CLOCK``, and the ``value``."""
    points = [line for line in lines if name in line]
    chosen = points[:: -(-len(points) // MAX_POINTS) or 1]
    chosen += [points[-1]] if points and chosen[-1] is not points[-1] else []
    clock = {key: [point.get(key, 0) for point in chosen] for key in CLOCK}
    return {**clock, "value": [float(f"{point[name]:.{DIGITS}g}") for point in chosen]}
