"""A file of decoded images: written whole or not at all, memory-mapped, shared by all processes that read it.

After the header come the images (channels, rows, columns), then three numbers for each of them (where it starts, rows
and columns; no rows for one that is not there), then a description in JSON.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from gantrain.data.images.decoding import Pixels
from gantrain.runtime.atomic import atomic, lock, remove_if_unused

SUFFIX = ".images"
MAGIC = b"gantrain"
VERSION = 1
DIGEST = 20  # bytes
# magic, version, channels, type, length of the file, where the numbers start, how many images; and the digest of all
# this, of the numbers and of the description
HEADER = struct.Struct(f"<8sIB7sQQQ{DIGEST}s")
ALIGNMENT = 64  # bytes: a line of the processor's cache


class ImageStore(ABC):
    """Decoded images by number."""

    @abstractmethod
    def get(self, index: int) -> Pixels | None:
        """(H, W, C), not to be written to; None if it is not there."""


class ImageFile(ImageStore):
    """The images of a file.

    Whoever holds one keeps the file from being removed by ``make_room``. Handed to a spawned process, it opens itself
    anew there; where that fails, it holds no images.

    Args:
        path: Of the file.
        description: What it must say of itself.

    Raises:
        OSError: There is no such file.
        ValueError: It is cut off, damaged, of another version, or says something else.
    """

    def __init__(self, path: Path, description: Mapping[str, Any]) -> None:
        self._path = path
        self._description = dict(description)
        with path.open("rb") as file:
            lock(file, exclusive=False)
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._file = os.dup(file.fileno())  # holds the lock
        self._read_header()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._path, self._description)

    def get(self, index: int) -> Pixels | None:
        """(H, W, C)."""
        start, height, width = self._index[index].tolist()
        if not height:
            return None
        count = self._channels * height * width
        planes = np.frombuffer(self._bytes, dtype=self._type, count=count, offset=start)
        return planes.reshape(self._channels, height, width).transpose(1, 2, 0)

    def _read_header(self) -> None:
        if len(self._bytes) < HEADER.size:
            raise ValueError(f"{self._path} is cut off")
        magic, version, self._channels, type_, length, start, count, digest = HEADER.unpack_from(self._bytes)
        if (magic, version, length) != (MAGIC, VERSION, len(self._bytes)):
            raise ValueError(f"{self._path} is cut off, or no cache of this version")
        self._index = np.frombuffer(self._bytes, dtype="<i8", count=3 * count, offset=start).reshape(-1, 3)
        described = self._bytes[start + self._index.nbytes :]
        if _digest(self._bytes[: HEADER.size - DIGEST], self._index.data, described) != digest:
            raise ValueError(f"{self._path} is damaged")
        if json.loads(described) != self._description:
            raise ValueError(f"{self._path} holds other images")
        self._type = np.dtype(type_.rstrip(b"\0").decode())


class NoImages(ImageStore):
    """What becomes of a file that is gone."""

    def get(self, index: int) -> Pixels | None:
        """None."""
        return None


def _reopened(path: Path, description: Mapping[str, Any]) -> ImageStore:
    try:
        return ImageFile(path, description)
    except (OSError, ValueError):
        return NoImages()


def write_images(path: Path, description: Mapping[str, Any], images: Iterable[Pixels | None]) -> None:
    """Write a file of images (H, W, C) of one type and number of channels; until it is whole it has another name.

    Raises:
        OSError: It can't be written; nothing of it stays.
    """
    with atomic(path) as file:
        file.write(bytes(HEADER.size))
        index: list[tuple[int, int, int]] = []
        channels, type_ = 0, np.dtype(np.uint8)
        for pixels in images:
            if pixels is None:
                index.append((0, 0, 0))
                continue
            assert not channels or (pixels.shape[2], pixels.dtype) == (channels, type_), "one type and channels"
            channels, type_ = pixels.shape[2], pixels.dtype
            index.append((_pad(file), *pixels.shape[:2]))
            file.write(np.ascontiguousarray(pixels.transpose(2, 0, 1)).data)
        start = _pad(file)
        numbers = np.array(index, dtype="<i8").tobytes()
        described = json.dumps(description).encode()
        file.write(numbers + described)
        fields = (MAGIC, VERSION, channels, type_.name.encode(), file.tell(), start, len(index))
        header = HEADER.pack(*fields, b"")[:-DIGEST]
        file.seek(0)
        file.write(header + _digest(header, numbers, described))


def make_room(folder: Path, needed: int, limit: float) -> None:
    """Remove what unfinished attempts left, then the files used longest ago until ``needed`` bytes fit in the limit.

    What a process reads or writes stays, so that it may be in vain.
    """
    for path in _files(folder):
        if path.suffix != SUFFIX:
            remove_if_unused(path)
    files = _files(folder)
    total = sum(status.st_size for status in files.values())
    for path in sorted(files, key=lambda path: files[path].st_mtime):
        if total + needed <= limit:
            return
        if path.suffix == SUFFIX and remove_if_unused(path):
            total -= files[path].st_size


def taken(folder: Path) -> int:
    """Bytes that the files of a folder take."""
    return sum(status.st_size for status in _files(folder).values())


def _files(folder: Path) -> dict[Path, os.stat_result]:
    """Those that are still there when they are looked at."""
    found = {}
    for path in folder.iterdir():
        with suppress(OSError):
            found[path] = path.stat()
    return found


def _pad(file: IO[bytes]) -> int:
    file.write(bytes(-file.tell() % ALIGNMENT))
    return file.tell()


def _digest(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST)
    for part in parts:
        digest.update(part)
    return digest.digest()
