"""Sizes, channels and depths of images from their headers, without decoding pixels."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
from PIL import Image

from gantrain.data.images.decoding import image_errors, open_image, stored_depth
from gantrain.data.images.orientation import ORIENTATION, TURNED, orientation_of
from gantrain.data.images.sources import EncodedImage


class Header(NamedTuple):
    """Size and type of an upright image.

    Attributes:
        height: In pixels.
        width: In pixels.
        channels: As stored, alpha included; 3 for a palette.
        depth: ``uint8``, ``uint16`` or ``float32``.
    """

    height: int
    width: int
    channels: int
    depth: str


def read_header(encoded: EncodedImage, channels: int, location: str) -> Header:
    """The header of an image.

    Args:
        encoded: A file, or the content of one.
        channels: Of the data set; tells arrays (C, H, W) from (H, W, C).
        location: Of the image, for messages.

    Raises:
        ConfigError: This is not an image.
    """
    depth = stored_depth(encoded, location)
    with image_errors(encoded, location), ExitStack() as stack:
        source = open_image(encoded, stack)
        if isinstance(source, np.ndarray):
            height, width, stored = (*source.shape, 1)[:3]
            if source.ndim == 3 and height == channels != stored:
                height, width, stored = source.shape[1], source.shape[2], channels
            return Header(height, width, stored, depth)
        if isinstance(source, Image.Image):
            width, height = source.size
            stored = 3 if source.mode == "P" else len(source.getbands())
            # Pillow would decode a PNG's pixels to find what may follow them.
            in_header = source.format != "PNG" or "exif" in source.info
            orientation = orientation_of(source) if in_header else 1
        else:
            height, width, stored = source.imagelength, source.imagewidth, source.samplesperpixel
            tag = source.tags.get(ORIENTATION)
            orientation = tag.value if tag else 1
        return Header(*((width, height) if orientation in TURNED else (height, width)), stored, depth)
