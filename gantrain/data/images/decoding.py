"""Image files to arrays, with the values that the file holds: none is rounded or clipped on the way."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias, cast

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from gantrain.data.images.orientation import ORIENTATION, TURNED, orientation_of, turn, upright
from gantrain.data.images.sources import Encoded
from gantrain.errors import ConfigError

Pixels: TypeAlias = np.ndarray[Any, np.dtype[Any]]
# from the height and width of an upright image to the factor, 1, 2, 4 or 8, by which both may be divided in decoding
Shrink: TypeAlias = Callable[[int, int], int]

NPY_MAGIC = b"\x93NUMPY"
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two: BigTIFF
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLES_PER_PIXEL = 258, 262, 277  # tags of TIFF
WHITE_IS_ZERO = 0
PLAIN_PHOTOMETRICS = (WHITE_IS_ZERO, 1, 2, 5)  # gray, gray, RGB and inks; others need a conversion that we haven't got
DEEP_PNG = ("LA;16B", "RGB;16B", "RGBA;16B")  # Pillow's names for what it would cut to 8 bits

# Pillow's names for what it may open: others it has read by the programs of others, as EPS by Ghostscript
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what is wrong with a file is said once, by us


class Reduction(NamedTuple):
    """What a JPEG was before it was decoded in a smaller size.

    Attributes:
        height: Upright, in pixels.
        width: The same.
        factor: By which both were divided, and rounded up: the last row and column may stand for less than others.
    """

    height: int
    width: int
    factor: int


class Decoded(NamedTuple):
    """An image, upright.

    Attributes:
        pixels: (H, W, C) in the type of the file.
        alpha: What the last channel is besides: ``straight`` or ``premultiplied`` opacity, or empty.
        reduction: None for an image decoded whole.
    """

    pixels: Pixels
    alpha: str = ""
    reduction: Reduction | None = None


def stored_depth(encoded: Encoded, place: str | None = None) -> str:
    """``uint8``, ``uint16`` or ``float32``: what holds an image's values, from its header alone.

    Args:
        encoded: A file, or what one holds.
        place: How messages name it, unless by its path.

    Raises:
        ConfigError: This is not an image.
    """
    with naming(encoded, place), ExitStack() as stack:
        source = open_image(encoded, stack)
        if not isinstance(source, Image.Image):
            return depth_of(np.dtype(source.dtype))
        if source.mode.startswith("I;16") or _is_deep_png(source):
            return "uint16"
        if source.mode == "I" and source.format == "PNG":  # 16 bits to Pillow's versions 10
            return "uint16"
        return "float32" if source.mode in ("I", "F") else "uint8"


def decode(encoded: Encoded, channels: int, place: str | None = None, shrink: Shrink | None = None) -> Decoded:
    """An image as it is stored, but that Pillow makes 1 or 3 wanted ``channels`` of any with 8 bits.

    Args:
        encoded: A file, or what one holds.
        channels: Wanted.
        place: How messages name it, unless by its path.
        shrink: By how much a JPEG may be reduced on the way, which saves most of the work; None for not at all.

    Raises:
        ConfigError: This is not an image, or a broken one.
    """
    with naming(encoded, place), ExitStack() as stack:
        source = open_image(encoded, stack)
        if isinstance(source, np.ndarray):
            return Decoded(_from_npy(source, channels))
        if not isinstance(source, Image.Image):
            return _from_tifffile(source)
        if _is_deep_png(source):
            return _from_deep_png(source)
        if source.mode.startswith(("I", "F")):
            return _from_deep_gray(source)
        reduction = _reduce(source, shrink) if shrink is not None and isinstance(source, JpegImageFile) else None
        return Decoded(_from_8_bits(source, channels), reduction=reduction)


def depth_of(dtype: np.dtype[Any]) -> str:
    """``uint8``, ``uint16`` or, for all other numbers, ``float32``."""
    if dtype.kind not in "biuf":
        raise ValueError(f"it holds values of the type {dtype}")
    if dtype.kind == "b":
        return "uint8"
    return {"uint8": "uint8", "uint16": "uint16"}.get(dtype.name, "float32")


def called(encoded: Encoded, place: str | None) -> str:
    """How messages name an image."""
    return place or (str(encoded) if isinstance(encoded, Path) else "in memory")


@contextmanager
def naming(encoded: Encoded, place: str | None) -> Iterator[None]:
    """Whatever goes wrong becomes one line that names the image."""
    try:
        yield
    except Exception as error:  # broken bytes lead decoders to errors of every kind
        if isinstance(error, UnidentifiedImageError):
            size = encoded.stat().st_size if isinstance(encoded, Path) else len(encoded)
            reason = "this is no image, or one of an unknown format" if size else "the file is empty"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        elif "imagecodecs" in str(error):
            reason = "its compression needs another package: pip install imagecodecs"
        else:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(f"can't read the image {called(encoded, place)}: {reason}") from None


def open_image(encoded: Encoded, stack: ExitStack) -> Pixels | Image.Image | tifffile.TiffPage:
    """The header of an image, by what is in it and not by its name; its pixels are still to be read."""
    file: IO[bytes] = stack.enter_context(encoded.open("rb") if isinstance(encoded, Path) else BytesIO(encoded))
    magic = file.read(6)
    file.seek(0)
    if magic == NPY_MAGIC:
        return _open_npy(encoded, file)
    try:
        image = stack.enter_context(Image.open(file, formats=FORMATS))
    except UnidentifiedImageError:
        if magic[:4] not in TIFF_MAGIC:
            raise
        return _open_tiff(file, stack)
    return image if not isinstance(image, TiffImageFile) or _pillow_reads_all_of(image) else _open_tiff(file, stack)


def _open_npy(encoded: Encoded, file: IO[bytes]) -> Pixels:
    mapped = isinstance(encoded, Path)  # which also notices that values are missing
    values: Pixels = np.load(encoded if mapped else file, mmap_mode="r" if mapped else None, allow_pickle=False)
    if values.ndim not in (2, 3) or not values.size:
        raise ValueError(f"its shape is {values.shape}, and not (H, W), (H, W, C) or (C, H, W)")
    return values


def _open_tiff(file: IO[bytes], stack: ExitStack) -> tifffile.TiffPage:
    file.seek(0)
    page = cast(tifffile.TiffPage, stack.enter_context(tifffile.TiffFile(file)).pages[0])
    pixels = page.imagewidth * page.imagelength
    if Image.MAX_IMAGE_PIXELS and max(2 * pixels, page.nbytes / 8) > 4 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(
            f"{page.imagewidth} x {page.imagelength} pixels of {page.samplesperpixel} channels could be an attack"
        )
    if BITS_PER_SAMPLE not in page.tags:  # lost, or else Pillow could read it
        raise ValueError("the file is damaged")
    return page


def _pillow_reads_all_of(image: TiffImageFile) -> bool:
    """Whether no channel would be left out, and no colour of more than 8 bits cut."""
    bits = max(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    complete = image.tag_v2.get(SAMPLES_PER_PIXEL, 1) == len(image.getbands())
    return complete and (bits <= 8 or image.mode.startswith(("I", "F")))


def _is_deep_png(image: Image.Image) -> bool:
    return image.format == "PNG" and _rawmode(image) in DEEP_PNG


def _rawmode(image: Any) -> str:
    """Pillow's name for how pixels lie in the file; empty if there are none."""
    return str(image.tile[0][3]) if image.tile else ""


def _from_npy(source: Pixels, channels: int) -> Pixels:
    depth_of(source.dtype)
    pixels = np.array(source, dtype=source.dtype.newbyteorder("="))
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    first = pixels.ndim == 3 and pixels.shape[0] == channels != pixels.shape[2]
    return pixels[..., None] if pixels.ndim == 2 else pixels.transpose(1, 2, 0) if first else pixels


def _from_tifffile(page: tifffile.TiffPage) -> Decoded:
    if page.photometric not in PLAIN_PHOTOMETRICS:
        raise ValueError(f"colours kept as {page.photometric!r} can't be read here: save it as gray or RGB")
    pixels = page.asarray()
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if page.axes == "YX":
        pixels = pixels[..., None]
    elif page.axes == "SYX":
        pixels = pixels.transpose(1, 2, 0)
    elif page.axes != "YXS":
        raise ValueError(f"its axes are {page.axes}, and not YX, YXS or SYX")
    if pixels.ndim != 3 or not pixels.size:
        raise ValueError("the file is damaged")
    depth_of(pixels.dtype)
    if page.photometric == WHITE_IS_ZERO and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    last = page.extrasamples[-1] if page.extrasamples and pixels.shape[2] in (2, 4) else 0
    turned = page.tags.get(ORIENTATION)
    return Decoded(upright(pixels, turned.value if turned else 1), {1: "premultiplied", 2: "straight"}.get(last, ""))


def _from_deep_png(image: Image.Image) -> Decoded:
    """Colour of 16 bits, from which Pillow takes the high byte or, told of the other order of bytes, the low one."""
    rawmode, file = _rawmode(image), cast(Any, image).fp

    def opened(rawmode: str) -> tuple[Pixels, Image.Image]:
        file.seek(0)
        plane: Any = Image.open(file)
        plane.tile = [(*tile[:3], rawmode) for tile in plane.tile]
        return np.asarray(plane), plane

    if rawmode == "LA;16B":
        pixels, plane = opened("RGBA")  # the two bytes of L and the two of A
        pixels = pixels.view(">u2").astype(np.uint16)
    else:
        low, _ = opened(rawmode.replace("16B", "16L"))
        high, plane = opened(rawmode)
        pixels = high.astype(np.uint16) << 8 | low
    decoded = _with_transparent_colour(pixels, plane.info.get("transparency"))
    pixels = upright(decoded.pixels, orientation_of(plane))
    return Decoded(pixels, "straight" if pixels.shape[2] in (2, 4) else "")


def _from_deep_gray(image: Image.Image) -> Decoded:
    turn(image)
    pixels = np.asarray(image)[..., None]
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    stored = depth_of(pixels.dtype)
    if image.format == "PNG":
        return _with_transparent_colour(pixels.astype(np.uint16), image.info.get("transparency"))
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO and stored == "uint16":
        pixels = (1 << max(image.tag_v2[BITS_PER_SAMPLE])) - 1 - pixels
    return Decoded(pixels)


def _reduce(image: JpegImageFile, shrink: Shrink) -> Reduction | None:
    """Have a JPEG decoded in a smaller size, or as it is."""
    width, height = image.size
    orientation = orientation_of(image)
    if orientation in TURNED:
        height, width = width, height
    factor = shrink(height, width)
    uneven = height % factor or width % factor
    if factor == 1 or (uneven and orientation != 1):  # else the smaller row or column might not be the last
        return None
    image.draft(None, (image.width // factor, image.height // factor))
    return Reduction(height, width, factor)


def _from_8_bits(image: Image.Image, channels: int) -> Pixels:
    """(H, W, channels) for 1 or 3 channels, otherwise with the channels of the file."""
    turn(image)
    if channels in (1, 3):
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if channels == 1 else "RGB")
    elif image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("L", "LA", "La") else "RGBA")
    elif image.mode in ("1", "P"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _with_transparent_colour(pixels: Pixels, colour: Any) -> Decoded:
    """With opacity as the last channel, if a PNG of 16 bits declares one colour of its pixels transparent."""
    if colour is None:
        return Decoded(pixels)
    clear = (pixels == np.asarray(colour, dtype=np.uint16)).all(axis=2, keepdims=True)
    return Decoded(np.concatenate([pixels, np.where(clear, 0, 65535).astype(np.uint16)], axis=2), "straight")
