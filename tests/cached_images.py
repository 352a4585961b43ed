"""Small data sets whose images are cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gantrain.data.base import ImageDataset
from gantrain.data.images.cache import Cache
from gantrain.data.images.convert import write_image
from gantrain.data.images.reader import ImageReader
from gantrain.data.sets.aligned import Aligned
from gantrain.data.sets.single import SingleFolder
from gantrain.data.sets.unaligned import Unaligned

DISK = Cache(cache="disk")


def write(path: Path, number: int, depth: str = "uint8", *, width: int = 40) -> None:
    """An image of noise; no two have the same shape."""
    noise = torch.rand(3, 20 + number, width + 2 * number, generator=torch.Generator().manual_seed(number)) * 2 - 1
    write_image(path, noise, depth=depth, value_range=(-3, 3) if depth == "float32" else None)


def dataset(kind: str, **keys: Any) -> ImageDataset:
    """Eight images or four pairs; they are created, except in another ``root``."""
    value_range = (-3.0, 3.0) if keys.get("depth") == "float32" else None
    folders = {"single": ["."], "side_by_side": ["train"]}.get(kind, ["trainA", "trainB"])
    if "root" not in keys and not Path("data").exists():
        for number in range(8):
            path = Path("data") / folders[number % len(folders)] / f"{number // len(folders)}.png"
            write(path, 0 if kind == "folders" else number, keys.get("depth", "uint8"))
    keys = {"root": "data", "channels": 3, "range": value_range, "depth": "auto", "decoder": "exact"} | keys
    keys = {"preprocess": "resize_and_crop", "flip": True, "load_size": 20, "crop_size": 16, "phase": "train"} | keys
    if kind == "single":
        return SingleFolder(**{"list": None, "crop": "random"} | keys)
    keys = {"direction": "a_to_b", "channels_b": 3, "range_b": value_range} | keys
    return Unaligned(serial=False, **keys) if kind == "unaligned" else Aligned(**keys)


def items(images: ImageDataset) -> list[dict]:
    """All items, each with two seeds."""
    return [images.item(index, seed) for index in range(len(images)) for seed in (1, 2)]


def cached(images: ImageDataset, settings: Cache = DISK) -> ImageDataset:
    """The data set, with its images in a cache."""
    images.use_cache(settings)
    return images


def only_file(folder: Path) -> Path:
    """The only file in the folder of caches."""
    (path,) = folder.iterdir()
    assert path.suffix == ".images"
    return path


def decoded_images(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of the images that are decoded from now on."""
    decoded: list[int] = []
    whole = ImageReader.decoded
    monkeypatch.setattr(ImageReader, "decoded", lambda self, i, pre: (decoded.append(i), whole(self, i, pre))[1])
    return decoded
