"""Decoded images by number, in memory or in a memory-mapped file, and the interface of what builds such stores."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gantrain.errors import ConfigError
from gantrain.runtime import console
from gantrain.runtime.mapped_file import MappedFile, write_mapped_file

Pixels: TypeAlias = NDArray[Any]  # (H, W, C)
KIND = "decoded images"


class ImageStore(Protocol):
    """Decoded images by their numbers in a data set; a dictionary is one."""

    def get(self, index: int, /) -> Pixels | None:
        """A read-only image (H, W, C), or None if it is not stored."""


@dataclass(frozen=True)
class DecodeJob:
    """Images to be decoded once and stored."""

    label: str  # Their name in messages.
    # Returns plain values that determine the decoded images; may access every file.
    identity: Callable[[], Mapping[str, Any]]
    indices: NDArray[np.int64]  # The numbers of the images in their data set, ascending.
    decode: Callable[[int], Pixels]  # Decodes an image by number, to (H, W, C). Called in threads.


class ImageCache(ABC):
    """What data sets take decoded images from; see ``gantrain.data.images.cache.Cache``."""

    @abstractmethod
    def get_or_build(self, job: DecodeJob) -> ImageStore | None:
        """The images of a job, decoded now unless they are stored; None if they are not to be stored.

        Raises:
            ConfigError: An image can't be read, or a cache that was asked for does not fit.
            KeyboardInterrupt: The run is to stop.
        """


class FileStore:
    """The images of a file of ``write_images``, which is not evicted while it is open.

    Pickled to another process, it opens the file again there, or becomes empty if the file was deleted.

    Raises:
        OSError: It can't be read.
        ValueError: It is corrupt, or was written with another description.
    """

    def __init__(self, path: Path, description: Mapping[str, Any]) -> None:
        self._opened_with = path, dict(description)
        self._file = file = MappedFile(path, KIND)
        if file.description != description:
            raise ValueError(f"{path} holds other images")
        self._pixels = file.arrays.get("pixels", np.empty(0))
        self._numbers = file.arrays["numbers"]
        self._layout = file.arrays["layout"].reshape(-1, 4)
        self._discarded = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, self._opened_with

    def get(self, index: int, /) -> Pixels | None:
        """A read-only image (H, W, C), or None if it is not stored, or corrupt: then the next run builds the file."""
        position = int(np.searchsorted(self._numbers, index))
        if position == len(self._numbers) or self._numbers[position] != index:
            return None
        start, *shape = self._layout[position].tolist()
        stop, size = start + math.prod(shape), self._pixels.itemsize
        try:
            self._file.verify(start * size, stop * size)
        except ConfigError:
            self._discard()
            return None
        planes = self._pixels[start:stop]
        return planes.reshape(shape).transpose(1, 2, 0)

    def _discard(self) -> None:
        if not self._discarded:
            self._discarded, path = True, self._opened_with[0]
            console.err(f"warning: {path} is corrupt; corrupt images are decoded again, and the file by the next run")
            with suppress(OSError):
                path.unlink()


def _reopen(path: Path, description: Mapping[str, Any]) -> ImageStore:
    try:
        return FileStore(path, description)
    except (OSError, ValueError):
        return {}


def write_images(path: Path, description: Mapping[str, Any], images: Iterable[tuple[int, Pixels]]) -> None:
    """Write a file of images (H, W, C) of one type and their ascending numbers atomically, in constant memory."""
    with write_mapped_file(path, KIND) as file:
        file.description = description
        start = 0
        numbers: list[int] = []
        layout: list[tuple[int, ...]] = []
        for number, pixels in images:
            planes = pixels.transpose(2, 0, 1)
            file.append("pixels", planes)
            numbers.append(number)
            layout.append((start, *planes.shape))
            start += planes.size
        file.append("numbers", np.array(numbers, dtype=np.int64))
        file.append("layout", np.array(layout, dtype=np.int64))
