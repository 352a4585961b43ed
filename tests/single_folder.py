"""Folders of images for tests of ``data=single``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gantrain.data.sets.single import SingleFolder
from gantrain.registry import DATASETS

SIDE = "a whole number at least 1 and at most 65,536"
SIZE = rf"expected {SIDE} or a list of 2 \({SIDE} each\)"
FORMATS = ["png", "jpg", "jpeg", "bmp", "webp", "tif", "tiff", "PNG", "JPG", "Jpeg", "TIFF"]


def paint(path: Path, colour: Any = (10, 120, 240), size: tuple[int, int] = (24, 16), mode: str = "RGB") -> Path:
    """An image of one colour, of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


def save(path: Path, pixels: Tensor, **options: Any) -> None:
    """An image of these pixels, (H, W) or (H, W, C)."""
    Image.fromarray(pixels.numpy()).save(path, **options)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    """Random pixels (H, W, 3)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (height, width, 3), dtype=torch.uint8, generator=generator)


def folder(root: Path, *, phase: str = "train", **keys: Any) -> SingleFolder:
    defaults = {
        "channels": 3,
        "load_size": 16,
        "crop_size": 16,
        "crop": "center",
        "flip": False,
        "preprocess": None,
        "range": None,
        "depth": "auto",
        "decoder": "exact",
        "list": None,
    }
    return DATASETS.build({"mode": "single", "root": str(root), **defaults, **keys}, phase=phase)


def image(dataset: SingleFolder, index: int = 0, seed: int = 0) -> Tensor:
    return dataset.item(index, seed)["image"]


def colour(pixels: Tensor) -> list[int]:
    """The colour in the center of (C, H, W)."""
    return pixels[:, pixels.size(1) // 2, pixels.size(2) // 2].tolist()
