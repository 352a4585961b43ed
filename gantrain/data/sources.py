"""Where encoded pictures come from."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

Encoded: TypeAlias = Path | bytes  # a file, or what one would hold


class Source(ABC):
    """Encoded pictures by number, from 0 on."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What the picture is called in the data set, with forward slashes."""

    @abstractmethod
    def open(self, index: int) -> Encoded:
        """What ``decode`` can read."""

    @abstractmethod
    def place(self, index: int) -> str:
        """How messages name the picture, so that one finds it."""

    @abstractmethod
    def stamp(self) -> str:
        """Differs whenever any of the encoded pictures, their names or their order may have changed."""


class FolderSource(Source):
    """Picture files.

    Args:
        folder: Names are relative to it.
        paths: Its pictures.
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

    def place(self, index: int) -> str:
        """The path."""
        return str(self.paths[index])

    def stamp(self) -> str:
        """From names, sizes and times of the last change."""
        digest = hashlib.blake2b(digest_size=16)
        for index, path in enumerate(self.paths):
            status = path.stat()
            digest.update(repr((self.name(index), status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()
