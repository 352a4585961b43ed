"""Orientation of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 274  # the tag of EXIF and TIFF
TURNED = (5, 6, 7, 8)  # orientations that exchange rows and columns


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, if it is missing or corrupt."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Corrupt bytes lead to errors of every kind.
        return 1
    return orientation if orientation in range(1, 9) else 1


def turn(image: Image.Image) -> None:
    """Turn an image upright, in place."""
    if orientation_of(image) != 1:
        ImageOps.exif_transpose(image, in_place=True)


def upright(pixels: np.ndarray[Any, np.dtype[Any]], orientation: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Turn stored pixels (H, W, C) with an EXIF orientation upright."""
    if orientation in TURNED:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]
