"""Shards of digits in the layout of WebDataset, and functions that read them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gantrain.data.sets.digits import Digits
from gantrain.data.sets.shards import Shards
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS

PLAIN = {"preprocess": None, "range": None, "depth": "auto", "decoder": "exact"}
Members = Iterable[tuple[str, bytes]]


def shards(root: Path | str, *, phase: str = "train", **keys: Any) -> Shards:
    defaults = {"channels": 1, "load_size": 28, "crop_size": 24, "crop": "random", "flip": True, **PLAIN}
    return DATASETS.build({"mode": "shards", "root": str(root), **defaults, **keys}, phase=phase)


def single(root: Path | str, **keys: Any) -> Any:
    defaults = {"channels": 1, "load_size": 28, "crop_size": 24, "crop": "random", "flip": True, **PLAIN}
    return DATASETS.build({"mode": "single", "root": str(root), "list": None, **defaults, **keys}, phase="train")


@cache
def digits(phase: str = "train") -> Digits:
    return Digits(load_size=28, phase=phase)


@cache
def png(number: int, phase: str = "train") -> bytes:
    """A digit as a PNG file."""
    file = io.BytesIO()
    image = digits(phase).item(number, 0)["image"]
    Image.fromarray(image[0].numpy()).save(file, "PNG")
    return file.getvalue()


def pack(path: Path, members: Members, *, format: int = tarfile.PAX_FORMAT) -> Path:
    """A tar of these names and contents, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(numbers: Iterable[int], phase: str = "train") -> Iterator[tuple[str, bytes]]:
    """Digits with their labels, in the layout of WebDataset."""
    for number in numbers:
        yield f"{number:05}.cls", b"%d" % digits(phase).labels[number]
        yield f"{number:05}.png", png(number, phase)


def made(folder: Path, count: int = 12, *, each: int = 4, phase: str = "train") -> Path:
    """Digits with labels in shards of ``each``."""
    for number, first in enumerate(range(0, count, each)):
        pack(folder / f"part-{number:03}.tar", samples(range(first, min(first + each, count)), phase))
    return folder


def names(dataset: Shards) -> list[str]:
    return [dataset.item(index, 0)["name"] for index in range(len(dataset))]


def names_in(shard: Path) -> list[str]:
    """The names of images, without reading them."""
    source = shards(shard, depth="uint8").readers["image"].source
    return [source.name(index) for index in range(len(source))]


def refusal(root: Path | str, **keys: Any) -> str:
    with pytest.raises(ConfigError) as error:
        shards(root, **keys)
    assert "\n" not in str(error.value)
    return str(error.value)
