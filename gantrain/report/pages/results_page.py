"""The page of results: rows of images, which the browser loads when they become visible."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dominate import tags

from gantrain.report.pages import page

BETTER = {"L1": "lower", "PSNR": "higher", "SSIM": "higher"}  # Which values of a metric of an image are better.


@dataclass
class Row:
    """The images generated from one input image, or from one noise vector."""

    name: str  # Shown, and used for filtering.
    images: dict[str, Path]  # Image files by kind (``real_a``, ``fake_b``, ...), in formats that browsers show.
    size: tuple[int, int]  # Width and height in pixels.
    metrics: dict[str, float] = field(default_factory=dict)  # Values for sorting, by name; see ``BETTER``.
    label: str | None = None  # The class, if there are classes.


class Interpolation(NamedTuple):
    """A grid whose rows are interpolations between two images: its file, and its ``images.layout``."""

    path: Path
    layout: Mapping[str, int]


def results_page(
    folder: Path,
    *,
    name: str,
    command: str,
    facts: Mapping[str, str],
    tables: Mapping[str, Sequence[Row]],
    interpolation: Interpolation | None = None,
    images: Mapping[str, Path] | None = None,
    run: str | None = None,
) -> None:
    """Write ``index.html`` of a results folder.

    Args:
        folder: The results folder, which contains the images.
        name: The heading.
        command: The command that generated the results, as typed.
        facts: Facts at the top.
        tables: Rows by heading; the text after a colon in a heading becomes a hint below it.
        interpolation: Interpolations with a slider.
        images: Further grids, by caption.
        run: The address of the page of the run.
    """
    document, body = page.new_document(name, scripts=("results",), back=None if run is None else {"training": run})
    body.add(tags.section(page.facts_list(facts), aria_label="facts"))
    for number, heading in enumerate(tables):
        title, _, hint = heading.partition(": ")
        hints = [tags.p(hint, cls="hint")] if hint else []
        body.add(page.section(title, *hints, tags.div(data_table=str(number)), cls="results"))
    if interpolation is not None:
        body.add(page.section("Interpolations", tags.div(id="interpolation")))
    if images:
        grids = body.add(page.section("Grids")).add(tags.div(cls="grids"))
        for caption, path in images.items():
            image = tags.img(src=page.address(path, folder), alt=caption, loading="lazy")
            enlarge = tags.button(image, type="button", cls="plain image", aria_label=f"enlarge {caption}")
            grids.add(tags.figure(enlarge, tags.figcaption(caption)))
    body.add(page.command_section(command))
    data = {
        "written": round(time.time(), 1),
        "tables": [_table(folder, rows) for rows in tables.values()],
        "interpolation": interpolation and {**interpolation.layout, "url": page.address(interpolation.path, folder)},
    }
    page.write_data(folder, "results", data)
    page.write_document(folder / page.PAGE, document)


def list_results(run: Path) -> None:
    """Update the links to results on the page of a run, if it is a page of this version."""
    if (run / page.DATA).is_dir():
        paths = sorted(run.glob(f"results/*/{page.PAGE}"))
        links = [{"name": page.as_text(path.parent.name), "url": page.address(path, run)} for path in paths]
        page.write_data(run, "results", links)


def _table(folder: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """Kinds and metrics by column, and the name, addresses, size, metrics and class of each row, for ``results.js``."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row.images))
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    return {
        "kinds": kinds,
        "metrics": [[metric, BETTER[metric]] for metric in metrics],
        "rows": [
            [
                page.as_text(row.name),
                [page.address(row.images[kind], folder) if kind in row.images else None for kind in kinds],
                row.size,
                [float(f"{row.metrics[metric]:.6g}") if metric in row.metrics else None for metric in metrics],
                row.label,
            ]
            for row in rows
        ],
    }
