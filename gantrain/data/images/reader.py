"""The images of one domain: encoded ones from a source, read in the channels and depth of the data set."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from torch import Tensor

from gantrain.data.errors import MAX_CONSECUTIVE_ERRORS, as_config_error
from gantrain.data.images.cache import Cache, DecodeJob, Subset
from gantrain.data.images.cache_file import ImageStore
from gantrain.data.images.convert import ValueRange, converted, needs_range, stored_depth
from gantrain.data.images.decoding import Pixels, decode
from gantrain.data.images.sources import Encoded, Source
from gantrain.data.images.transforms import Preprocess
from gantrain.errors import ConfigError

T = TypeVar("T")
MOST_PIXELS = 100_000_000  # of an image that was made larger
Depth: TypeAlias = Literal["auto", "uint8", "uint16", "float32"]


@dataclass(frozen=True)
class Reading:
    """How the images of a domain are read.

    Attributes:
        channels: Wanted.
        depth: Of the data set, never ``auto``.
        value_range: The stored values that become -1 and 1; None for the whole range of the type.
        convert: Whether files of 16 bits may be rounded to 8.
    """

    channels: int
    depth: str
    value_range: ValueRange | None
    convert: bool

    @property
    def as_stored_in_8_bits(self) -> bool:
        """Whether values of 8 bits stay as they are, and all others are refused or rounded to them."""
        return self.depth == "uint8" and self.value_range is None


class ImageReader:
    """The images of one domain.

    Args:
        source: Its encoded images, at least one.
        channels: Wanted.
        depth: ``auto`` for that of the first image that can be read; files of 16 bits are converted to 8 only if it
            is given.
        value_range: The stored values that become -1 and 1; None for the whole range of the type.
        suffix: Of the keys that messages name: ``_b`` for ``data.channels_b``.
        columns: Into how many images of the same width each is divided.

    Raises:
        ConfigError: The range is none, or is missing.
    """

    def __init__(
        self,
        source: Source,
        *,
        channels: int,
        depth: Depth,
        value_range: ValueRange | None,
        suffix: str = "",
        columns: int = 1,
    ) -> None:
        if value_range is not None and not -math.inf < value_range[0] < value_range[1] < math.inf:
            raise ConfigError(f"data.range{suffix}={list(value_range)}: the first number must be less than the second")
        self._source = source
        self._indices: Sequence[int] = range(len(source))
        self._suffix = suffix
        self._columns = columns
        self._kept: ImageStore | None = None
        found, place = self._of_first(self._stored_depth) if depth == "auto" else (depth, "")
        if place and found == "float32" and value_range is None:
            raise needs_range(place, suffix)
        self.reading = Reading(channels, found, value_range, convert=depth != "auto")

    @property
    def source(self) -> Source:
        """All encoded images of the domain."""
        return self._source

    def __len__(self) -> int:
        return len(self._indices)

    def open(self, index: int) -> Encoded:
        """The encoded image."""
        return self._source.open(self._indices[index])

    def convert(self, encoded: Encoded, place: str) -> Pixels:
        """An encoded image, called ``place`` in messages, in the data set's channels and depth: (H, W, C), unscaled."""
        decoded = decode(encoded, self.reading.channels, place)
        return converted(decoded, **vars(self.reading), place=place, suffix=self._suffix)

    def name(self, index: int) -> str:
        """What the image is called in the data set, with forward slashes: for a file, its path below the folder."""
        return self._source.name(self._indices[index])

    def location(self, index: int) -> str:
        """How messages name the image, in one line."""
        place = self._source.location(self._indices[index])
        return place if place.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in place)

    def part(self, indices: Sequence[int]) -> ImageReader:
        """The same with these images alone, of which none are in a cache yet."""
        part = copy.copy(self)
        part._kept = None
        part._indices = [self._indices[index] for index in indices]
        return part

    def nominal_size(self, preprocess: Preprocess) -> tuple[int, int]:
        """Height and width of the first image as it goes to the networks; of all, where they are cut."""
        if preprocess.cuts:
            return preprocess.crop_size
        height, width, _ = self._of_first(lambda index: self.scaled(index, preprocess)[0].shape)
        return height, width

    def _stored_depth(self, index: int) -> tuple[str, str]:
        """And where it was found."""
        return stored_depth(self._source.open(index), self.location(index)), self.location(index)

    def _of_first(self, look: Callable[[int], T]) -> T:
        """What ``look`` finds in the first image that can be read: a broken one may be no error, or one for later."""
        broken = None
        for index in range(min(MAX_CONSECUTIVE_ERRORS, len(self))):
            try:
                return look(index)
            except ConfigError as error:
                broken = broken or error
        raise broken or ConfigError("no images")

    @property
    def is_kept(self) -> bool:
        """Whether images are decoded already."""
        return self._kept is not None

    @property
    def names(self) -> list[str]:
        """Of all its images, in their order."""
        return [self.name(index) for index in range(len(self))]

    def prepared(self, index: int, preprocess: Preprocess, seed: int) -> Tensor:
        """(C, H, W)."""
        return preprocess.cut(self.scaled(index, preprocess)[0], seed, name=self.location(index))

    def scaled(self, index: int, preprocess: Preprocess) -> list[Pixels]:
        """The columns of an image, each (H, W, C), as ``Preprocess.scaled`` leaves them."""
        kept = None if self._kept is None else self._kept.get(index)
        joined = self.decoded(index, preprocess) if kept is None else kept
        return np.split(joined, self._columns, axis=1) if self._columns > 1 else [joined]

    def decoded(self, index: int, preprocess: Preprocess) -> Pixels:
        """What a cache keeps: the scaled columns side by side, (H, W, C), from the encoded image."""
        place, columns = self.location(index), self._columns

        def shrink(height: int, width: int) -> int:
            factor = preprocess.shrink(height, width // columns) if self.reading.as_stored_in_8_bits else 1
            return factor if columns == 1 or width % (columns * factor) == 0 else 1

        with as_config_error(f"read the image {place}"):
            decoded = decode(self._source.open(self._indices[index]), self.reading.channels, place, shrink)
            pixels = converted(decoded, **vars(self.reading), place=place, suffix=self._suffix)
            reduction = decoded.reduction
            before = (reduction or pixels.shape)[:2]
            height, width = preprocess.scaled_size(before[0], max(1, before[1] // columns))
            if height * width > max(MOST_PIXELS, before[0] * before[1]):
                raise ConfigError(
                    f"{place} would have {height} x {width} pixels once it is scaled: leave it out, or give a smaller "
                    "data.load_size, or data.preprocess=resize_and_crop"
                )
            if columns == 1:
                return preprocess.scaled(pixels, reduction)
            if pixels.shape[1] % columns:
                raise ConfigError(f"{place} is {pixels.shape[1]} pixels wide, which can't be halved into A and B")
            if reduction is not None:
                reduction = reduction._replace(width=reduction.width // columns)
            return np.hstack([preprocess.scaled(column, reduction) for column in np.split(pixels, columns, axis=1)])

    def use_cache(self, cache: Cache, preprocess: Preprocess, indices: Sequence[int] | None = None) -> None:
        """Take images from ``cache`` from now on, for which they are decoded once.

        Args:
            cache: Where.
            preprocess: The one of all calls to come.
            indices: Of the images that are wanted; None for all.

        Raises:
            ConfigError: An image can't be read, or a cache that was asked for can't be had.
        """
        numbers = np.unique(np.arange(len(self)) if indices is None else np.asarray(indices))
        chosen = np.asarray(self._indices)[numbers]

        def identity() -> dict[str, Any]:
            return {
                "source": self._source.stamp(chosen.tolist()),
                "images": hashlib.blake2b(chosen.astype("<i8").tobytes(), digest_size=16).hexdigest(),
                "columns": self._columns,
                **vars(self.reading),
                "value_range": self.reading.value_range and list(self.reading.value_range),
                **preprocess.scaling,
            }

        more = "" if len(numbers) == 1 else f" and {len(numbers) - 1:,} more"
        work = DecodeJob(
            label=self.location(int(numbers[0])) + more,
            identity=identity,
            count=len(numbers),
            decode=lambda place: self.decoded(int(numbers[place]), preprocess),
        )
        kept = cache.get_or_build(work)
        self._kept = Subset(kept, numbers) if kept is not None and len(numbers) < len(self) else kept
