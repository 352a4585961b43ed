"""Small data sets in the formats of the data files."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from torchvision_files import made_celeba, made_cifar10, made_mnist
from yaml_files import CONFIGS, layout

from gantrain.data.tools.lmdb_convert import write_lmdb


def made_images(folder: Path) -> None:
    """Two classes of three noisy images each, all of different shapes."""
    generator = np.random.default_rng(0)
    for number in range(6):
        path = folder / ("left", "right")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (70 + number, 90 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def made_domains(folders: dict[Path, int], *, width: int, height: int = 40) -> None:
    """This many noisy images in each folder, all of different shapes."""
    generator = np.random.default_rng(0)
    for folder, count in folders.items():
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (height + number, width - 2 * number, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")


def made_lsun(root: Path, category: str) -> None:
    """LMDB files of a category: six training images and four test images."""
    for phase, count in (("train", 6), ("val", 4)):
        made_domains({root / phase: count}, width=90, height=70)
        write_lmdb(root / phase, root / f"{category}_{phase}_lmdb")


def made_shards(root: Path) -> None:
    """Two tar files of three noisy images each."""
    made_images(root / "images")
    for name in ("left", "right"):
        with tarfile.open(root / f"{name}.tar", "w") as archive:
            archive.add(root / "images" / name, name)


@pytest.fixture
def made(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[str], list[str]]:
    """``made(name)`` creates data for that data file and returns the overrides that select it."""

    def make(data: str) -> list[str]:
        root = workplace / "made"
        if data in ("digits", "digits_lmdb", "stacked_digits"):
            return ["data.max_size=20"]
        if data in ("edges2digits", "digits2stripes"):  # These data sets are created when they are first read.
            request.getfixturevalue("few_digits")
            return []
        if layout(data) == "aligned":
            made_domains({root / "train": 3, root / "test": 2}, width=96)
        elif layout(data) == "unaligned":
            made_domains({root / "trainA": 3, root / "trainB": 2, root / "testA": 2, root / "testB": 2}, width=48)
        elif data in ("mnist", "fashion_mnist"):
            made_mnist(root, {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[data])
        elif data == "cifar10":
            made_cifar10(root, monkeypatch)
        elif data == "celeba":
            made_celeba(root, monkeypatch)
        elif "category" in OmegaConf.load(CONFIGS / f"data/{data}.yaml").data:
            made_lsun(root, data.removeprefix("lsun").lstrip("_") or "bedroom")
        elif data == "shards":
            made_shards(root)
        else:
            made_images(root)
        return [f"data.root={root}"]

    return make
