"""Finding, reading and writing images of any depth, without loss."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from gantrain.data.images.decoding import Decoded, Pixels, called, decode, depth_of, stored_depth
from gantrain.data.images.sources import Encoded
from gantrain.errors import ConfigError

__all__ = [
    "EXTENSIONS",
    "ValueRange",
    "find_images",
    "needs_range",
    "read_image",
    "stored_depth",
    "write_image",
    "write_pixels",
]

# the stored values that become -1 and 1
ValueRange: TypeAlias = tuple[float, float]

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".npy"})
DEPTHS = ("uint8", "uint16", "float32")  # from the shallowest on
LARGEST = {"uint8": 255, "uint16": 65535}
# ITU-R 601 in parts of 2^16, as Pillow has it: 0.299, 0.587, 0.114
LUMA = (19595, 38470, 7471)


def is_image(path: Path) -> bool:
    """Whether this is a file with the extension of an image, in upper or lower case."""
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def images_under(root: Path) -> Iterator[Path]:
    """All images in a folder or below, but for hidden files and folders, which are a computer's own."""
    depth = len(root.parts)
    for path in root.rglob("*"):
        if not any(part.startswith(".") for part in path.parts[depth:]) and is_image(path):
            yield path


def find_images(root: Path) -> list[Path]:
    """All images below a folder, hidden ones aside, sorted, whatever the case of their extensions.

    Raises:
        ConfigError: The folder is missing, or holds no image.
    """
    if not root.is_dir():
        raise ConfigError(f"data.root: there is no folder {root}")
    found = sorted(images_under(root))
    if not found:
        raise ConfigError(f"data.root: no image in {root} (looked for {', '.join(sorted(EXTENSIONS))})")
    return found


def read_image(
    encoded: Encoded,
    *,
    channels: int,
    depth: str,
    value_range: ValueRange | None,
    convert: bool = False,
    suffix: str = "",
    place: str | None = None,
) -> Pixels:
    """An image upright, in the channels and depth of its data set.

    For 1 or 3 channels, transparency is laid on white, colour becomes gray by ITU-R 601 and gray colour by repetition;
    a file with exactly the channels wanted is otherwise taken as it is.

    Args:
        encoded: A file, or what one holds.
        channels: Wanted.
        depth: Of the data set: ``uint8``, ``uint16`` or ``float32``. Files of 8 bits are scaled to 16.
        value_range: The values in that depth that become -1 and 1, beyond which they are clipped; None for the whole
            range of the type.
        convert: Whether a file of 16 bits may be rounded to 8; otherwise it is refused.
        suffix: Of the keys that messages name: ``_b`` for ``data.channels_b``.
        place: How messages name the image, unless by its path.

    Returns:
        (H, W, C) uint8 or uint16; float32 in [-1, 1] if that is the depth or there is a ``value_range``.

    Raises:
        ConfigError: This is not an image, is broken, or does not fit the data set.
    """
    return converted(
        decode(encoded, channels, place),
        channels=channels,
        depth=depth,
        value_range=value_range,
        convert=convert,
        suffix=suffix,
        place=called(encoded, place),
    )


def converted(
    decoded: Decoded,
    *,
    channels: int,
    depth: str,
    value_range: ValueRange | None,
    convert: bool,
    suffix: str,
    place: str,
) -> Pixels:
    """What ``read_image`` makes of an image once it is decoded."""
    pixels = _to_channels(decoded, channels, place, suffix)
    stored = depth_of(pixels.dtype)
    if stored == depth == "uint8" and value_range is None:
        return pixels
    if DEPTHS.index(stored) > DEPTHS.index(depth):
        if stored == "float32":
            raise ConfigError(f"{place} holds no whole numbers of 16 bits or less: give data.depth=float32")
        if not convert:
            raise ConfigError(
                f"{place} has a depth of {stored}, and the first image of {depth}: give data.depth={stored}"
            )
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # to the nearest: 257 * 255 is 65535
    if stored == "uint8" and depth == "uint16":
        pixels = pixels.astype(np.uint16) * 257
    if value_range is None and depth != "float32":
        return pixels
    if value_range is None and stored == "float32":
        raise needs_range(place, suffix)
    if np.isnan(pixels).any():
        raise ConfigError(f"can't read the image {place}: some of its values are no numbers (nan)")
    return _to_signed_range(pixels, value_range or (0, LARGEST[stored]))


def needs_range(place: str, suffix: str = "") -> ConfigError:
    """What to say where nobody knows which values are black and white."""
    return ConfigError(f"floating-point images need data.range{suffix}=[LOW,HIGH], black and white in {place}")


def write_image(path: Path, image: Tensor, *, depth: str, value_range: ValueRange | None) -> Path:
    """Keep an image as an image, or as an array where no format of images would keep all of it.

    Args:
        path: Where to; the suffix is added unless it is there.
        image: (C, H, W) in [-1, 1], clipped to it.
        depth: ``uint8`` and ``uint16`` make a PNG of 1 or 3 channels; others and ``float32`` make a ``.npy``, (H, W, C)
            or, for one channel, (H, W).
        value_range: What -1 and 1 become, before rounding; None for the whole range of the type.

    Returns:
        The path with its suffix.
    """
    low, high = value_range or (0, LARGEST[depth]) if depth in LARGEST else value_range or (-1, 1)
    values = image.detach().cpu().double().clamp(-1, 1).permute(1, 2, 0).numpy()
    values = (values + 1) / 2 * (high - low) + low
    if depth in LARGEST:
        values = np.rint(values).clip(0, LARGEST[depth])
    return write_pixels(path, values.astype(depth))


def write_pixels(path: Path, pixels: Pixels) -> Path:
    """Keep an array as it is: (H, W, 1 or 3) of uint8 or uint16 as a PNG, any other as ``.npy``.

    Args:
        path: Where to; the suffix is added unless it is there.
        pixels: (H, W, C).

    Returns:
        The path with its suffix.
    """
    as_png = pixels.dtype.name in LARGEST and pixels.shape[2] in (1, 3)
    pixels = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    suffix = ".png" if as_png else ".npy"
    path = path if path.suffix == suffix else path.with_name(path.name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not as_png:
        np.save(path, pixels)
    elif pixels.dtype == np.uint16 and pixels.ndim == 3:
        path.write_bytes(_deep_png(pixels))
    else:
        Image.fromarray(pixels).save(path, format="PNG")
    return path


def _to_channels(decoded: Decoded, channels: int, place: str, suffix: str) -> Pixels:
    pixels = decoded.pixels
    there = pixels.shape[2]
    if channels in (1, 3) and decoded.alpha and depth_of(pixels.dtype) in LARGEST:
        pixels = _on_white(pixels, premultiplied=decoded.alpha == "premultiplied")
    if pixels.shape[2] == channels:
        return pixels
    if (pixels.shape[2], channels) == (1, 3):
        return np.repeat(pixels, 3, axis=2)
    if (pixels.shape[2], channels) == (3, 1):
        return _luma(pixels)
    raise ConfigError(
        f"{place} has {there} channels, which do not become data.channels{suffix}={channels} by themselves: "
        f"give data.channels{suffix}={there}, or convert the images"
    )


def _on_white(pixels: Pixels, *, premultiplied: bool) -> Pixels:
    """The colours before a white background; the last channel is their opacity."""
    white = np.uint32(np.iinfo(pixels.dtype).max)
    colour, alpha = pixels[..., :-1].astype(np.uint32), pixels[..., -1:].astype(np.uint32)
    if premultiplied:
        return np.minimum(colour + (white - alpha), white).astype(pixels.dtype)
    # at most 65535^2 + 32767, which 32 bits just hold
    return ((colour * alpha + white * (white - alpha) + white // 2) // white).astype(pixels.dtype)


def _luma(pixels: Pixels) -> Pixels:
    if depth_of(pixels.dtype) not in LARGEST:
        return pixels.astype(np.float64) @ (np.array(LUMA) / 2**16)[:, None]
    parts = pixels.astype(np.uint32) * np.array(LUMA, dtype=np.uint32)  # their sum, below 2^32, rounds to the nearest
    return ((parts.sum(axis=2, keepdims=True, dtype=np.uint32) + np.uint32(2**15)) >> 16).astype(pixels.dtype)


def _to_signed_range(pixels: Pixels, value_range: ValueRange) -> Pixels:
    low, high = value_range
    return ((pixels.astype(np.float64) - low) / (high - low) * 2 - 1).clip(-1, 1).astype(np.float32)


def _deep_png(pixels: Pixels) -> bytes:
    """A PNG file of (H, W, 3) uint16, which Pillow can't write."""
    height, width, _ = pixels.shape
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    unfiltered = np.zeros((height, 1), dtype=np.uint8)  # each row begins with the number of its filter
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)  # 16 bits, RGB, not interlaced
    body = zlib.compress(np.hstack([unfiltered, rows]).tobytes())
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
