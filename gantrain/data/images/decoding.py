"""Decoding of image files to arrays, without rounding or clipping stored values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import tifffile
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from gantrain.data.images.formats import from_deep_ppm, is_deep_ppm
from gantrain.data.images.opening import (
    BITS_PER_SAMPLE,
    ORIENTATION,
    PHOTOMETRIC,
    TURNED,
    Opened,
    is_deep_png,
    open_image,
    orientation_of,
    rawmode_of,
)
from gantrain.data.images.sources import EncodedImage
from gantrain.data.images.store import Pixels
from gantrain.errors import ConfigError, reason_of

# Maps the height and width of an upright image to the factor, 1, 2, 4 or 8, by which both may be divided in decoding.
Shrink: TypeAlias = Callable[[int, int], int]
WHITE_IS_ZERO = 0
PLAIN_PHOTOMETRICS = (WHITE_IS_ZERO, 1, 2, 5)  # Gray, gray, RGB and inks; others would have to be converted.


class Reduction(NamedTuple):
    """The full size of an upright JPEG that was decoded in a smaller one."""

    height: int
    width: int
    factor: int  # Both were divided by it and rounded up, so the last row and column may cover fewer pixels.


class Decoded(NamedTuple):
    """A decoded, upright image."""

    source: Pixels | Image.Image  # (H, W, C) in the type of the file; or, for most of 8 bits, Pillow's own image.
    alpha: str = ""  # "straight" or "premultiplied" if the last channel is alpha.
    reduction: Reduction | None = None  # None for full size.

    @property
    def pixels(self) -> Pixels:
        """(H, W, C) in the type of the file."""
        return self.source if isinstance(self.source, np.ndarray) else as_pixels(self.source)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        source = self.source
        return (source.height, source.width) if isinstance(source, Image.Image) else source.shape[:2]


def decode(encoded: EncodedImage, channels: int, location: str | None = None, shrink: Shrink | None = None) -> Decoded:
    """Decode an image as it is stored; only images of 8 bits are converted to ``channels`` if that is 1 or 3.

    Args:
        encoded: A file, or the content of one.
        channels: Number of channels of the data set.
        location: The location of the image in messages; by default its path.
        shrink: By how much a JPEG may be reduced in decoding, which saves most of the work; None for not at all.
    """
    with image_errors(encoded, location), ExitStack() as stack:
        sources = open_image(encoded, stack, channels)
        if len(sources) == 1:
            return decode_opened(sources[0], channels, shrink)
        return Decoded(np.concatenate([decode_opened(source, 1).pixels for source in sources], axis=2))


def depth_of(dtype: np.dtype[Any]) -> str:
    """``uint8`` (also for booleans), ``uint16`` or, for all other numbers, ``float32``."""
    if dtype.kind not in "biuf":
        raise ValueError(f"it contains values of the type {dtype}")
    return {"bool": "uint8", "uint8": "uint8", "uint16": "uint16"}.get(dtype.name, "float32")


def location_of(encoded: EncodedImage, location: str | None) -> str:
    """The location of an image in messages: as given, or its path."""
    return location or (str(encoded) if isinstance(encoded, Path) else "in memory")


@contextmanager
def image_errors(encoded: EncodedImage, location: str | None) -> Iterator[None]:
    """Turn every error into a ConfigError of one line with the image's location."""
    try:
        yield
    except Exception as error:  # Corrupt bytes lead decoders to errors of every kind.
        if isinstance(error, UnidentifiedImageError):
            size = encoded.stat().st_size if isinstance(encoded, Path) else len(encoded)
            reason = "this is not an image, or its format is unknown" if size else "the file is empty"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        elif "imagecodecs" in str(error):
            reason = "its compression needs another package: pip install imagecodecs"
        else:
            reason = reason_of(error)
        raise ConfigError(f"can't read the image {location_of(encoded, location)}: {reason}") from None


def decode_opened(source: Opened, channels: int, shrink: Shrink | None = None) -> Decoded:
    """Decode an image that is open already, or an array; see ``decode``."""
    if isinstance(source, np.ndarray):
        return Decoded(_from_npy(source, channels))
    if not isinstance(source, Image.Image):
        return _from_tifffile(source)
    if is_deep_png(source):
        return _from_deep_png(source)
    if is_deep_ppm(source):
        return Decoded(from_deep_ppm(source))
    if source.mode.startswith(("I", "F")):
        return _from_deep_gray(source)
    reduction = _reduce(source, shrink) if shrink is not None and isinstance(source, JpegImageFile) else None
    return Decoded(_from_8_bits(source, channels), reduction=reduction)


def _from_npy(source: Pixels, channels: int) -> Pixels:
    depth_of(source.dtype)
    pixels = np.array(source, dtype=source.dtype.newbyteorder("="))
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    first = pixels.ndim == 3 and pixels.shape[0] == channels != pixels.shape[2]
    return pixels[..., None] if pixels.ndim == 2 else pixels.transpose(1, 2, 0) if first else pixels


def _from_tifffile(page: tifffile.TiffPage) -> Decoded:
    if page.photometric not in PLAIN_PHOTOMETRICS:
        raise ValueError(f"its colours are stored as {page.photometric!r}: save it as gray or RGB")
    pixels = page.asarray()
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if page.axes == "YX":
        pixels = pixels[..., None]
    elif page.axes == "SYX":
        pixels = pixels.transpose(1, 2, 0)
    elif page.axes != "YXS":
        raise ValueError(f"its axes are {page.axes}, not YX, YXS or SYX")
    if pixels.ndim != 3 or not pixels.size:
        raise ValueError("the file is corrupt")
    depth_of(pixels.dtype)
    if page.photometric == WHITE_IS_ZERO and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    last = page.extrasamples[-1] if page.extrasamples and pixels.shape[2] in (2, 4) else 0
    tag = page.tags.get(ORIENTATION)
    return Decoded(_upright(pixels, tag.value if tag else 1), {1: "premultiplied", 2: "straight"}.get(last, ""))


def _from_deep_png(image: Image.Image) -> Decoded:
    """Colour of 16 bits: Pillow decodes the high bytes, and with the raw mode of the other byte order the low ones."""
    rawmode, file = rawmode_of(image), cast(Any, image).fp

    def opened(rawmode: str) -> tuple[Pixels, Image.Image]:
        file.seek(0)
        plane: Any = Image.open(file)
        plane.tile = [(*tile[:3], rawmode) for tile in plane.tile]
        return np.asarray(plane), plane

    if rawmode == "LA;16B":
        pixels, plane = opened("RGBA")  # The two bytes of L and the two of A.
        pixels = pixels.view(">u2").astype(np.uint16)
    else:
        low, _ = opened(rawmode.replace("16B", "16L"))
        high, plane = opened(rawmode)
        pixels = high.astype(np.uint16) << 8 | low
    decoded = _with_transparent_colour(pixels, plane.info.get("transparency"))
    pixels = _upright(decoded.pixels, orientation_of(plane))
    return Decoded(pixels, "straight" if pixels.shape[2] in (2, 4) else "")


def _from_deep_gray(image: Image.Image) -> Decoded:
    _turn(image)
    pixels = np.asarray(image)[..., None]
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    stored = depth_of(pixels.dtype)
    if image.format == "PNG" or (image.format, image.mode) == ("PPM", "I"):
        return _with_transparent_colour(pixels.astype(np.uint16), image.info.get("transparency"))
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO and stored == "uint16":
        pixels = (1 << max(image.tag_v2[BITS_PER_SAMPLE])) - 1 - pixels
    return Decoded(pixels)


def _reduce(image: JpegImageFile, shrink: Shrink) -> Reduction | None:
    """Tell Pillow to decode a JPEG in a smaller size, if possible."""
    orientation = orientation_of(image)
    height, width = image.size if orientation in TURNED else image.size[::-1]
    factor = shrink(height, width)
    uneven = height % factor or width % factor
    if factor == 1 or (uneven and orientation != 1):  # The smaller row or column might not be the last.
        return None
    image.draft(None, (image.width // factor, image.height // factor))
    return Reduction(height, width, factor)


def as_pixels(image: Image.Image) -> Pixels:
    """(H, W, C) uint8 from an image of Pillow."""
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _from_8_bits(image: Image.Image, channels: int) -> Image.Image:
    """An image in gray or RGB for 1 or 3 channels; for others, one with the channels of the file."""
    _turn(image)
    image.load()
    if channels in (1, 3):
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        mode = "L" if channels == 1 else "RGB"
        return image if image.mode == mode else image.convert(mode)
    if image.has_transparency_data:
        return image.convert("LA" if image.mode in ("L", "LA", "La") else "RGBA")
    if image.mode in ("1", "P"):
        return image.convert("L" if image.mode == "1" else "RGB")
    return image


def _with_transparent_colour(pixels: Pixels, colour: Any) -> Decoded:
    """Add alpha as the last channel if a PNG of 16 bits declares one of its colours transparent."""
    if colour is None:
        return Decoded(pixels)
    clear = (pixels == np.asarray(colour, dtype=np.uint16)).all(axis=2, keepdims=True)
    return Decoded(np.concatenate([pixels, np.where(clear, 0, 65535).astype(np.uint16)], axis=2), "straight")


def _turn(image: Image.Image) -> None:
    """Turn an image upright, in place."""
    if orientation_of(image) != 1:
        ImageOps.exif_transpose(image, in_place=True)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels (H, W, C) with an EXIF orientation upright."""
    if orientation in TURNED:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]
