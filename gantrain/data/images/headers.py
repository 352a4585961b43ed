"""Sizes, channels and depths of images from their headers, without decoding pixels."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
from PIL import Image

from gantrain.data.images.decoding import depth_of, image_errors
from gantrain.data.images.formats import is_deep_ppm
from gantrain.data.images.opening import ORIENTATION, TURNED, is_deep_png, open_image, orientation_of
from gantrain.data.images.sources import EncodedImage


class Header(NamedTuple):
    """Size and type of an upright image."""

    height: int
    width: int
    channels: int  # As stored, alpha included; 3 for a palette.
    depth: str  # ``uint8``, ``uint16`` or ``float32``.


def read_header(encoded: EncodedImage, channels: int, location: str | None = None) -> Header:
    """The header of an image.

    Args:
        encoded: A file, or the content of one.
        channels: Number of channels of the data set, to distinguish arrays (C, H, W) from (H, W, C).
        location: The location of the image in messages; by default its path.
    """
    with image_errors(encoded, location), ExitStack() as stack:
        sources = open_image(encoded, stack, channels)
        source = sources[0]
        if isinstance(source, np.ndarray):
            height, width, stored = (*source.shape, 1)[:3]
            if source.ndim == 3 and height == channels != stored:
                height, width, stored = source.shape[1], source.shape[2], channels
            return Header(height, width, stored, depth_of(source.dtype))
        if isinstance(source, Image.Image):
            width, height = source.size
            stored = 3 if source.mode == "P" else len(source.getbands())
            depth = _depth_in_pillow(source)
            # Pillow would decode a PNG's pixels to find what may follow them.
            in_header = source.format != "PNG" or "exif" in source.info
            orientation = orientation_of(source) if in_header else 1
        else:
            height, width, stored = source.imagelength, source.imagewidth, source.samplesperpixel
            depth = depth_of(np.dtype(source.dtype))
            tag = source.tags.get(ORIENTATION)
            orientation = tag.value if tag else 1
        height, width = (width, height) if orientation in TURNED else (height, width)
        return Header(height, width, stored * len(sources), depth)


def _depth_in_pillow(image: Image.Image) -> str:
    # Up to Pillow 10, the mode of gray PNG files of 16 bits is I.
    if image.mode.startswith("I;16") or is_deep_png(image) or is_deep_ppm(image):
        return "uint16"
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return "uint16"
    return "float32" if image.mode in ("I", "F") else "uint8"
