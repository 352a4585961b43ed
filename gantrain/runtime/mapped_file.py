"""Files of named arrays and a JSON description, memory-mapped by any number of processes.

Layout: the header, the first array, the other arrays, and a table of contents in JSON; all at multiples of 8 bytes. The
checksum covers everything except the first array, which may be large.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gantrain.runtime.atomic import atomic_write, try_lock

MAGIC = b"gantrain"
VERSION = 2
CHECKSUM = 16  # In bytes.
# The magic bytes, the version, the size of the file, the offsets of the checked part and of the table, the checksum.
HEADER = struct.Struct(f"<8sQQQQ{CHECKSUM}s")
BLOCK = 1 << 16  # In bytes.


class MappedFile:
    """A file of ``write_mapped_file``, read-only. While it is open it is locked against ``remove_if_unused``.

    Attributes:
        arrays: One-dimensional, by name, in the order in which they were begun; read from the disk when accessed.
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
        file.write(bytes(HEADER.size))

    def append(self, name: str, values: NDArray[Any]) -> None:
        """Append values, flattened, to an array; its type is that of the first ones."""
        if name not in self._parts:
            file = tempfile.TemporaryFile(dir=self._folder) if self._parts else self._file  # noqa: SIM115
            self._parts[name] = values.dtype, file
        dtype, file = self._parts[name]
        assert values.dtype == dtype, f"{name} holds {dtype}"
        file.write(np.ascontiguousarray(values).data)

    def finish(self, kind: str) -> None:
        """Write the other arrays, the table of contents and the header."""
        first_size = self._file.tell() - HEADER.size
        checked = self._align()
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
        contents = {"kind": kind, "arrays": arrays, "description": self.description}
        self._file.write(json.dumps(contents).encode())
        header = HEADER.pack(MAGIC, VERSION, self._file.tell(), checked, table, b"")[:-CHECKSUM]
        self._file.seek(checked)
        checksum = _checksum(chain([header], iter(lambda: self._file.read(BLOCK), b"")))
        self._file.seek(0)
        self._file.write(header + checksum)

    def _align(self) -> int:
        self._file.write(bytes(-self._file.tell() % 8))
        return self._file.tell()


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
