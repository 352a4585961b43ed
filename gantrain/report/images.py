"""Grids of images: tensors to image files with their layout, and the image files of a run folder."""

from __future__ import annotations

import json
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn import functional as F

from gantrain.config.schema import NonNegativeInt
from gantrain.config.side_files import open_regular, parse_json, report_damage
from gantrain.data.base import to_uint8
from gantrain.report.pages.page import address
from gantrain.runtime.atomic import write_file

GAP = 2  # Pixels between the images of a grid.
LAYOUT_KEY = "gantrain"  # The text chunk of a PNG file that contains the layout as JSON.
LAYOUT = {**dict.fromkeys(("columns", "rows", "width", "height", "gap"), NonNegativeInt), "kinds": list[str]}


def layout(images: Tensor, columns: int) -> dict[str, int]:
    """Columns and rows of a ``grid`` of images (N, C, H, W), and sizes in pixels."""
    rows = -(-len(images) // columns)
    return {"columns": columns, "rows": rows, "width": images.size(-1), "height": images.size(-2), "gap": GAP}


def compose_grids(visuals: dict[str, Tensor], columns: int | None) -> dict[str, tuple[Image.Image, dict[str, Any]]]:
    """A model's visuals as grids by name, each with its ``layout``.

    Args:
        visuals: (N, C, H, W) in [-1, 1], by kind.
        columns: The number of columns of the grid of each kind; None for one grid with a column for each kind, whose
            layout lists the ``kinds``.
    """
    kinds: dict[str, Any] = {}
    if columns is None:
        kinds, columns = {"kinds": list(visuals)}, len(visuals)
        visuals = {"-".join(visuals): side_by_side(list(visuals.values()))} if visuals else {}
    return {name: (grid(images, columns), kinds | layout(images, columns)) for name, images in visuals.items()}


def save_with_layout(path: Path, image: Image.Image, layout: dict[str, Any]) -> None:
    """Write a PNG file with a layout for ``read_layout``."""
    text = PngInfo()
    text.add_text(LAYOUT_KEY, json.dumps(layout))
    file = BytesIO()
    image.save(file, "PNG", pnginfo=text)
    write_file(path, file.getvalue())


def read_layout(path: Path) -> dict[str, Any]:
    """The layout of a grid; empty for a file of an older version, and for a damaged one."""
    try:
        with open_regular(path) as file, Image.open(file) as image:
            return parse_json(image.info.get(LAYOUT_KEY, "{}"), LAYOUT)
    except Exception as error:  # Pillow raises anything for arbitrary bytes.
        report_damage(path, error, remedy="its layout is unknown")
        return {}


def sample_images(run: Path) -> list[tuple[Path, int]]:
    """The image files of a run folder with their steps, sorted by step."""
    steps = {path: path.stem.split("_")[1] for path in (run / "images").glob("step_*_*.png")}
    return sorted(((path, int(step)) for path, step in steps.items() if step.isdecimal()), key=itemgetter(1))


def image_entry(path: Path, step: int, layout: dict[str, Any]) -> dict[str, Any]:
    """An image of a run for pages: its ``step``, what it shows, its URL relative to the run folder, and its layout."""
    return {"step": step, "what": path.stem.split("_", 2)[2], "url": address(path, path.parents[1]), **layout}


def image_entries(run: Path) -> list[dict[str, Any]]:
    """The ``image_entry`` of each image of a run folder."""
    return [image_entry(path, step, read_layout(path)) for path, step in sample_images(run)]


def to_image(image: Tensor) -> Image.Image:
    """A gray or colour image of the ``viewable`` channels of (C, H, W) in [-1, 1]."""
    pixels = to_uint8(viewable(image.detach()[None])[0]).cpu()
    return Image.fromarray(pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy())


def viewable(images: Tensor) -> Tensor:
    """(N, C, H, W) as (N, 1 or 3, H, W): the first channel, or the first three of more than two."""
    return images[:, : 3 if images.size(1) >= 3 else 1]


def side_by_side(columns: list[Tensor]) -> Tensor:
    """Columns of equally many images (N, C, H, W) as (N * columns, 1 or 3, H, W), row by row.

    Smaller images than the others get a black margin at the right and at the bottom.
    """
    shown = [viewable(images).float().cpu() for images in columns]
    height, width = (max(images.size(axis) for images in shown) for axis in (-2, -1))
    shown = [F.pad(images, (0, width - images.size(-1), 0, height - images.size(-2)), value=-1.0) for images in shown]
    if len({images.size(1) for images in shown}) > 1:
        shown = [images.expand(-1, 3, -1, -1) for images in shown]
    return torch.stack(shown, dim=1).flatten(0, 1)


def grid(images: Tensor, columns: int) -> Image.Image:
    """(N, C, H, W) in [-1, 1] as one image of the ``viewable`` channels, row by row, on black."""
    images = viewable(images)
    missing = -len(images) % columns
    cells = F.pad(images.detach().float().cpu(), (GAP, 0, GAP, 0, 0, 0, 0, missing), value=-1.0)
    rows = cells.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    return to_image(F.pad(rows, (0, GAP, 0, GAP), value=-1.0))
