"""Where encoded images come from."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

Encoded: TypeAlias = Path | bytes  # a file, or what one would hold


class Source(ABC):
    """Encoded images by number, from 0 on."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What the image is called in the data set, with forward slashes."""

    @abstractmethod
    def open(self, index: int) -> Encoded:
        """What ``decode`` can read."""

    @abstractmethod
    def location(self, index: int) -> str:
        """How messages name the image, so that one finds it."""

    @abstractmethod
    def stamp(self, indices: Sequence[int]) -> str:
        """Differs whenever any of these encoded images, their place, names or order may have changed."""


class Files(Source):
    """Image files.

    Attributes:
        folder: Names are relative to it.
    """

    folder: Path

    @abstractmethod
    def open(self, index: int) -> Path:
        """The file, which may be missing."""

    def location(self, index: int) -> str:
        """The path."""
        return str(self.open(index))

    def stamp(self, indices: Sequence[int]) -> str:
        """From names, sizes and times of the last change; what is missing is told when it is read.

        And from the place: the files of two data sets, or domains, may well be equal in all of that (BMPs unpacked by
        a program that sets their times).
        """
        digest = hashlib.blake2b(os.fsencode(self.folder.resolve()) + b"\0", digest_size=16)
        for index in indices:
            known: tuple[str | int, ...] = (self.name(index),)
            with suppress(OSError):
                status = self.open(index).stat()
                known += (status.st_size, status.st_mtime_ns)
            digest.update(repr(known).encode())
        return digest.hexdigest()


class FolderSource(Files):
    """Files that were found in a folder.

    Args:
        folder: Names are relative to it.
        paths: Its images.
    """

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        self.folder = folder
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path below the folder."""
        return self.paths[index].relative_to(self.folder).as_posix()

    def open(self, index: int) -> Path:
        """The file."""
        return self.paths[index]


class Chosen(Source):
    """Some of the images of a source.

    Args:
        source: Theirs.
        indices: Their numbers there.
    """

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self._source = source
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def name(self, index: int) -> str:
        """As in the whole."""
        return self._source.name(self._indices[index])

    def open(self, index: int) -> Encoded:
        """As in the whole."""
        return self._source.open(self._indices[index])

    def location(self, index: int) -> str:
        """As in the whole."""
        return self._source.location(self._indices[index])

    def stamp(self, indices: Sequence[int]) -> str:
        """As in the whole."""
        return self._source.stamp([self._indices[index] for index in indices])
