"""Files of named arrays and a JSON description, memory-mapped by any number of processes.

Layout: the header, the first array, the checksums of its blocks, the other arrays, and a table of contents in JSON; all
at multiples of 8 bytes. The checksum of the header covers everything except the first array, which may be large: its
blocks are verified when they are read.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gantrain.errors import ConfigError
from gantrain.runtime.atomic import atomic_write, try_lock

MAGIC = b"gantrain"
VERSION = 3
CHECKSUM = 16  # In bytes.
# The magic bytes, the version, the size of the file, the offsets of the checked part and of the table, the checksum.
HEADER = struct.Struct(f"<8sQQQQ{CHECKSUM}s")
BLOCK = 1 << 16  # In bytes.


class MappedFile:
    """A file of ``write_mapped_file``, read-only. While it is open it is locked against ``remove_if_unused``.

    Attributes:
        arrays: One-dimensional, by name, in the order in which they were begun; read from the disk when accessed. Call
            ``verify`` before elements of the first one are used.
        description: The description that was written.

    Raises:
        OSError: It can't be read.
        ValueError: It is truncated, corrupt, or of another version or kind.
    """

    def __init__(self, path: Path, kind: str) -> None:
        with path.open("rb") as file:
            try_lock(file, exclusive=False)  # Until the map is closed, which duplicates the descriptor.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(data) < HEADER.size:
            raise ValueError(f"{path} is truncated")
        magic, version, size, checked, table, checksum = HEADER.unpack_from(data)
        if (magic, version, size) != (MAGIC, VERSION, len(data)):
            raise ValueError(f"{path} is truncated, or of another version")
        with memoryview(data) as view, view[checked:] as part:
            if _checksum([data[: HEADER.size - CHECKSUM], part]) != checksum:
                raise ValueError(f"checksum mismatch in {path}")
        contents = json.loads(data[table:])
        if contents["kind"] != kind:
            raise ValueError(f"{path} is a file of {contents['kind']}, not of {kind}")
        self.description: dict[str, Any] = contents["description"]
        self.arrays: dict[str, NDArray[Any]] = {
            name: np.frombuffer(data, dtype, count, offset)
            for name, (dtype, offset, count) in contents["arrays"].items()
        }
        self._path = path
        self._first = memoryview(data)[HEADER.size : HEADER.size + contents["first_size"]]
        self._checksums = np.frombuffer(data, "<u4", -(-contents["first_size"] // BLOCK), checked)
        self._verified = np.zeros(len(self._checksums), dtype=bool)

    def verify(self, start: int, stop: int) -> None:
        """Verify the bytes from ``start`` to ``stop`` of the first array, each block of them once in this process.

        Raises:
            ConfigError: They are not those that were written.
        """
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            if not self._verified[block]:
                if zlib.crc32(self._first[block * BLOCK : (block + 1) * BLOCK]) != self._checksums[block]:
                    raise ConfigError(f"{self._path} is corrupt: delete it; the next run builds it again")
                self._verified[block] = True


class MappedFileWriter:
    """Arrays that grow in constant memory: the first one in the file itself, the others in temporary files.

    Attributes:
        description: Plain values, to be set before the file is finished.
    """

    def __init__(self, file: IO[bytes], folder: Path) -> None:
        self.description: Mapping[str, Any] = {}
        self._file = file
        self._folder = folder
        self._parts: dict[str, tuple[np.dtype[Any], IO[bytes]]] = {}
        self._checksums = _BlockChecksums()
        file.write(bytes(HEADER.size))

    def append(self, name: str, values: NDArray[Any]) -> None:
        """Append values, flattened, to an array; its type is that of the first ones."""
        if name not in self._parts:
            file = tempfile.TemporaryFile(dir=self._folder) if self._parts else self._file  # noqa: SIM115
            self._parts[name] = values.dtype, file
        dtype, file = self._parts[name]
        assert values.dtype == dtype, f"{name} holds {dtype}"
        content = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        file.write(content)
        if file is self._file:
            self._checksums.update(content)

    def finish(self, kind: str) -> None:
        """Write the other arrays, the table of contents and the header."""
        first_size = self._file.tell() - HEADER.size
        checked = self._align()
        self._file.write(self._checksums.finish())
        arrays: dict[str, tuple[str, int, int]] = {}
        for name, (dtype, part) in self._parts.items():
            start, size = HEADER.size, first_size
            if part is not self._file:
                start = self._align()
                part.seek(0)
                shutil.copyfileobj(part, self._file)
                size = self._file.tell() - start
                part.close()
            arrays[name] = dtype.str, start, size // dtype.itemsize
        table = self._align()
        contents = {"kind": kind, "first_size": first_size, "arrays": arrays, "description": self.description}
        self._file.write(json.dumps(contents).encode())
        header = HEADER.pack(MAGIC, VERSION, self._file.tell(), checked, table, b"")[:-CHECKSUM]
        self._file.seek(checked)
        checksum = _checksum(chain([header], iter(lambda: self._file.read(BLOCK), b"")))
        self._file.seek(0)
        self._file.write(header + checksum)

    def _align(self) -> int:
        self._file.write(bytes(-self._file.tell() % 8))
        return self._file.tell()


class _BlockChecksums:
    """The CRC-32 of each block of a stream of bytes."""

    def __init__(self) -> None:
        self._complete = bytearray()
        self._current, self._length = 0, 0

    def update(self, content: memoryview) -> None:
        while content:
            part, content = content[: BLOCK - self._length], content[BLOCK - self._length :]
            self._current, self._length = zlib.crc32(part, self._current), self._length + len(part)
            if self._length == BLOCK:
                self._complete_block()

    def finish(self) -> bytes:
        """The checksums, the last of which may be that of an incomplete block."""
        if self._length:
            self._complete_block()
        return bytes(self._complete)

    def _complete_block(self) -> None:
        self._complete += struct.pack("<I", self._current)
        self._current, self._length = 0, 0


@contextmanager
def write_mapped_file(path: Path, kind: str) -> Iterator[MappedFileWriter]:
    """Write a file atomically: it exists only if the block succeeds."""
    with atomic_write(path) as file:
        writer = MappedFileWriter(file, path.parent)
        yield writer
        writer.finish(kind)


def _checksum(parts: Iterable[bytes | memoryview]) -> bytes:
    digest = hashlib.blake2b(digest_size=CHECKSUM)
    for part in parts:
        digest.update(part)
    return digest.digest()
