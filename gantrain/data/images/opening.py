"""Opening images of every format: the header is read, but no pixels."""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, cast

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from gantrain.data.images import tiff
from gantrain.data.images.formats import FORMATS, is_deep_ppm
from gantrain.data.images.limits import check_size
from gantrain.data.images.sources import EncodedImage
from gantrain.data.images.store import Pixels

Opened: TypeAlias = Pixels | Image.Image | tifffile.TiffPage

NPY_MAGIC = b"\x93NUMPY"
LONGEST_NPY_HEADER = 10_000  # Bytes; NumPy refuses longer ones, but only after reading them.
NPY_HEADER = re.compile(rb"\{'descr': '([^'O]*)', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\), ?\}\s*")
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLES_PER_PIXEL = 258, 262, 277  # Tags of TIFF.
ORIENTATION = 274  # The tag of EXIF and TIFF.
TURNED = (5, 6, 7, 8)  # Orientations that exchange rows and columns.
DEEP_PNG = ("LA;16B", "RGB;16B", "RGBA;16B")  # Pillow's raw modes that it reduces to 8 bits.

warnings.filterwarnings("ignore", module=r"PIL\.")
for library in ("PIL", "tifffile"):
    logging.getLogger(library).addHandler(logging.NullHandler())  # Errors are raised, not printed as well.
Image.MAX_IMAGE_PIXELS = None  # ``check_size`` replaces Pillow's limit.
ONE_LARGE_IMAGE = threading.Lock()


def open_image(encoded: EncodedImage, stack: ExitStack, channels: int) -> list[Opened]:
    """Open an image by its content, not its name, and read its header but no pixels.

    Args:
        encoded: A file, or the content of one.
        stack: Closes the image; while it is open, no other unusually large image is opened.
        channels: Number of channels of the data set; 0 for those of the file.

    Returns:
        One source, or for a TIFF whose channels are pages, one for each.
    """
    file = _opened(encoded, stack)
    magic = file.read(6)
    file.seek(0)
    if magic == NPY_MAGIC:
        values = open_npy(encoded)
        if values.ndim not in (2, 3) or not values.size:
            raise ValueError(f"its shape is {values.shape}, not (H, W), (H, W, C) or (C, H, W)")
        return [values]
    image = None
    try:
        image = stack.enter_context(Image.open(file, formats=FORMATS))
    except UnidentifiedImageError:
        if magic[:4] not in tiff.MAGIC:
            raise
    found: list[Opened]
    if image is None or (
        isinstance(image, TiffImageFile) and (_has_more_pages(image) or not _pillow_reads_all_of(image))
    ):
        pages = tiff.pages_of(_opened(encoded, stack), channels)
        found = [_open_page(page, encoded, stack, by_pillow=image is not None) for page in pages]
    else:
        found = [image]
    stored = os.fstat(file.fileno()).st_size if isinstance(encoded, Path) else len(encoded)
    if check_size(*_extent(found), stored):
        stack.enter_context(ONE_LARGE_IMAGE)
    return found


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, if it is missing or corrupt."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Corrupt bytes lead to errors of every kind.
        return 1
    return orientation if orientation in range(1, 9) else 1


def open_npy(encoded: EncodedImage) -> Pixels:
    """An array in NumPy's file format, of any shape; that of a file is memory-mapped, and read-only.

    The header is parsed here if it is as NumPy writes it. ``np.load`` parses it with ``ast``, which fails at random if
    two threads use it at the same time (python/cpython#106905).

    Raises:
        Exception: An error of any kind, if the file is corrupt or has Python objects.
    """
    with ExitStack() as stack:
        file = _opened(encoded, stack)
        version = int.from_bytes(file.read(8)[6:7], "little")
        length = int.from_bytes(file.read(2 if version == 1 else 4), "little")
        if length > LONGEST_NPY_HEADER:
            raise ValueError("its header is too long")
        header = NPY_HEADER.fullmatch(file.read(length))
        start = file.tell()
    if header is None or version not in (1, 2, 3):
        if isinstance(encoded, Path):
            return cast("Pixels", np.load(encoded, mmap_mode="r", allow_pickle=False))
        return cast("Pixels", np.load(BytesIO(encoded), allow_pickle=False))
    dtype = np.dtype(header[1].decode())
    order: Literal["F", "C"] = "F" if header[2] == b"True" else "C"
    shape = tuple(int(size) for size in header[3].split(b",") if size.strip())
    if isinstance(encoded, Path):  # A memory map also detects that values are missing.
        return np.memmap(encoded, dtype, "r", start, shape, order)
    return np.ndarray(shape, dtype, encoded, start, order=order)


def _opened(encoded: EncodedImage, stack: ExitStack) -> IO[bytes]:
    return stack.enter_context(encoded.open("rb") if isinstance(encoded, Path) else BytesIO(encoded))


def _open_page(page: tifffile.TiffPage, encoded: EncodedImage, stack: ExitStack, *, by_pillow: bool) -> Opened:
    """A page of a TIFF, in Pillow if that reads all of it: tifffile needs another package for most compressions."""
    if by_pillow:
        image = stack.enter_context(Image.open(_opened(encoded, stack), formats=FORMATS))
        with suppress(SyntaxError):  # Pillow does not know the mode of the page.
            image.seek(page.index)
            if isinstance(image, TiffImageFile) and _pillow_reads_all_of(image):
                return image
    if BITS_PER_SAMPLE not in page.tags:  # With the tag, Pillow could read it.
        raise ValueError("the file is corrupt")
    return page


def _extent(found: list[Opened]) -> tuple[int, int, int, int]:
    """Width, height, channels and bytes per value of an opened image."""
    first = found[0]
    if isinstance(first, Image.Image):
        deep = (
            4
            if first.mode in ("I", "F")
            else 2
            if first.mode.startswith("I") or is_deep_png(first) or is_deep_ppm(first)
            else 1
        )
        return *first.size, len(first.getbands()) * len(found), deep
    assert isinstance(first, tifffile.TiffPage)
    channels = first.samplesperpixel * len(found)
    return first.imagewidth, first.imagelength, channels, np.dtype(first.dtype).itemsize


def _has_more_pages(image: TiffImageFile) -> bool:
    """Whether there is a page after the first; ``n_frames`` would set up all of them, which fails for masks."""
    return bool(getattr(image.tag_v2, "next", 0))


def _pillow_reads_all_of(image: TiffImageFile) -> bool:
    """Whether Pillow would drop no channel and reduce no colour of more than 8 bits."""
    bits = max(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    complete = image.tag_v2.get(SAMPLES_PER_PIXEL, 1) == len(image.getbands())
    return complete and (bits <= 8 or image.mode.startswith(("I", "F")))


def is_deep_png(image: Image.Image) -> bool:
    """Whether this is a PNG of 16 bits that Pillow would reduce to 8."""
    return image.format == "PNG" and rawmode_of(image) in DEEP_PNG


def rawmode_of(image: Any) -> str:
    """Pillow's name for the layout of stored pixels; empty if there are none."""
    return str(image.tile[0][3]) if image.tile else ""
