"""New folders of images from existing ones: joined and separated pairs, edges of photographs, other sizes.

Images are written without loss, in their own depth and colours: as PNG, or as ``.npy`` if no image format can store
the values exactly. Transparent images are composed with a white background. Sub-folders are preserved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from gantrain.config.schema import NonNegativeFloat, Range
from gantrain.data.images.convert import LARGEST, ImageFormat, read_image, write_pixels
from gantrain.data.images.decoding import decode, depth_of
from gantrain.data.images.store import Pixels
from gantrain.data.images.transforms import Size, as_pair, resize
from gantrain.data.sets.layout import PHASES, SubFolders, images_in, pairs_of
from gantrain.data.tools.folder_writer import FileTask, by_stem, write_folder
from gantrain.errors import ConfigError


def join_pairs(a: Path, b: Path, out: Path) -> None:
    """Write ``out/NAME.png`` with ``a/NAME.*`` on the left half and ``b/NAME.*`` on the right half.

    A pair of gray and colour becomes colour, a pair of 8 and 16 bits becomes 16 bits.
    """
    pairs = pairs_of(images_in(a, key=""), images_in(b, key=""), key="")
    tasks = {stem: FileTask(pair, partial(_write_pair, *pair)) for stem, pair in pairs.items()}
    write_folder(out, tasks, inputs=(a, b), options={"kind": "pairs"})


def split_pairs(folder: Path, out: Path) -> None:
    """The inverse of ``join_pairs``: write the halves of ``folder/train`` to ``out/trainA`` and ``out/trainB`` etc.

    Halves of images outside the folder of a phase are written to ``out/A`` and ``out/B``.
    """
    tasks: dict[str, FileTask] = {}
    images, folders = by_stem(folder), SubFolders(folder)
    phases = {found.path.name: phase for phase in PHASES if (found := folders.find(phase))}
    for stem, path in images.items():
        first, _, rest = stem.partition("/")
        phase, name = (phases[first], rest) if rest and first in phases else ("", stem)
        tasks |= {f"{phase}{side}/{name}": FileTask((path,), partial(_write_half, path, side)) for side in "AB"}
    write_folder(out, tasks, inputs=(folder,), options={"kind": "split_pairs"})


def extract_edges(
    folder: Path,
    out: Path,
    *,
    sigma: Annotated[float, Range(above=0, at_most=100)] = 2.0,
    low: NonNegativeFloat = 0.1,
    high: NonNegativeFloat = 0.2,
    invert: bool = False,
) -> None:
    """The edges of each image by Canny's method (Canny, 1986), black on white in 8 bits.

    Args:
        folder: The images.
        out: The new folder.
        sigma: Standard deviation of the Gaussian blur, in pixels, at most 100.
        low: The minimum gradient magnitude of an edge: the length of the vector of Sobel's two sums on values in
            [0, 1], which is 4 at a sharp vertical or horizontal step from black to white.
        high: The gradient magnitude that at least one pixel of each edge must reach.
        invert: White on black.
    """
    if low > high:
        raise ConfigError(f"low ({low:g}) must not exceed high ({high:g})")
    try:
        from skimage.feature import canny
    except ImportError:
        raise ConfigError("prepare edges needs scikit-image: pip install 'gantrain[prepare]'") from None
    options = {"kind": "edges", "sigma": sigma, "low": low, "high": high, "invert": invert}

    def write(source: Path, path: Path) -> Path:
        # With mode="constant", the border of a bright image would be an edge.
        edges = canny(_gray(_finite(source)), sigma=sigma, low_threshold=low, high_threshold=high, mode="nearest")
        return write_pixels(path, np.where(edges == invert, 255, 0).astype(np.uint8)[..., None])

    _write_each(folder, out, write, options)


def resize_all(folder: Path, out: Path, *, size: Size = 256) -> None:
    """Crop the center of each image to the aspect ratio of ``size`` and scale it, bicubic and antialiased."""
    height, width = as_pair(size)

    def write(source: Path, path: Path) -> Path:
        return write_pixels(path, _scaled(_center_crop(_finite(source), height, width), height, width))

    _write_each(folder, out, write, {"kind": "resize", "size": [height, width]})


def _write_each(folder: Path, out: Path, write: Callable[[Path, Path], Path], options: Mapping[str, object]) -> None:
    tasks = {stem: FileTask((path,), partial(write, path)) for stem, path in by_stem(folder).items()}
    write_folder(out, tasks, inputs=(folder,), options=options)


def load(path: Path) -> Pixels:
    """An upright image (H, W, C) in its own depth, in gray or colour; arrays of other channels are unchanged."""
    pixels = decode(path, 0).pixels
    if path.suffix.lower() == ".npy" or pixels.shape[2] in (1, 3):
        return pixels if pixels.shape[0] not in (1, 3) else decode(path, pixels.shape[0]).pixels
    if depth_of(pixels.dtype) not in LARGEST or pixels.shape[2] > 4:
        return pixels
    channels = 1 if pixels.shape[2] == 2 else 3
    return read_image(path, ImageFormat(channels, depth_of(pixels.dtype)))


def _finite(path: Path) -> Pixels:
    """``load`` for images that are filtered: a single NaN would spread to other pixels."""
    pixels = load(path)
    if not np.isfinite(pixels).all():
        raise ConfigError(f"can't read the image {path}: some values are NaN or infinite")
    return pixels


def _write_pair(a: Path, b: Path, path: Path) -> Path:
    halves = load(a), load(b)
    if halves[0].shape[:2] != halves[1].shape[:2]:
        sizes = " and ".join(str(list(half.shape[:2])) for half in halves)
        raise ConfigError(f"{a} and {b} have different sizes, {sizes} pixels: run gantrain data prepare resize first")
    dtype = np.result_type(*halves)
    channels = max(half.shape[2] for half in halves)
    if any(half.shape[2] not in (1, channels) for half in halves):
        numbers = " and ".join(str(half.shape[2]) for half in halves)
        raise ConfigError(f"{a} and {b} have {numbers} channels, which can't be joined in one image")
    return write_pixels(path, np.hstack([_as(half, dtype, channels) for half in halves]))


def _as(pixels: Pixels, dtype: np.dtype[Any], channels: int) -> Pixels:
    if pixels.shape[2] == 1 < channels:
        pixels = np.repeat(pixels, channels, axis=2)
    if pixels.dtype == np.uint8 and dtype == np.uint16:
        return pixels.astype(np.uint16) * 257
    return pixels


def _write_half(source: Path, side: str, path: Path) -> Path:
    pixels = load(source)
    half, rest = divmod(pixels.shape[1], 2)
    if rest:
        raise ConfigError(f"{source} is {pixels.shape[1]} pixels wide, which can't be halved into A and B")
    return write_pixels(path, pixels[:, :half] if side == "A" else pixels[:, half:])


def _gray(pixels: Pixels) -> Pixels:
    """(H, W) in [0, 1]; floating-point values are scaled from their minimum and maximum."""
    values = pixels.astype(np.float64)
    values = values @ np.array([0.299, 0.587, 0.114]) if pixels.shape[2] == 3 else values[..., 0]
    if pixels.dtype.name in LARGEST:
        return values / LARGEST[pixels.dtype.name]
    return (values - values.min()) / (np.ptp(values) or 1)


def _center_crop(pixels: Pixels, height: int, width: int) -> Pixels:
    """The largest window in the center with the aspect ratio of ``height`` to ``width``, to the nearest pixel."""
    stored = pixels.shape[:2]
    scale = min(stored[0] / height, stored[1] / width)
    crop = [min(side, max(1, round(target * scale))) for side, target in zip(stored, (height, width), strict=True)]
    top, left = ((side - length) // 2 for side, length in zip(stored, crop, strict=True))
    return pixels[top : top + crop[0], left : left + crop[1]]


def _scaled(pixels: Pixels, height: int, width: int) -> Pixels:
    """``resize`` for values of any range: floating-point values stay within the range of the image."""
    if pixels.dtype.name in LARGEST:
        return resize(pixels, height, width)
    low, high = float(pixels.min()), float(pixels.max())
    spread = high - low or 1
    unit = ((pixels.astype(np.float64) - low) / spread * 2 - 1).astype(np.float32)
    return ((resize(unit, height, width).astype(np.float64) + 1) / 2 * spread + low).astype(np.float32)
