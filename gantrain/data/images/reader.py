"""The images of one domain, read in the channels and depth of the data set, or taken from a cache."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from gantrain.data.errors import MAX_CONSECUTIVE_ERRORS, as_config_error
from gantrain.data.images.convert import ImageFormat, ValueRange, converted, needs_range, share_outside
from gantrain.data.images.decoding import decode, image_errors
from gantrain.data.images.deferred import Deferred, jpeg_size
from gantrain.data.images.headers import read_header
from gantrain.data.images.remote import UnreachableConfigError
from gantrain.data.images.sources import EncodedImage, Source
from gantrain.data.images.store import DecodeJob, ImageCache, ImageStore, Pixels
from gantrain.data.images.transforms import Preprocess
from gantrain.errors import ConfigError
from gantrain.runtime import distributed

T = TypeVar("T")
MAX_PIXELS = 100_000_000  # The maximum size of an enlarged image.
MAX_CLIPPED = 0.5  # The share of values outside data.range from which on there is a warning.
Depth: TypeAlias = Literal["auto", "uint8", "uint16", "float32"]


class ImageReader:
    """The images of one domain.

    Args:
        source: Its encoded images, at least one.
        channels: Number of channels of the data set.
        depth: ``auto`` for that of the first readable image; files of 16 bits are converted to 8 only if a depth is
            given.
        value_range: The stored values that become -1 and 1; None for the whole range of the type.
        suffix: The end of keys in messages: ``_b`` for ``data.channels_b``.
        columns: Number of images of the same width into which each stored image is divided.

    Attributes:
        format: The format to which images are converted.
        source: All encoded images of the domain.
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
        self.source = source
        self._indices: Sequence[int] = range(len(source))
        self._columns = columns
        self._store: ImageStore | None = None
        self._defers = False
        self.format = ImageFormat(channels, depth, value_range, depth != "auto", suffix)
        if depth == "auto":
            stored, location = self._of_first(self._stored_depth)
            if stored == "float32" and value_range is None:
                raise needs_range(location, suffix)
            self.format = replace(self.format, depth=stored)
            if value_range is not None:
                self._of_first(self._warn_of_clipping)

    def __len__(self) -> int:
        return len(self._indices)

    def open(self, index: int) -> EncodedImage:
        """The encoded image."""
        return self.source.open(self._indices[index])

    def name(self, index: int) -> str:
        """The name of an image in the data set, with forward slashes: for a file, its path below the folder."""
        return self.source.name(self._indices[index])

    def location(self, index: int) -> str:
        """The location of an image in messages, in one line."""
        location = self.source.location(self._indices[index])
        if location.isprintable():
            return location
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in location)

    def subset(self, indices: Sequence[int]) -> ImageReader:
        """A reader of these images alone, none of them cached yet."""
        subset = self.uncached()
        subset._indices = [self._indices[index] for index in indices]
        return subset

    def uncached(self) -> ImageReader:
        """A reader of the same images, none of them cached yet."""
        other = copy.copy(self)
        other._store = None
        return other

    def deferring(self) -> ImageReader:
        """A reader that leaves decoding to the device of the run where ``Deferred`` can describe an image."""
        other = self.uncached()
        other._defers = True
        return other

    def nominal_size(self, preprocess: Preprocess) -> tuple[int, int]:
        """Height and width of the first image as networks get it; of all images if they are cropped."""
        if preprocess.cuts:
            return preprocess.crop_size
        height, width, _ = self._of_first(lambda index: self.scaled(index, preprocess)[0].shape)
        return height, width

    def _stored_depth(self, index: int) -> tuple[str, str]:
        location = self.location(index)
        return read_header(self.source.open(index), self.format.channels, location).depth, location

    def _warn_of_clipping(self, index: int) -> None:
        """Print a warning if the range does not contain most of the values of an image."""
        location, value_range, suffix = self.location(index), self.format.value_range, self.format.suffix
        decoded = decode(self.open(index), self.format.channels, location)
        converted(decoded, self.format, location)
        if value_range is not None and (share := share_outside(decoded.pixels, value_range)) > MAX_CLIPPED:
            least, largest = decoded.pixels.min(), decoded.pixels.max()
            distributed.print_rank_zero(
                f"warning: data.range{suffix}={list(value_range)}: {share:.0%} of the values of {location} are outside "
                f"({least:g} to {largest:g}) and become black or white; data.range{suffix}=[LOW,HIGH] is another range"
            )

    def _of_first(self, inspect: Callable[[int], T]) -> T:
        """What ``inspect`` returns for the first readable image: corrupt ones may be skipped, or reported later."""
        first_error = None
        for index in range(min(MAX_CONSECUTIVE_ERRORS, len(self))):
            try:
                return inspect(index)
            except UnreachableConfigError:
                raise
            except ConfigError as error:
                first_error = first_error or error
        raise first_error or ConfigError("no images")

    def stamp(self) -> str:
        """Changes whenever one of the encoded images may have changed."""
        return self.source.stamp(self._indices)

    @property
    def is_cached(self) -> bool:
        """Whether images are taken from a cache."""
        return self._store is not None

    @property
    def names(self) -> list[str]:
        """The names of all images."""
        return [self.name(index) for index in range(len(self))]

    def prepared(self, index: int, preprocess: Preprocess, seed: int) -> Tensor | Deferred:
        """An image (C, H, W), scaled, cropped and flipped; deferred only by a reader that does so."""
        return preprocess.cut(self.scaled(index, preprocess)[0], seed, name=self.location(index))

    def scaled(self, index: int, preprocess: Preprocess) -> list[Pixels] | list[Deferred]:
        """The columns of an image, each (H, W, C), as ``Preprocess.scaled`` returns them."""
        if self._defers and self.format.keeps_8_bits and (deferred := self._deferred(index, preprocess)):
            return deferred
        stored = None if self._store is None else self._store.get(index)
        joined = self.decoded(index, preprocess) if stored is None else stored
        return np.split(joined, self._columns, axis=1) if self._columns > 1 else [joined]

    def _deferred(self, index: int, preprocess: Preprocess) -> list[Deferred]:
        """The columns of an image; none if it has to be decoded here."""
        encoded, location, columns = self.open(index), self.location(index), self._columns
        with image_errors(encoded, location):
            content = encoded.read_bytes() if isinstance(encoded, Path) else encoded
            size = jpeg_size(content, self.format.channels)
        if size is None or size[1] % columns:
            return []
        scaled = _scaled_size(preprocess, size[0], size[1] // columns, location)
        return [Deferred(content, self.format.channels, scaled, column, columns) for column in range(columns)]

    def decoded(self, index: int, preprocess: Preprocess) -> Pixels:
        """The scaled columns side by side, (H, W, C), decoded: what a cache stores."""
        location, columns = self.location(index), self._columns

        def shrink(height: int, width: int) -> int:
            factor = preprocess.shrink(height, width // columns) if self.format.keeps_8_bits else 1
            return factor if columns == 1 or width % (columns * factor) == 0 else 1

        with as_config_error(f"read the image {location}"):
            decoded = decode(self.source.open(self._indices[index]), self.format.channels, location, shrink)
            reduction = decoded.reduction
            height, width = (reduction or decoded.size)[:2]
            _scaled_size(preprocess, height, max(1, width // columns), location)
            if columns == 1 and isinstance(decoded.source, Image.Image) and self.format.has(decoded.source):
                return preprocess.scaled(decoded.source, reduction)
            pixels = converted(decoded, self.format, location)
            if columns == 1:
                return preprocess.scaled(pixels, reduction)
            if pixels.shape[1] % columns:
                raise ConfigError(f"{location} is {pixels.shape[1]} pixels wide, which can't be halved into A and B")
            if reduction is not None:
                reduction = reduction._replace(width=reduction.width // columns)
            return np.hstack([preprocess.scaled(column, reduction) for column in np.split(pixels, columns, axis=1)])

    def use_cache(self, cache: ImageCache, preprocess: Preprocess, indices: Sequence[int] | None = None) -> None:
        """Take images from a cache from now on, for which those at ``indices`` (None for all) are decoded once.

        All later calls must have the same ``preprocess``.
        """
        wanted = np.unique(np.arange(len(self)) if indices is None else np.asarray(indices))
        in_source = np.asarray(self._indices)[wanted]

        def identity() -> dict[str, Any]:
            value_range = self.format.value_range
            return {
                "source": self.source.stamp(in_source.tolist()),
                "images": hashlib.blake2b(in_source.astype("<i8").tobytes(), digest_size=16).hexdigest(),
                "columns": self._columns,
                "channels": self.format.channels,
                "depth": self.format.depth,
                "convert": self.format.convert,
                "value_range": value_range and list(value_range),
                **preprocess.scaling,
            }

        label = self.location(int(wanted[0])) + (f" and {len(wanted) - 1:,} more" if len(wanted) > 1 else "")
        job = DecodeJob(label, identity, wanted, decode=lambda index: self.decoded(index, preprocess))
        self._store = cache.get_or_build(job)


def _scaled_size(preprocess: Preprocess, height: int, width: int, location: str) -> tuple[int, int]:
    """``Preprocess.scaled_size``, or a ConfigError if that is enormous."""
    scaled = preprocess.scaled_size(height, width)
    if scaled[0] * scaled[1] > max(MAX_PIXELS, height * width):
        raise ConfigError(
            f"{location} would be scaled to {scaled[0]} x {scaled[1]} pixels: leave it out, or give a smaller "
            "data.load_size, or data.preprocess=resize_and_crop"
        )
    return scaled
