"""The page of results: rows of images, of which a browser shows a few at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dominate.tags import a, button, code, div, figcaption, figure, h2, img, nav, p, pre, section

from gantrain.report.pages.page import DATA, PAGE, address, document_with, facts_list, write_data, write_document

# per-image figures: whether less or more is better
BETTER = {"L1": "less", "PSNR": "more", "SSIM": "more"}


@dataclass
class Row:
    """What was made of one image, or from one noise vector.

    Attributes:
        name: For people, who can filter by it.
        images: By kind (input, output, ...), as browsers show them.
        size: Width and height in pixels.
        figures: By name, for sorting; those of ``BETTER``.
        label: Its class, if there are classes.
    """

    name: str
    images: dict[str, Path]
    size: tuple[int, int]
    figures: dict[str, float] = field(default_factory=dict)
    label: str | None = None


@dataclass(frozen=True)
class Interpolation:
    """A grid of images, as ``images.grid`` lays it out, of which each row is a way from one image to another.

    Attributes:
        path: The image.
        columns: Images in a row.
        rows: How many.
        width: Of an image, in pixels.
        height: The same.
        gap: Between images.
    """

    path: Path
    columns: int
    rows: int
    width: int
    height: int
    gap: int


def results_page(
    folder: Path,
    *,
    name: str,
    command: str,
    facts: Mapping[str, str],
    tables: Mapping[str, Sequence[Row]],
    walk: Interpolation | None = None,
    images: Mapping[str, Path] | None = None,
    run: str | None = None,
) -> None:
    """Write ``index.html`` of a results folder.

    Args:
        folder: The results folder, which the images are in.
        name: Of the page.
        command: What made it, as typed.
        facts: For the top.
        tables: Rows by heading.
        walk: From some images to others.
        images: More of them, by caption.
        run: Address of the run's own page, seen from this one.
    """
    document, body = document_with(name, scripts=("results",))
    if run is not None:
        body[0].add(nav(a("← training", href=run)))
    body.add(section(facts_list(facts), aria_label="facts"))
    body[-1][0]["class"] = "facts long"
    for number, heading in enumerate(tables):
        title, _, told = heading.partition(": ")
        body.add(section(h2(title), p(told, cls="hint") if told else "", div(data_table=str(number)), cls="results"))
    if walk is not None:
        body.add(section(h2("Interpolations"), div(id="walk")))
    if images:
        shown = (_figure(folder, path, caption) for caption, path in images.items())
        body.add(section(h2("Grids"), div(*shown, cls="grids")))
    body.add(section(h2("Command"), pre(code(command))))
    data = {
        "written": round(time.time(), 1),
        "tables": [_table(folder, rows) for rows in tables.values()],
        "walk": walk and {**vars(walk), "path": None, "url": address(walk.path, folder)},
    }
    write_data(folder, "results", data)
    write_document(folder / PAGE, document)


def list_results(run: Path) -> None:
    """Tell the page of a run, if it has one of this kind, what results there are in its folder.

    Raises:
        OSError: It can't be written.
    """
    if not (run / DATA).is_dir():
        return
    found = sorted(path for path in run.glob(f"results/*/{PAGE}"))
    names = [path.parent.name.encode(errors="replace").decode() for path in found]
    write_data(run, "results", [{"name": n, "url": address(p, run)} for n, p in zip(names, found, strict=True)])


def _table(folder: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """Kinds and figures by column, and of each row its name, addresses, size, values and class."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row.images))
    figures = list(dict.fromkeys(figure for row in rows for figure in row.figures))
    return {
        "kinds": kinds,
        "figures": [[figure, BETTER[figure]] for figure in figures],
        "rows": [
            [
                row.name.encode(errors="replace").decode(),
                [address(row.images[kind], folder) if kind in row.images else None for kind in kinds],
                row.size,
                [float(f"{row.figures[figure]:.6g}") if figure in row.figures else None for figure in figures],
                row.label,
            ]
            for row in rows
        ],
    }


def _figure(folder: Path, path: Path, caption: str) -> figure:
    image = img(src=address(path, folder), alt=caption, loading="lazy")
    return figure(
        button(image, type="button", cls="plain picture", aria_label=f"enlarge {caption}"), figcaption(caption)
    )
