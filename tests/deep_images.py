"""Images of noise, of every depth and number of channels, and functions that read them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from gantrain.data.images.convert import ImageFormat, read_image
from gantrain.data.images.headers import read_header

LARGEST = {"uint8": 255, "uint16": 65535}
Pixels = np.ndarray


def noise(height: int = 5, width: int = 7, channels: int = 3, dtype: Any = np.uint16, seed: int = 0) -> Pixels:
    """Pixels (H, W, C) over the whole range of the type."""
    high = 256 if dtype == np.uint8 else 65536
    return np.random.default_rng(seed).integers(0, high, (height, width, channels)).astype(dtype)


def read(path: Path, channels: int = 3, depth: str = "uint16", value_range: Any = None, **more: Any) -> Pixels:
    return read_image(path, ImageFormat(channels, depth, value_range, **more))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def stored_depth(path: Path) -> str:
    return read_header(path, 3).depth


def deep_png(path: Path, pixels: Pixels, *extra: bytes) -> Path:
    """A PNG of 16 bits with 1 to 4 channels, every row filtered by the one above."""
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    rows = np.vstack([rows[:1], rows[1:] - rows[:-1]])
    body = zlib.compress(np.hstack([np.full((height, 1), 2, np.uint8), rows]).tobytes())
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", body), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path
