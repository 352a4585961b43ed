"""LMDB files: opened once per process, and an index of their keys that is built once and memory-mapped afterwards."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from tqdm import tqdm

from gantrain.errors import ConfigError
from gantrain.runtime.atomic import atomic, cache_folder

MAGIC = b"gantkeys"
VERSION = 1
# magic, version, unused, then the four numbers of a State, bytes of all keys, and their digest
HEADER = struct.Struct("<8sII4QQ16s")
CHUNK = 4096  # keys


class State(NamedTuple):
    """What changes whenever a database does."""

    size: int
    modified: int  # nanoseconds
    entries: int
    transaction: int


class Database:
    """An LMDB to read from, without lock: any number of processes may read it at once.

    It opens when it is first read from, again in every process that it is handed to, whether forked or spawned. Take it
    from ``open_database``: LMDB forbids to open one file twice in a process.

    Args:
        path: A folder with a ``data.mdb``, or such a file itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path / "data.mdb" if path.is_dir() else path
        self._environment: Any = None
        self._opened_by = 0
        self._opened_as: tuple[int, ...] = ()
        self._opening = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return open_database, (self.path,)

    def get(self, key: bytes) -> bytes:
        """The value under ``key``.

        Raises:
            ConfigError: There is none.
        """
        with self._reading() as transaction:
            value = transaction.get(key)
        if value is None:
            raise ConfigError(
                f"{self.path} holds no {key.decode(errors='replace')} any more: it has been changed, or its index is "
                f"damaged (remove that, {self.path.name}.keys beside it or {self.path.name}-*.keys in {cache_folder()})"
            )
        return value

    def keys(self) -> Iterator[bytes]:
        """All, in their order."""
        with self._reading() as transaction, transaction.cursor() as cursor:
            yield from cursor.iternext(keys=True, values=False)

    def state(self) -> State:
        """As it is now.

        Raises:
            ConfigError: It is empty.
        """
        environment, file = self._open(), self._file.stat()
        entries = environment.stat()["entries"]
        if not entries:
            raise ConfigError(f"the LMDB {self.path} is empty")
        return State(file.st_size, file.st_mtime_ns, entries, environment.info()["last_txnid"])

    def refresh(self) -> None:
        """Let go of a file that has since been changed or replaced, so that the next read opens what is there now."""
        if self._environment is not None and self._opened_as != self.identity():
            self._close()

    def identity(self) -> tuple[int, ...]:
        """Of the file as it is now: device and inode, size and time of the last change; nothing if there is none."""
        if not self._file.is_file():
            return ()
        status = self._file.stat()
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """A transaction; what LMDB finds wrong with the file in it becomes one line."""
        import lmdb

        try:
            with self._open().begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise ConfigError(f"the LMDB {self.path} is damaged ({error})") from None

    def _close(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _open(self) -> Any:
        if self._environment is not None and self._opened_by == os.getpid():
            return self._environment
        with self._opening:
            if self._opened_by != os.getpid():  # forked: LMDB wants an environment of our own
                self._close()
            if self._environment is None:
                self._opened_as = self.identity()
                self._environment, self._opened_by = _environment(self.path, self._file), os.getpid()
        return self._environment


# by device and inode, or by path where there is no file
_databases: WeakValueDictionary[tuple[int, ...] | Path, Database] = WeakValueDictionary()


def open_database(path: Path) -> Database:
    """The database at ``path``, the same object for all who ask in this process, by whatever path or link.

    Raises:
        ConfigError: There is no LMDB.
    """
    path = path.expanduser().resolve()
    if not path.exists():
        raise ConfigError(f"there is no LMDB {path}")
    database = Database(path)
    database = _databases.setdefault(database.identity()[:2] or path, database)
    database.refresh()
    return database


def is_database(path: Path) -> bool:
    """Whether this is a folder that LMDB has written."""
    return (path / "data.mdb").is_file()


def _environment(path: Path, file: Path) -> Any:
    import lmdb

    if not file.is_file() or not file.stat().st_size:  # LMDB would make one
        raise ConfigError(f"{path} is not an LMDB (no data.mdb, or an empty one)")
    try:
        environment = lmdb.open(
            str(path), subdir=path.is_dir(), readonly=True, create=False, lock=False, readahead=False, meminit=False
        )
    except lmdb.Error as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ConfigError(f"{path} is not an LMDB, or a damaged one ({reason})") from None
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    there = file.stat().st_size
    if there < needed:  # what is missing would kill the process, by a bus error
        environment.close()
        raise ConfigError(f"the LMDB {path} is cut off: {there:,} of {needed:,} bytes are there")
    return environment


class KeyIndex:
    """The keys of a database by number, in their order, from a memory-mapped file.

    Layout of the file: a header, the keys one after another, zeros up to a multiple of 8, and where each key begins
    (64-bit numbers, one more than there are keys).

    Args:
        path: Of the index.
        state: Of the database.

    Attributes:
        digest: Sixteen digits that differ where keys do.

    Raises:
        ConfigError: This is no whole index of a database in that state.
    """

    def __init__(self, path: Path, state: State) -> None:
        self._made_of = path, state
        with path.open("rb") as file:
            header = file.read(HEADER.size)
            size = os.fstat(file.fileno()).st_size
        problem = ConfigError(f"the index {path} is damaged, or of another database")
        if len(header) != HEADER.size:
            raise problem
        magic, version, _, *numbers, length, digest = HEADER.unpack(header)
        places = _aligned(HEADER.size + length)
        if (magic, version, State(*numbers), places + 8 * (state.entries + 1)) != (MAGIC, VERSION, state, size):
            raise problem
        self.digest = digest.decode()
        self._keys = np.memmap(path, np.uint8, "r", offset=HEADER.size, shape=(length,))
        self._places = np.memmap(path, "<u8", "r", offset=places, shape=(state.entries + 1,))
        if self._places[-1] != length:
            raise problem

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyIndex, self._made_of  # else the memory map would be copied

    def __len__(self) -> int:
        return len(self._places) - 1

    def __contains__(self, key: bytes) -> bool:
        place = bisect.bisect_left(self, key)
        return place < len(self) and self[place] == key

    def __getitem__(self, index: int) -> bytes:
        start, stop = self._places[index : index + 2]
        return self._keys[start:stop].tobytes()


def key_index(database: Database) -> KeyIndex:
    """The index of a database, built if there is none that fits.

    It is kept beside the database, or, where nothing can be written there, in the folder of ``cache_folder``.

    Raises:
        ConfigError: The database is empty or damaged, or the index can't be written anywhere.
    """
    state = database.state()
    path = database.path
    apart = hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()
    places = [path.with_name(f"{path.name}.keys"), cache_folder() / f"{path.name}-{apart}.keys"]
    for place in places:
        with suppress(OSError, ConfigError):
            return KeyIndex(place, state)
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            _build(database, state, place)
            return KeyIndex(place, state)
        except OSError as error:
            reason = error.strerror or str(error)
    raise ConfigError(
        f"the index of {path} can be written neither beside it nor as {places[1]} ({reason}): set GANTRAIN_CACHE to a "
        "folder with room for it"
    )


def _build(database: Database, state: State, path: Path) -> None:
    """Write the index in one pass over the keys, in constant memory; until it is whole it has another name."""
    with atomic(path) as file, tempfile.TemporaryFile(dir=path.parent) as places:
        file.write(bytes(HEADER.size))
        count = length = 0
        digest = hashlib.blake2b(digest_size=8)
        keys = database.keys()
        with tqdm(total=state.entries, desc=f"keys of {database.path.name}", leave=False, disable=None) as bar:
            while chunk := list(itertools.islice(keys, CHUNK)):
                places.write((length + np.cumsum([0, *map(len, chunk[:-1])], dtype="<u8")).astype("<u8").tobytes())
                file.write(b"".join(chunk))
                digest.update(b"\n".join(chunk))
                count, length = count + len(chunk), length + sum(map(len, chunk))
                bar.update(len(chunk))
        if database.state() != state or count != state.entries:
            raise ConfigError(
                f"the LMDB {database.path} is damaged, or is being changed: {count:,} keys were found in it"
            )
        places.write(struct.pack("<Q", length))
        file.write(bytes(_aligned(HEADER.size + length) - HEADER.size - length))
        places.seek(0)
        while block := places.read(1 << 20):
            file.write(block)
        file.seek(0)
        file.write(HEADER.pack(MAGIC, VERSION, 0, *state, length, digest.hexdigest().encode()))


def _aligned(place: int) -> int:
    """The next multiple of 8."""
    return -(-place // 8) * 8
