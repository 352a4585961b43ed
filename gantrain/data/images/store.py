"""Decoded images by number, in memory or in a memory-mapped file, and the interface of what builds such stores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gantrain.runtime.mapped_file import MappedFile, write_mapped_file

Pixels: TypeAlias = NDArray[Any]  # (H, W, C)
KIND = "decoded images"


class ImageStore(ABC):
    """Decoded images by number."""

    @abstractmethod
    def get(self, index: int) -> Pixels | None:
        """A read-only image (H, W, C), or None if it is not stored."""


@dataclass(frozen=True)
class DecodeJob:
    """Images to be decoded once and stored.

    Attributes:
        label: Their name in messages.
        identity: Returns plain values that determine the decoded images; may access every file.
        count: Number of images.
        decode: Decodes an image by number, to (H, W, C). Called in threads.
    """

    label: str
    identity: Callable[[], Mapping[str, Any]]
    count: int
    decode: Callable[[int], Pixels]


class ImageCache(ABC):
    """What data sets take decoded images from; see ``gantrain.data.images.cache.Cache``."""

    @abstractmethod
    def get_or_build(self, job: DecodeJob) -> ImageStore | None:
        """The images of a job, decoded now unless they are stored; None if they are not to be stored.

        Raises:
            ConfigError: An image can't be read, or a cache that was asked for does not fit.
            KeyboardInterrupt: The run is to stop.
        """


@dataclass(frozen=True)
class MemoryStore(ImageStore):
    """Images in the memory of this process and of its forks; a spawned process gets a copy."""

    images: list[Pixels | None]

    def get(self, index: int) -> Pixels | None:
        return self.images[index]


@dataclass(frozen=True)
class SubsetStore(ImageStore):
    """Some images of a data set, stored without gaps.

    Attributes:
        store: The images.
        indices: Their numbers in the data set, ascending.
    """

    store: ImageStore
    indices: NDArray[np.int64]

    def get(self, index: int) -> Pixels | None:
        position = int(np.searchsorted(self.indices, index))
        found = position < len(self.indices) and self.indices[position] == index
        return self.store.get(position) if found else None


class FileStore(ImageStore):
    """The images of a file of ``write_images``, which is not evicted while it is open.

    Pickled to another process, it opens the file again there; if that fails, it is empty.

    Args:
        path: The file.
        description: What it must have been written with.

    Raises:
        OSError: It can't be read.
        ValueError: It is truncated, corrupt, of another version, or holds other images.
    """

    def __init__(self, path: Path, description: Mapping[str, Any]) -> None:
        self._opened_with = path, dict(description)
        file = MappedFile(path, KIND)
        if file.description != description:
            raise ValueError(f"{path} holds other images")
        self._pixels = file.arrays.get("pixels", np.empty(0))
        self._index = file.arrays["index"].reshape(-1, 4)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, self._opened_with

    def get(self, index: int) -> Pixels | None:
        start, channels, height, width = self._index[index].tolist()
        planes = self._pixels[start : start + channels * height * width]
        return planes.reshape(channels, height, width).transpose(1, 2, 0) if height else None


class EmptyStore(ImageStore):
    """Replaces a file that was deleted."""

    def get(self, index: int) -> Pixels | None:
        return None


def _reopen(path: Path, description: Mapping[str, Any]) -> ImageStore:
    try:
        return FileStore(path, description)
    except (OSError, ValueError):
        return EmptyStore()


def write_images(path: Path, description: Mapping[str, Any], images: Iterable[Pixels | None]) -> None:
    """Write a file of images (H, W, C) of one type atomically, in constant memory.

    Raises:
        OSError: It can't be written; nothing of it is left.
    """
    with write_mapped_file(path, KIND) as file:
        file.description = description
        start = 0
        index: list[tuple[int, int, int, int]] = []
        for pixels in images:
            if pixels is None:
                index.append((0, 0, 0, 0))
                continue
            planes = pixels.transpose(2, 0, 1)
            index.append((start, *planes.shape))
            start += planes.size
            file.append("pixels", planes)
        file.append("index", np.array(index, dtype=np.int64))
