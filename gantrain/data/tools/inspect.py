"""The images of one domain in one phase, each looked at for what it is and for what is wrong with it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from gantrain.data.base import ImageDataset
from gantrain.data.images.convert import ImageFormat, ValueRange, converted
from gantrain.data.images.decoding import decode
from gantrain.data.images.headers import Header, read_header
from gantrain.data.images.sources import EncodedImage, Source
from gantrain.data.images.store import Pixels
from gantrain.data.images.transforms import Preprocess
from gantrain.errors import ConfigError
from gantrain.runtime.parallel import in_parallel

THUMBNAILS = 100  # of each part
THUMBNAIL = 128  # pixels, the longer side
BYTES = {"uint8": 1, "uint16": 2, "float32": 4}


class Wanted(NamedTuple):
    """What training asks of the images of a domain; see ``read_image``."""

    channels: int
    depth: str
    value_range: ValueRange | None
    convert: bool
    suffix: str


@dataclass(frozen=True)
class Part:
    """The images of one domain in one phase, or of both where they lie side by side.

    Attributes:
        phase: ``train`` or ``test``.
        domain: ``A``, ``B``, ``A | B`` for both, or the key of a batch.
        source: Theirs.
        wanted: One, or those of A and B.
        preprocess: None where it isn't known.
        class_names: Empty if there are no labels.
        labels: One class number per image, or None.
        paired: Whether the images of A and of B with the same number are a pair.
        whole: How many there would be without ``data.fraction`` and ``data.max_size``; 0 if these leave all.
    """

    phase: str
    domain: str
    source: Source
    wanted: tuple[Wanted, ...]
    preprocess: Preprocess | None = None
    class_names: Sequence[str] = ()
    labels: Sequence[int] | None = None
    paired: bool = False
    whole: int = 0

    @property
    def title(self) -> str:
        """The phase, and the domain if there is more than one."""
        return self.phase if self.domain == "image" else f"{self.phase} {self.domain}"

    @property
    def readings(self) -> list[Wanted]:
        """The different ones of ``wanted``: halves that are read alike are read once."""
        return list({wanted._replace(suffix=""): wanted for wanted in reversed(self.wanted)}.values())[::-1]

    def shown(self) -> list[int]:
        """The numbers of the images that get a thumbnail, evenly from the first to the last."""
        size = len(self.source)
        return sorted(set(np.linspace(0, size - 1, min(THUMBNAILS, size)).round().astype(int).tolist()))


class Inspection(NamedTuple):
    """What one image is.

    Attributes:
        header: None if it can't be read.
        size: In bytes, as it is kept.
        digest: Of those bytes; empty if they were not all read.
        colour: Whether its channels differ; None where nobody looked.
        scaled: Height, width and bytes of what would be cached; None where that isn't known.
        unreadable: Why it can't be read, or not as the configuration has it; empty if it can.
        misfit: Why it can't be cut; empty if it can.
        thumbnail: (H, W, 1 or 3) uint8, or None.
    """

    header: Header | None
    size: int
    digest: bytes = b""
    colour: bool | None = None
    scaled: tuple[int, int, int] | None = None
    unreadable: str = ""
    misfit: str = ""
    thumbnail: Pixels | None = None


class ItemSource(Source):
    """The images of any data set as arrays, encoded.

    Args:
        dataset: Whose they are.
        key: Which of each item.
    """

    def __init__(self, dataset: ImageDataset, key: str) -> None:
        self._dataset = dataset
        self._key = key

    def __len__(self) -> int:
        return len(self._dataset)

    def name(self, index: int) -> str:
        """Its number."""
        return str(index)

    def location(self, index: int) -> str:
        """The same."""
        return f"{self._key} {index}"

    def open(self, index: int) -> bytes:
        """As a file of numpy's, (H, W, C)."""
        file = io.BytesIO()
        np.save(file, self._dataset.item(index, seed=0)[self._key].permute(1, 2, 0).numpy())
        return file.getvalue()

    def stamp(self, indices: Sequence[int]) -> str:
        """That of the data set."""
        return self._dataset.fingerprint


def inspect_images(part: Part, *, quick: bool) -> Iterator[Inspection]:
    """All images in their order, with a progress bar; decoded too, unless ``quick`` has their headers do."""
    shown = frozenset(part.shown())
    source = part.source

    def look(opened: tuple[int, EncodedImage | ConfigError]) -> Inspection:
        index, encoded = opened
        if isinstance(encoded, ConfigError):
            return Inspection(None, 0, unreadable=str(encoded))
        return _look(part, encoded, source.location(index), quick=quick, shown=index in shown)

    yield from in_parallel(look, _opened(source), total=len(source), label=f"check {part.title}")


def _opened(source: Source) -> Iterator[tuple[int, EncodedImage | ConfigError]]:
    """From one thread, which databases ask for."""
    for index in range(len(source)):
        try:
            yield index, source.open(index)
        except ConfigError as error:
            yield index, error


def _look(part: Part, encoded: EncodedImage, place: str, *, quick: bool, shown: bool) -> Inspection:
    header, size, digest = None, 0, b""
    try:
        if isinstance(encoded, Path) and not quick:
            encoded = encoded.read_bytes()  # once, for all that follows
        size = encoded.stat().st_size if isinstance(encoded, Path) else len(encoded)
        header = read_header(encoded, part.wanted[0].channels, place)
        misfit, scaled = _fit(part, header, place)
        if quick and not shown:
            return Inspection(header, size, scaled=scaled, misfit=misfit)
        pixels = [_read(encoded, wanted, place) for wanted in part.readings]
        if not quick and isinstance(encoded, bytes):
            digest = hashlib.blake2b(encoded, digest_size=16).digest()
        colour = None if quick else _is_colour(encoded, header, pixels[0], place)
    except OSError as error:
        return Inspection(header, size, unreadable=f"can't read the image {place}: {error.strerror or error}")
    except ConfigError as error:
        return Inspection(header, size, unreadable=str(error))
    return Inspection(
        header, size, digest, colour, scaled, misfit=misfit, thumbnail=_small(pixels[0]) if shown else None
    )


def _read(encoded: EncodedImage, wanted: Wanted, place: str) -> Pixels:
    decoded = decode(encoded, wanted.channels, place)
    return converted(decoded, ImageFormat(*wanted), place)


def _fit(part: Part, header: Header, place: str) -> tuple[str, tuple[int, int, int] | None]:
    """What is wrong with the size of an image, and what becomes of it."""
    height, width = header.height, header.width
    if len(part.wanted) == 2 and width % 2:
        return f"{place} is {width} pixels wide, which can't be halved into A and B", None
    if part.preprocess is None:
        return "", None
    height, width = part.preprocess.scaled_size(height, width // len(part.wanted))
    misfit = ""
    try:
        part.preprocess.cut(np.broadcast_to(np.uint8(0), (height, width, 1)), 0, name=place)
    except ConfigError as error:
        misfit = str(error)
    size = sum(
        height * width * wanted.channels * (4 if wanted.value_range else BYTES[wanted.depth])
        for wanted in part.readings
    )
    return misfit, (height, width, size * len(part.wanted))  # each reading is of both halves


def _is_colour(encoded: EncodedImage, header: Header, pixels: Pixels, place: str) -> bool:
    """Whether the stored channels differ, opacity aside."""
    if header.channels < 3:
        return False
    if pixels.shape[2] < 3:
        pixels = decode(encoded, 3, place).pixels
    return bool((pixels[..., :1] != pixels[..., 1:3]).any())


def _small(pixels: Pixels) -> Pixels:
    """(H, W, 1 or 3) uint8, its longer side at most ``THUMBNAIL``."""
    pixels = pixels[..., : 3 if pixels.shape[2] >= 3 else 1]
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        pixels = ((pixels + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    small = np.asarray(image)
    return small[..., None] if small.ndim == 2 else small
