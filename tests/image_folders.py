"""Image folders for tests of ``gantrain data prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.images.decoding import decode


def save(path: str | Path, pixels: Any) -> Path:
    """Write an image, or an array if that is its suffix, and missing parent folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(np.asarray(pixels)).save(path)
    return path


def noise(seed: int, height: int = 6, width: int = 8, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def make_images(folder: Path, count: int) -> None:
    """So many small noisy images, ``0.png`` and so on."""
    for number in range(count):
        save(folder / f"{number}.png", noise(number, 24, 30))


def prepare(*words: object) -> int:
    return main(["data", "prepare", *map(str, words)])


def files(folder: str | Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def contents(folder: str | Path) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in files(folder)}


def pixels(path: str) -> np.ndarray:
    return decode(Path(path), 0).pixels


def no_leftovers() -> bool:
    return not any(path.name.startswith(".") for path in Path().iterdir())
