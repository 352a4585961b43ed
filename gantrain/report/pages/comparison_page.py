"""The page that compares several runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dominate import tags

from gantrain.report.log import Line
from gantrain.report.pages import page

MAX_POINTS = 300  # Of a curve.
DIGITS = 5  # Significant ones of a point.
CLOCK = ("step", "epoch", "kimg")


def comparison_page(
    folder: Path,
    record: Mapping[str, Any],
    *,
    objective: str | None,
    lines: Mapping[str, Sequence[Line]],
    images: Mapping[str, Sequence[Mapping[str, Any]]],
    tested: Mapping[str, Mapping[str, Mapping[str, str]]],
    home: Path,
) -> Path:
    """Write ``index.html``; returns its path.

    Args:
        folder: Its folder, with the ``runs.csv`` and ``runs.json`` that it links to.
        record: What is compared, as in ``runs.json``: ``name``, ``command``, the settings that ``differ``, those that
            ``follow`` from them, and the ``runs``.
        objective: The metric that ranks the runs, if there is one.
        lines: The log of each run.
        images: The ``images.image_entries`` of each run.
        tested: Test images of each run: addresses from its folder, by name and kind.
        home: Folder of all runs; the page links to its page, if that exists.
    """
    metrics = list(dict.fromkeys(name for run in record["runs"] for name in run["metrics"]))
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
    runs = [
        {
            **{key: run[key] for key in ("status", "message", "step", "seconds", "metrics")},
            "name": run["run"],
            "folder": page.address(folder / run["folder"], folder),
            "has_page": (folder / run["folder"] / page.PAGE).exists(),
            "settings": [run["settings"][key] for key in settings],
            "curves": {name: _thin_out(lines[run["run"]], name) for name in metrics},
            "images": list(images[run["run"]]),
            "tested": dict(tested[run["run"]]),
        }
        for run in record["runs"]
    ]
    keys = {"differ": record["differ"], "follow": record["follow"], "metrics": metrics, "objective": objective}
    page.write_data(folder, "comparison", {"runs": runs, **keys, "written": round(time.time(), 1)})
    page.write_document(folder / page.PAGE, document)
    return folder / page.PAGE


def _thin_out(lines: Sequence[Line], name: str) -> dict[str, list[float]]:
    """At most about ``MAX_POINTS`` points of a curve, the last among them: ``CLOCK``, and the ``value``."""
    points = [line for line in lines if name in line]
    chosen = points[:: -(-len(points) // MAX_POINTS) or 1]
    chosen += [points[-1]] if points and chosen[-1] is not points[-1] else []
    clock = {key: [point.get(key, 0) for point in chosen] for key in CLOCK}
    return {**clock, "value": [float(f"{point[name]:.{DIGITS}g}") for point in chosen]}
