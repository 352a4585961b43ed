"""What the header of an image says, without its pixels."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
from PIL import Image

from gantrain.data.images.decoding import naming, open_image, stored_depth
from gantrain.data.images.orientation import ORIENTATION, TURNED, orientation_of
from gantrain.data.images.sources import Encoded


class Header(NamedTuple):
    """An image, upright.

    Attributes:
        height: Pixels.
        width: Pixels.
        channels: As stored, opacity included; a palette counts as the 3 that it stands for.
        depth: ``uint8``, ``uint16`` or ``float32``.
    """

    height: int
    width: int
    channels: int
    depth: str


def read_header(encoded: Encoded, channels: int, place: str) -> Header:
    """The header of an image.

    Args:
        encoded: A file, or what one holds.
        channels: Wanted; tells arrays (C, H, W) from (H, W, C).
        place: How messages name it.

    Raises:
        ConfigError: This is not an image.
    """
    depth = stored_depth(encoded, place)
    with naming(encoded, place), ExitStack() as stack:
        source = open_image(encoded, stack)
        if isinstance(source, np.ndarray):
            height, width, there = (*source.shape, 1)[:3]
            if source.ndim == 3 and height == channels != there:
                height, width, there = source.shape[1], source.shape[2], channels
            return Header(height, width, there, depth)
        if isinstance(source, Image.Image):
            width, height = source.size
            there = 3 if source.mode == "P" else len(source.getbands())
            # for what may stand behind a PNG's pixels, Pillow would decode them
            ahead = source.format != "PNG" or "exif" in source.info
            turn = orientation_of(source) if ahead else 1
        else:
            height, width, there = source.imagelength, source.imagewidth, source.samplesperpixel
            tag = source.tags.get(ORIENTATION)
            turn = tag.value if tag else 1
        return Header(*((width, height) if turn in TURNED else (height, width)), there, depth)
