"""Reading and writing images of 8, 16 and 32 bits."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from gantrain.data.images.decoding import Decoded, decode, depth_of, location_of
from gantrain.data.images.sources import EncodedImage
from gantrain.data.images.store import Pixels
from gantrain.errors import ConfigError

ValueRange: TypeAlias = tuple[float, float]  # The stored values that become -1 and 1.

DEPTHS = ("uint8", "uint16", "float32")  # In ascending order.
LARGEST = {"uint8": 255, "uint16": 65535}
# The weights of ITU-R BT.601, 0.299, 0.587 and 0.114, in units of 2^-16, as in Pillow.
LUMA = (19595, 38470, 7471)


@dataclass(frozen=True)
class ImageFormat:
    """Channels and depth to which the images of a domain are converted.

    For 1 or 3 channels, alpha is composited on white, colour becomes gray by ITU-R BT.601, and gray is repeated.
    Images with exactly ``channels`` channels are otherwise unchanged.
    """

    channels: int
    depth: str  # ``uint8``, ``uint16`` or ``float32``. Files of 8 bits are scaled to 16.
    # The values in that depth that become -1 and 1, to which they are clipped; None for the whole range of the type.
    # Files whose type does not have these values are refused.
    value_range: ValueRange | None = None
    convert: bool = False  # Whether files of 16 bits may be rounded to 8; otherwise they are refused.
    suffix: str = field(default="", compare=False)  # The end of keys in messages: ``_b`` for ``data.channels_b``.

    @property
    def keeps_8_bits(self) -> bool:
        """Whether values of 8 bits are unchanged, and all others refused or rounded to them."""
        return self.depth == "uint8" and self.value_range is None

    def has(self, image: Image.Image) -> bool:
        """Whether an image of Pillow is in this format already."""
        return self.keeps_8_bits and image.mode == {1: "L", 3: "RGB"}.get(self.channels)


def read_image(encoded: EncodedImage, target: ImageFormat, location: str | None = None) -> Pixels:
    """Read an image, upright, in the format of its data set.

    Args:
        encoded: A file, or the content of one.
        target: The format.
        location: The location of the image in messages; by default its path.

    Returns:
        (H, W, C) uint8 or uint16; float32 in [-1, 1] if that is the depth or there is a ``value_range``.
    """
    return converted(decode(encoded, target.channels, location), target, location_of(encoded, location))


def converted(decoded: Decoded, target: ImageFormat, location: str) -> Pixels:
    """Convert a decoded image to the format of its data set; see ``read_image``."""
    pixels = _to_channels(decoded, target, location)
    stored, depth, value_range = depth_of(pixels.dtype), target.depth, target.value_range
    if stored == "uint8" and target.keeps_8_bits:
        return pixels
    if DEPTHS.index(stored) > DEPTHS.index(depth):
        if stored == "float32":
            raise ConfigError(f"{location} is not of 8- or 16-bit integers: give data.depth=float32")
        if not target.convert:
            raise ConfigError(
                f"{location} has a depth of {stored}, the first image of {depth}: give data.depth={stored}"
            )
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # Rounded to the nearest.
    if value_range is not None:
        _check_fits(value_range, stored, target, location)
    if stored == "uint8" and depth == "uint16":
        pixels = pixels.astype(np.uint16) * 257
    if value_range is None and depth != "float32":
        return pixels
    if value_range is None and stored == "float32":
        raise needs_range(location, target.suffix)
    if np.isnan(pixels).any():
        raise ConfigError(f"can't read the image {location}: some of its values are NaN")
    return _to_signed_range(pixels, value_range or (0, LARGEST[stored]))


def needs_range(location: str, suffix: str = "") -> ConfigError:
    """The error for floating-point images without a range."""
    return ConfigError(f"floating-point images need data.range{suffix}=[LOW,HIGH], black and white in {location}")


def share_outside(pixels: Pixels, value_range: ValueRange) -> float:
    """The share of stored values that a range clips."""
    low, high = value_range
    return float(((pixels < low) | (pixels > high)).mean())


def write_image(path: Path, image: Tensor, *, depth: str, value_range: ValueRange | None) -> Path:
    """Write an image as PNG, or as ``.npy`` where PNG can't store it without loss.

    Args:
        path: The file; its suffix is added if it is missing.
        image: (C, H, W) in [-1, 1]; other values are clipped.
        depth: ``uint8`` and ``uint16`` images of 1 or 3 channels are written as PNG; all others as ``.npy``, (H, W, C)
            or, for one channel, (H, W).
        value_range: The values, before rounding, that -1 and 1 become; None for the whole range of the type.

    Returns:
        The path with its suffix.
    """
    return write_pixels(path, stored_pixels(image, depth=depth, value_range=value_range))


def stored_pixels(image: Tensor, *, depth: str, value_range: ValueRange | None) -> Pixels:
    """The values (H, W, C), in the type ``depth``, that ``write_image`` writes of an image (C, H, W) in [-1, 1]."""
    low, high = value_range or (0, LARGEST[depth]) if depth in LARGEST else value_range or (-1, 1)
    values = image.detach().cpu().double().clamp(-1, 1).permute(1, 2, 0).numpy()
    values = (values + 1) / 2 * (high - low) + low
    if depth in LARGEST:
        values = np.rint(values).clip(0, LARGEST[depth])
    return values.astype(depth)


def as_png(depth: str, channels: int) -> bool:
    """Whether images are written as PNG, which stores them without loss, and not as ``.npy``."""
    return depth in LARGEST and channels in (1, 3)


def write_pixels(path: Path, pixels: Pixels) -> Path:
    """Write an array without loss: (H, W, 1 or 3) of uint8 or uint16 as PNG, any other (H, W, C) as ``.npy``.

    The suffix is added to the path if it is missing; returns the resulting path.
    """
    suffix = ".png" if as_png(pixels.dtype.name, pixels.shape[2]) else ".npy"
    path = path if path.suffix == suffix else path.with_name(path.name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_pixels_to(file, pixels)
    return path


def write_pixels_to(file: IO[bytes], pixels: Pixels) -> None:
    """``write_pixels`` to an open file."""
    png = as_png(pixels.dtype.name, pixels.shape[2])
    pixels = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if not png:
        np.save(file, pixels)
    elif pixels.dtype == np.uint16 and pixels.ndim == 3:
        file.write(_deep_png(pixels))
    else:
        Image.fromarray(pixels).save(file, format="PNG")


def _to_channels(decoded: Decoded, target: ImageFormat, location: str) -> Pixels:
    pixels, channels = decoded.pixels, target.channels
    stored = pixels.shape[2]
    if channels in (1, 3) and decoded.alpha and depth_of(pixels.dtype) in LARGEST:
        pixels = _on_white(pixels, premultiplied=decoded.alpha == "premultiplied")
    if pixels.shape[2] == channels:
        return pixels
    if (pixels.shape[2], channels) == (1, 3):
        return np.repeat(pixels, 3, axis=2)
    if (pixels.shape[2], channels) == (3, 1):
        return _luma(pixels)
    key = f"data.channels{target.suffix}"
    raise ConfigError(
        f"{location} has {stored} channels, which can't be converted to {key}={channels}: give {key}={stored}, or "
        "convert the images"
    )


def _check_fits(value_range: ValueRange, stored: str, target: ImageFormat, location: str) -> None:
    """Refuse a file whose type can't have the values of the range, or would have to be scaled to have them."""
    whole = target.depth in LARGEST and value_range == (0, LARGEST[target.depth])
    read = min(stored, target.depth, key=DEPTHS.index)
    scaled = (read, target.depth) == ("uint8", "uint16")
    below = value_range[0] < 0 and target.depth in LARGEST
    if not whole and (scaled or below or value_range[1] > LARGEST.get(read, math.inf)):
        key = f"data.range{target.suffix}"
        raise ConfigError(
            f"{key}={list(value_range)} does not fit {location}, which is read as {read}, from 0 to {LARGEST[read]}: "
            f"give {key}=null for all of these values, or a part of them, or leave the image out"
        )


def _on_white(pixels: Pixels, *, premultiplied: bool) -> Pixels:
    """Composite colours on white; the last channel is alpha."""
    white = np.uint32(np.iinfo(pixels.dtype).max)
    colour, alpha = pixels[..., :-1].astype(np.uint32), pixels[..., -1:].astype(np.uint32)
    if premultiplied:
        return np.minimum(colour + (white - alpha), white).astype(pixels.dtype)
    # At most 65535^2 + 32767, which fits in 32 bits.
    return ((colour * alpha + white * (white - alpha) + white // 2) // white).astype(pixels.dtype)


def _luma(pixels: Pixels) -> Pixels:
    if depth_of(pixels.dtype) not in LARGEST:
        return pixels.astype(np.float64) @ (np.array(LUMA) / 2**16)[:, None]
    parts = pixels.astype(np.uint32) * np.array(LUMA, dtype=np.uint32)  # Their sum is below 2^32.
    return ((parts.sum(axis=2, keepdims=True, dtype=np.uint32) + np.uint32(2**15)) >> 16).astype(pixels.dtype)


def _to_signed_range(pixels: Pixels, value_range: ValueRange) -> Pixels:
    low, high = value_range
    return ((pixels.astype(np.float64) - low) / (high - low) * 2 - 1).clip(-1, 1).astype(np.float32)


def _deep_png(pixels: Pixels) -> bytes:
    """Encode (H, W, 3) uint16 as PNG, which Pillow can't."""
    height, width, _ = pixels.shape
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    unfiltered = np.zeros((height, 1), dtype=np.uint8)  # Each row begins with the number of its filter.
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)  # 16 bits, RGB, not interlaced
    body = zlib.compress(np.hstack([unfiltered, rows]).tobytes())
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
