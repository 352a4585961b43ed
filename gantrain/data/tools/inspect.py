"""Inspecting the images of one domain in one phase: their properties and defects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from gantrain.data.images.convert import ImageFormat, read_image, share_outside
from gantrain.data.images.decoding import decode
from gantrain.data.images.headers import Header, read_header
from gantrain.data.images.reader import MAX_CLIPPED, ImageReader
from gantrain.data.images.sources import EncodedImage
from gantrain.data.images.store import Pixels
from gantrain.data.images.transforms import Preprocess
from gantrain.errors import ConfigError
from gantrain.runtime.parallel import in_parallel

THUMBNAILS = 100  # The maximum number per part.
THUMBNAIL_SIZE = 128  # The longer side in pixels.


@dataclass(frozen=True)
class Part:
    """The images of one domain in one phase, or of both domains if they are side by side."""

    phase: str  # ``train`` or ``test``.
    domain: str  # ``A``, ``B``, ``A | B`` for both, or the key of a batch.
    readers: tuple[ImageReader, ...]  # One, or those of A and B.
    preprocess: Preprocess | None = None  # None if it is unknown.
    class_names: Sequence[str] = ()
    labels: Sequence[int] | None = None  # One class index per image.
    paired: bool = False  # Whether images of A and B with the same index are a pair.
    total: int = 0  # Number of images before data.fraction and data.max_size; 0 if they select all.

    def __len__(self) -> int:
        return len(self.readers[0])

    @property
    def whole(self) -> int:
        """The number of images before any were selected."""
        return self.total or len(self)

    def location(self, index: int) -> str:
        """The path of an image, for messages."""
        return self.readers[0].location(index)

    @property
    def title(self) -> str:
        """The phase, and the domain if there are several."""
        return self.phase if self.domain == "image" else f"{self.phase} {self.domain}"

    @property
    def distinct_readers(self) -> list[ImageReader]:
        """The readers that convert images differently: for halves of the same format, one decodes both."""
        return list({reader.format: reader for reader in reversed(self.readers)}.values())[::-1]

    def thumbnail_indices(self) -> list[int]:
        """The indices of the images with a thumbnail, evenly spaced."""
        size = len(self)
        return sorted(set(np.linspace(0, size - 1, min(THUMBNAILS, size)).round().astype(int).tolist()))


class Inspection(NamedTuple):
    """The properties of an image."""

    header: Header | None  # None if it can't be read.
    size: int  # Bytes of the encoded image.
    digest: bytes = b""  # A hash of these bytes; empty if they were not all read.
    colour: bool | None = None  # Whether its channels differ; None if its pixels were not read.
    scaled: tuple[int, int, int] | None = None  # Height, width and bytes in a cache; None if unknown.
    unreadable: str = ""  # Why it can't be read or converted.
    misfit: str = ""  # Why it can't be cropped.
    clipped: bool = False  # Whether most of its values are outside data.range.
    thumbnail: Pixels | None = None  # (H, W, 1 or 3) uint8.


def inspect_images(part: Part, *, quick: bool) -> Iterator[Inspection]:
    """Inspect all images in their order, with a progress bar; ``quick`` reads only headers, except for thumbnails."""
    shown = frozenset(part.thumbnail_indices())

    def inspect(opened: tuple[int, EncodedImage | ConfigError]) -> Inspection:
        index, encoded = opened
        if isinstance(encoded, ConfigError):
            return Inspection(None, 0, unreadable=str(encoded))
        return _inspect(part, encoded, part.location(index), quick=quick, shown=index in shown)

    yield from in_parallel(inspect, _opened(part.readers[0]), total=len(part), label=f"check {part.title}")


def _opened(reader: ImageReader) -> Iterator[tuple[int, EncodedImage | ConfigError]]:
    """The encoded images, read in one thread, as databases require."""
    for index in range(len(reader)):
        try:
            yield index, reader.open(index)
        except ConfigError as error:
            yield index, error


def _inspect(part: Part, encoded: EncodedImage, location: str, *, quick: bool, shown: bool) -> Inspection:
    header, size, digest = None, 0, b""
    try:
        if isinstance(encoded, Path) and not quick:
            encoded = encoded.read_bytes()  # Read once for all the following steps.
        size = encoded.stat().st_size if isinstance(encoded, Path) else len(encoded)
        header = read_header(encoded, part.readers[0].format.channels, location)
        misfit, scaled = _fit(part, header, location)
        if quick and not shown:
            return Inspection(header, size, scaled=scaled, misfit=misfit)
        pixels = [read_image(encoded, reader.format, location) for reader in part.distinct_readers]
        if not quick and isinstance(encoded, bytes):
            digest = hashlib.blake2b(encoded, digest_size=16).digest()
        clipped = any(_is_clipped(encoded, reader.format, location) for reader in part.distinct_readers)
        colour = None if quick else _is_colour(encoded, header, pixels[0], location)
    except OSError as error:
        return Inspection(header, size, unreadable=f"can't read the image {location}: {error.strerror or error}")
    except ConfigError as error:
        return Inspection(header, size, unreadable=str(error))
    thumbnail = _thumbnail(pixels[0]) if shown else None
    return Inspection(header, size, digest, colour, scaled, misfit=misfit, clipped=clipped, thumbnail=thumbnail)


def _is_clipped(encoded: EncodedImage, target: ImageFormat, location: str) -> bool:
    if target.value_range is None:
        return False
    return share_outside(decode(encoded, target.channels, location).pixels, target.value_range) > MAX_CLIPPED


def _fit(part: Part, header: Header, location: str) -> tuple[str, tuple[int, int, int] | None]:
    """Why an image can't be cropped, and its height, width and bytes once scaled."""
    columns = len(part.readers)
    if header.width % columns:
        return f"{location} is {header.width} pixels wide, which can't be halved into A and B", None
    if part.preprocess is None:
        return "", None
    height, width = part.preprocess.scaled_size(header.height, header.width // columns)
    misfit = ""
    try:
        part.preprocess.cut(np.broadcast_to(np.uint8(0), (height, width, 1)), 0, name=location)
    except ConfigError as error:
        misfit = str(error)
    size = sum(
        height * width * each.channels * np.dtype("float32" if each.value_range else each.depth).itemsize
        for each in (reader.format for reader in part.distinct_readers)
    )
    return misfit, (height, width, size * columns)  # Each reader stores both halves.


def _is_colour(encoded: EncodedImage, header: Header, pixels: Pixels, location: str) -> bool:
    """Whether the stored channels, except opacity, differ."""
    if header.channels < 3:
        return False
    if pixels.shape[2] < 3:
        pixels = decode(encoded, 3, location).pixels
    return bool((pixels[..., :1] != pixels[..., 1:3]).any())


def _thumbnail(pixels: Pixels) -> Pixels:
    """(H, W, 1 or 3) uint8, with a longer side of at most ``THUMBNAIL_SIZE``."""
    pixels = pixels[..., : 3 if pixels.shape[2] >= 3 else 1]
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        pixels = ((pixels + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))
    image.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    small = np.asarray(image)
    return small[..., None] if small.ndim == 2 else small
