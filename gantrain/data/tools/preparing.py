"""New folders of images from old ones: pairs side by side and back, edges of photographs, other sizes.

Images are written without loss, in the depth and the colours that they have: as PNG, or as ``.npy`` where no format
of images would keep all of it. What has transparency is laid on white. Sub-folders are kept.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gantrain.data.images.convert import LARGEST, ImageFormat, read_image, write_pixels
from gantrain.data.images.decoding import decode, depth_of
from gantrain.data.images.store import Pixels
from gantrain.data.images.transforms import Size, as_pair, resize
from gantrain.data.sets.layout import PHASES, some_of, without_partner
from gantrain.data.tools.edges import canny
from gantrain.data.tools.making import Recipe, by_stem, make
from gantrain.errors import ConfigError


def pairs(a: Path, b: Path, out: Path) -> None:
    """``out/NAME.png`` with ``a/NAME.*`` on its left half and ``b/NAME.*`` on its right.

    Of a pair in gray and colour both become colour, of one in 8 and 16 bits both 16.

    Raises:
        ConfigError: Images without partner, some of which are named, or a pair of different sizes.
    """
    of_a, of_b = by_stem(a), by_stem(b)
    alone = [path for side in without_partner(of_a, of_b) for path in side]
    if alone:
        raise ConfigError(
            f"images are matched by name without suffix, and of those in {a} and {b} {len(alone)} have no partner: "
            + some_of(alone)
        )
    both = {stem: (path, of_b[stem]) for stem, path in of_a.items()}
    plan = {stem: Recipe(pair, partial(_write_pair, *pair)) for stem, pair in both.items()}
    make(out, plan, inputs=(a, b), options={"kind": "pairs"})


def split_pairs(folder: Path, out: Path) -> None:
    """The inverse of ``pairs``: halves of ``folder/train`` in ``out/trainA`` and ``out/trainB``, and so of each phase.

    Halves of images in no folder named after a phase come to ``out/A`` and ``out/B``.

    Raises:
        ConfigError: An image has no two halves of one width.
    """
    plan: dict[str, Recipe] = {}
    for stem, path in by_stem(folder).items():
        first, _, rest = stem.partition("/")
        phase, name = (first, rest) if rest and first in PHASES else ("", stem)
        plan |= {f"{phase}{side}/{name}": Recipe((path,), partial(_write_half, path, side)) for side in "AB"}
    make(out, plan, inputs=(folder,), options={"kind": "split_pairs"})


def edges(folder: Path, out: Path, *, sigma: float, low: float, high: float, invert: bool) -> None:
    """The edges of each image, black on white in 8 bits, by Canny's method.

    The authors of pix2pix ran a trained detector (HED) and thinned what it found; this one needs no weights, and finds
    texture where that one finds outlines: raise ``sigma`` and ``high`` for fewer edges.

    Args:
        folder: Of the images.
        out: New.
        sigma: See ``canny``, as the next two.
        low: See there.
        high: See there.
        invert: White on black.
    """
    if low > high:
        raise ConfigError(f"low ({low:g}) must not exceed high ({high:g})")
    options = {"kind": "edges", "sigma": sigma, "low": low, "high": high, "invert": invert}

    def write(source: Path, path: Path) -> Path:
        found = canny(_gray(_finite(source)), sigma=sigma, low=low, high=high)
        return write_pixels(path, np.where(found == invert, 255, 0).astype(np.uint8)[..., None])

    plan = {stem: Recipe((path,), partial(write, path)) for stem, path in by_stem(folder).items()}
    make(out, plan, inputs=(folder,), options=options)


def resize_all(folder: Path, out: Path, *, size: Size) -> None:
    """Each image cut, from its middle, to the proportions of ``size`` and scaled to it, bicubic and antialiased."""
    height, width = as_pair(size)

    def write(source: Path, path: Path) -> Path:
        return write_pixels(path, _scaled(_cut(_finite(source), height, width), height, width))

    plan = {stem: Recipe((path,), partial(write, path)) for stem, path in by_stem(folder).items()}
    make(out, plan, inputs=(folder,), options={"kind": "resize", "size": [height, width]})


def load(path: Path) -> Pixels:
    """An image upright (H, W, C) in its own depth, gray or in colour; arrays of other channels as they are.

    Raises:
        ConfigError: It can't be read.
    """
    pixels = decode(path, 0).pixels
    if path.suffix.lower() == ".npy" or pixels.shape[2] in (1, 3):
        return pixels if pixels.shape[0] not in (1, 3) else decode(path, pixels.shape[0]).pixels
    if depth_of(pixels.dtype) not in LARGEST or pixels.shape[2] > 4:
        return pixels
    channels = 1 if pixels.shape[2] == 2 else 3
    return read_image(path, ImageFormat(channels, depth_of(pixels.dtype)))


def _finite(path: Path) -> Pixels:
    """``load`` for what is computed with: one value that is no number would spoil all."""
    pixels = load(path)
    if not np.isfinite(pixels).all():
        raise ConfigError(f"can't read the image {path}: some of its values are no numbers, or infinite")
    return pixels


def _write_pair(a: Path, b: Path, path: Path) -> Path:
    halves = load(a), load(b)
    if halves[0].shape[:2] != halves[1].shape[:2]:
        sizes = " and ".join(str(list(half.shape[:2])) for half in halves)
        raise ConfigError(f"{a} and {b} are of different sizes, {sizes} pixels: gantrain data prepare resize first")
    deep = np.result_type(*halves)
    channels = max(half.shape[2] for half in halves)
    if any(half.shape[2] not in (1, channels) for half in halves):
        numbers = " and ".join(str(half.shape[2]) for half in halves)
        raise ConfigError(f"{a} and {b} have {numbers} channels, which do not go into one image")
    return write_pixels(path, np.hstack([_as(half, deep, channels) for half in halves]))


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
    """(H, W) in [0, 1]; floating-point numbers from their least to their greatest."""
    values = pixels.astype(np.float64)
    values = values @ np.array([0.299, 0.587, 0.114]) if pixels.shape[2] == 3 else values[..., 0]
    if pixels.dtype.name in LARGEST:
        return values / LARGEST[pixels.dtype.name]
    return (values - values.min()) / (np.ptp(values) or 1)


def _cut(pixels: Pixels, height: int, width: int) -> Pixels:
    """The largest window in the middle with the proportions of ``height`` to ``width``, to the nearest pixel."""
    there = pixels.shape[:2]
    scale = min(there[0] / height, there[1] / width)
    cut = [min(side, max(1, round(wanted * scale))) for side, wanted in zip(there, (height, width), strict=True)]
    top, left = ((side - kept) // 2 for side, kept in zip(there, cut, strict=True))
    return pixels[top : top + cut[0], left : left + cut[1]]


def _scaled(pixels: Pixels, height: int, width: int) -> Pixels:
    """``resize`` for values of any range: floating-point numbers stay within the image's own."""
    if pixels.dtype.name in LARGEST:
        return resize(pixels, height, width)
    low, high = float(pixels.min()), float(pixels.max())
    spread = high - low or 1
    unit = ((pixels.astype(np.float64) - low) / spread * 2 - 1).astype(np.float32)
    return ((resize(unit, height, width).astype(np.float64) + 1) / 2 * spread + low).astype(np.float32)
