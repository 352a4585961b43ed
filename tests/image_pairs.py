"""Pairs of images for tests of ``data=aligned``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gantrain.data.sets.aligned import Aligned
from gantrain.registry import DATASETS

Pixels = np.ndarray


def noise(height: int = 16, width: int = 16, channels: int = 3, seed: int = 0, dtype: Any = np.uint8) -> Pixels:
    generator = np.random.default_rng(seed)
    return generator.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)


def save(path: Path, pixels: Pixels) -> Path:
    """Write an image, or an array if that is its suffix, and missing parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, pixels) if path.suffix == ".npy" else Image.fromarray(pixels.squeeze()).save(path)
    return path


def save_pair(path: Path, seed: int = 0, height: int = 16, width: int = 16) -> None:
    """Noise on the left, its negative on the right."""
    left = noise(height, width, seed=seed)
    save(path, np.concatenate([left, 255 - left], axis=1))


def pairs(root: Path, *, phase: str = "train", **keys: Any) -> Aligned:
    defaults = {
        "direction": "a_to_b",
        "channels": 3,
        "channels_b": 3,
        "range": None,
        "range_b": None,
        "depth": "auto",
        "decoder": "exact",
        "preprocess": "resize_and_crop",
        "load_size": 16,
        "crop_size": 12,
        "flip": True,
    }
    return DATASETS.build({"mode": "aligned", "root": str(root), **defaults, **keys}, phase=phase)


def names(dataset: Aligned) -> list[str]:
    return [dataset.item(index, 0)["name"] for index in range(len(dataset))]
