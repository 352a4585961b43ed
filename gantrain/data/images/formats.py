"""The formats of image files that are read, and the one of them that Pillow would reduce without a remedy."""

from __future__ import annotations

import re
from contextlib import suppress
from importlib import import_module
from typing import Any, cast

import numpy as np
from PIL import Image

from gantrain.data.images.store import Pixels

with suppress(ImportError):  # An optional package, which adds HEIF to Pillow.
    import pillow_heif

    pillow_heif.register_heif_opener()

# The formats that Pillow may open, where it can; for some others it starts external programs, as Ghostscript for EPS.
# AVIF and HEIF of more than 8 bits are reduced to 8 by their decoders.
for plugin in ("Avif", "Bmp", "Gif", "Jpeg", "Png", "Ppm", "Tiff", "WebP"):  # All of Pillow's take longer to import.
    with suppress(ImportError):
        import_module(f"PIL.{plugin}ImagePlugin")
FORMATS = tuple(
    name for name in ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP") if name in Image.OPEN
)
# In lower case.
EXTENSIONS = frozenset({suffix for suffix, name in Image.EXTENSION.items() if name in FORMATS} | {".npy"})


def is_deep_ppm(image: Image.Image) -> bool:
    """Whether this is a PPM in colour of more than 8 bits, which Pillow would reduce to 8."""
    if image.format != "PPM" or image.mode != "RGB":
        return False
    decoder, _, _, arguments = cast(Any, image).tile[0]
    return decoder in ("ppm", "ppm_plain") and arguments[1] > 255


def from_deep_ppm(image: Image.Image) -> Pixels:
    """The pixels of such an image, (H, W, 3) uint16, scaled to the whole range as Pillow does.

    Raises:
        ValueError: The file is corrupt.
    """
    source = cast(Any, image)
    decoder, _, start, (_, largest) = source.tile[0]
    source.fp.seek(start)
    content, size = source.fp.read(), image.height * image.width * 3
    if decoder == "ppm":
        values = np.frombuffer(content, ">u2", count=size)
    else:  # As text.
        values = np.array(re.sub(rb"#[^\r\n]*", b"", content).split()[:size]).astype(np.int64)
    if values.size < size or values.max() > largest:
        raise ValueError("the file is corrupt")
    return np.rint(values.reshape(image.height, image.width, 3) / largest * 65535).astype(np.uint16)
