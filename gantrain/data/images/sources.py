"""Where encoded images come from."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

EncodedImage: TypeAlias = Path | bytes  # An image file, or its content.


def state_of(status: os.stat_result) -> tuple[int, ...]:
    """Numbers that differ if a file was changed or replaced, whatever its size and modification time are set to."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


class Source(ABC):
    """A sequence of encoded images."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The name of an image in the data set, with forward slashes."""

    @abstractmethod
    def open(self, index: int) -> EncodedImage:
        """An image, for ``decode``."""

    @abstractmethod
    def location(self, index: int) -> str:
        """The location of an image in messages."""

    def keep(self, limit: float) -> None:
        """Keep at most so many bytes of images that are read from elsewhere on the disk."""

    @abstractmethod
    def stamp(self, indices: Sequence[int]) -> str:
        """A digest that changes whenever the content, location, name or order of these images may have changed."""


class FileSource(Source):
    """Image files."""

    folder: Path  # Names are relative to it.

    @abstractmethod
    def open(self, index: int) -> Path:
        """The path of an image, which may be missing."""

    def location(self, index: int) -> str:
        return str(self.open(index))

    def stamp(self, indices: Sequence[int]) -> str:
        """A digest of the folder's path, and of the names and states of these files.

        Missing files are reported when they are read.
        """
        digest = hashlib.blake2b(os.fsencode(self.folder.resolve()) + b"\0", digest_size=16)
        for index in indices:
            known: tuple[str | int, ...] = (self.name(index),)
            with suppress(OSError):
                known += state_of(self.open(index).stat())
            digest.update(repr(known).encode())
        return digest.hexdigest()


class FolderSource(FileSource):
    """Files that were found in a folder."""

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        self.folder = folder
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return self.paths[index].relative_to(self.folder).as_posix()

    def open(self, index: int) -> Path:
        return self.paths[index]
