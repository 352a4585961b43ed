"""Images from tensors."""

from __future__ import annotations

import json
import re
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from gantrain.data.base import to_uint8

GAP = 2  # pixels between the images of a grid
NOTE = "gantrain"  # the key of what is written into an image beside its pixels


def layout(count: int, images: Tensor, columns: int) -> dict[str, int]:
    """Where each of ``count`` images of the size of (N, C, H, W) lies in a ``grid``: numbers, and sides in pixels."""
    rows = -(-count // columns)
    return {"columns": columns, "rows": rows, "width": images.size(-1), "height": images.size(-2), "gap": GAP}


def arranged(visuals: dict[str, Tensor], columns: int | None) -> dict[str, tuple[Image.Image, dict[str, Any]]]:
    """Images of what a model shows, (N, C, H, W) by name, and where each image lies in them; see ``layout``.

    Args:
        visuals: In [-1, 1].
        columns: Of a grid for each of them; None for one image of all, a column for each, whose ``kinds`` are told.
    """
    if not visuals:
        return {}
    if columns is not None:
        return {what: (grid(images, columns), layout(len(images), images, columns)) for what, images in visuals.items()}
    kinds, first = list(visuals), next(iter(visuals.values()))
    places = {"kinds": kinds, **layout(len(first) * len(kinds), first, len(kinds))}
    return {"-".join(kinds): (side_by_side(list(visuals.values())), places)}


def keep_arranged(path: Path, image: Image.Image, places: dict[str, Any]) -> None:
    """Write an image of ``arranged``, with what ``places_in`` finds in it."""
    notes = PngInfo()
    notes.add_text(NOTE, json.dumps(places))
    image.save(path, pnginfo=notes)


def places_in(path: Path) -> dict[str, Any]:
    """Where each image lies in an image; nothing of one that an older version has made, or that is none."""
    try:
        with Image.open(path) as image:
            return dict(json.loads(image.info.get(NOTE, "{}")))
    except (OSError, ValueError):
        return {}


def images_of(folder: Path) -> list[tuple[Path, int]]:
    """The images in ``images`` of a run folder, each with the step that it was made at, which rises."""
    found = ((path, re.fullmatch(r"step_([0-9]+)_.*", path.stem)) for path in (folder / "images").glob("step_*.png"))
    return sorted(((path, int(name[1])) for path, name in found if name), key=itemgetter(1))


def shown_as(path: Path, step: int, places: dict[str, Any]) -> dict[str, Any]:
    """What pages are told of an image of a run: ``step``, ``what``, ``url`` from its folder, and where images lie."""
    return {"step": step, "what": path.stem.split("_", 2)[2], "url": f"images/{quote(path.name)}", **places}


def images_shown(folder: Path) -> list[dict[str, Any]]:
    """What pages are told of all images of a run folder."""
    return [shown_as(path, step, places_in(path)) for path, step in images_of(folder)]


def to_image(image: Tensor) -> Image.Image:
    """(C, H, W) in [-1, 1], C being 1 or 3, to a gray or colour image."""
    pixels = to_uint8(image.detach()).cpu()
    return Image.fromarray(pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy())


def viewable(images: Tensor) -> Tensor:
    """(N, 1 or 3, H, W) of (N, C, H, W): as they are, or else their first channel, or three."""
    return images if images.size(1) in (1, 3) else images[:, : 3 if images.size(1) > 3 else 1]


def side_by_side(columns: list[Tensor]) -> Image.Image:
    """Equally many images (N, C, H, W) per column, in [-1, 1], as one image: a row for each n."""
    shown = [viewable(images).float().cpu() for images in columns]
    if len({images.size(1) for images in shown}) > 1:
        shown = [images.expand(-1, 3, -1, -1) for images in shown]
    return grid(torch.stack(shown, dim=1).flatten(0, 1), len(columns))


def grid(images: Tensor, columns: int) -> Image.Image:
    """(N, C, H, W) in [-1, 1] as one image, row by row, on black."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    canvas = torch.full((channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), -1.0)
    for number, image in enumerate(images.detach().float().cpu()):
        row, column = divmod(number, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        canvas[:, top : top + height, left : left + width] = image
    return to_image(canvas)
