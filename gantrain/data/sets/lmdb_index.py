"""LMDB files: opened once per process, with memory-mapped indices of their keys, and written."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from gantrain.data.images.sources import state_of
from gantrain.errors import ConfigError
from gantrain.runtime import console
from gantrain.runtime.atomic import cache_dir
from gantrain.runtime.lmdb_pages import DamagedError, read_header, verified_keys
from gantrain.runtime.mapped_file import MappedFile, write_mapped_file
from gantrain.runtime.storage import explain

KIND = "keys of an LMDB"
KEYS_AT_ONCE = 4096


class State(NamedTuple):
    """Differs whenever a database was changed."""

    file: list[int]  # See ``state_of``.
    entries: int
    transaction: int


class Database:
    """An LMDB, opened read-only and without lock, so that any number of processes may read it.

    It is opened when it is first read in a process, whether forked or spawned. Use ``open_database`` to get one: LMDB
    does not allow a process to open a file twice. The path is a folder with a ``data.mdb``, or such a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path / "data.mdb" if path.is_dir() else path
        self._environment: Any = None
        self._data: IO[bytes] | None = None  # The file that it has mapped.
        self._needed = 0  # The bytes that the library may read.
        self._opened_by = 0
        self._opened_as: tuple[int, ...] = ()
        self._opening = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return open_database, (self.path,)

    def get(self, key: bytes) -> bytes:
        """The value of ``key``, which must exist."""
        with self._transaction() as transaction:
            value = transaction.get(key)
        if value is None:
            raise ConfigError(
                f"{self.path} has no key {key.decode(errors='replace')}: it was changed while it was read; start again"
            )
        return value

    def keys(self) -> Iterator[bytes]:
        """All keys in their order; every page is verified, since a damaged one would end a process that reads it."""
        with _checked(self.path, self._file)[0] as file:
            try:
                yield from verified_keys(file.fileno(), read_header(file.fileno()))
            except DamagedError as error:
                raise _corrupt(self.path, error) from None

    def state(self) -> State:
        """The current state of a database, which must not be empty."""
        environment = self._open()
        entries = environment.stat()["entries"]
        if not entries:
            raise ConfigError(f"the LMDB {self.path} is empty")
        return State(list(state_of(self._file.stat())), entries, environment.info()["last_txnid"])

    def refresh(self) -> None:
        """Close a file that was changed or replaced after it was opened; the next read opens it again."""
        if self._environment is not None and self._opened_as != self.identity():
            self._close()

    def identity(self) -> tuple[int, ...]:
        """Device, inode and state of the current file; empty if there is none."""
        if not self._file.is_file():
            return ()
        status = self._file.stat()
        return status.st_dev, status.st_ino, *state_of(status)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        import lmdb

        try:
            environment = self._open()
            assert self._data is not None
            _check_size(self._data, self._needed, self.path)  # It may have been truncated after it was opened.
            with environment.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise _corrupt(self.path, error) from None

    def _close(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None
        if self._data is not None:
            self._data.close()
            self._data = None

    def _open(self) -> Any:
        if self._environment is not None and self._opened_by == os.getpid():
            return self._environment
        with self._opening:
            if self._opened_by != os.getpid():  # LMDB requires that a forked process opens its own environment.
                self._close()
            if self._environment is None:
                self._opened_as = self.identity()
                self._data, self._needed = _checked(self.path, self._file)
                self._environment, self._opened_by = _environment(self.path), os.getpid()
        return self._environment


# The keys are device and inode, or the path if there is no file.
_databases: WeakValueDictionary[tuple[int, ...] | Path, Database] = WeakValueDictionary()


def open_database(path: Path) -> Database:
    """The database at ``path``: in a process the same object for every path or link to it."""
    path = path.expanduser().resolve()
    if not path.exists():
        raise ConfigError(f"there is no LMDB {path}")
    database = Database(path)
    database = _databases.setdefault(database.identity()[:2] or path, database)
    database.refresh()
    return database


def is_database(path: Path) -> bool:
    """Whether this is the folder of an LMDB."""
    return (path / "data.mdb").is_file()


def _checked(path: Path, file: Path) -> tuple[IO[bytes], int]:
    """The open file of a database, and how many bytes it needs, which it has."""
    if not file.is_file() or not file.stat().st_size:  # LMDB would create one.
        raise ConfigError(f"{path} is not an LMDB (no data.mdb, or an empty one)")
    opened = file.open("rb")
    try:
        header = read_header(opened.fileno())
        _check_size(opened, header.size, path)
        return opened, header.size
    except DamagedError as error:
        opened.close()
        raise ConfigError(f"{path} is not an LMDB, or it is corrupt ({error})") from None
    except ConfigError:
        opened.close()
        raise


def _check_size(file: IO[bytes], needed: int, path: Path) -> None:
    """Refuse a truncated file: reading beyond its end would end the process by SIGBUS."""
    size = os.fstat(file.fileno()).st_size
    if size < needed:
        raise ConfigError(f"the LMDB {path} is truncated: it has {size:,} of {needed:,} bytes; copy it again")


def _corrupt(path: Path, reason: Exception) -> ConfigError:
    return ConfigError(f"the LMDB {path} is corrupt ({reason}): copy, download or write it again")


def _environment(path: Path) -> Any:
    import lmdb

    try:
        return lmdb.open(
            str(path), subdir=path.is_dir(), readonly=True, create=False, lock=False, readahead=False, meminit=False
        )
    except lmdb.Error as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ConfigError(f"{path} is not an LMDB, or it is corrupt ({reason})") from None


class KeyIndex:
    """The keys of a database by number, in their order, from a memory-mapped file.

    Attributes:
        digest: Sixteen digits that depend on all keys.

    Raises:
        OSError: It can't be read.
        ValueError: It is corrupt, or was built from a database in another state.
    """

    def __init__(self, path: Path, state: State) -> None:
        self._opened_with = path, state
        self._file = file = MappedFile(path, KIND)
        if file.description["state"] != list(state):
            raise ValueError(f"{path} is the index of another database")
        self.digest: str = file.description["digest"]
        self._keys, self._ends = file.arrays["keys"], file.arrays["ends"]

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyIndex, self._opened_with

    def __len__(self) -> int:
        return len(self._ends)

    def __contains__(self, key: bytes) -> bool:
        position = bisect.bisect_left(self, key)
        return position < len(self) and self[position] == key

    def __getitem__(self, index: int) -> bytes:
        start, stop = int(self._ends[index - 1]) if index else 0, int(self._ends[index])
        self._file.verify(start, stop)
        return self._keys[start:stop].tobytes()


def key_index(database: Database) -> KeyIndex:
    """The index of a database, which is built unless it is up to date.

    It is stored beside the database, or in ``cache_dir`` if that is read-only.
    """
    state = database.state()
    path = database.path
    digest = hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()
    candidates = [path.with_name(f"{path.name}.keys"), cache_dir() / f"{path.name}-{digest}.keys"]
    for candidate in candidates:
        with suppress(OSError, ValueError):
            return KeyIndex(candidate, state)
    for candidate in candidates:
        try:
            candidate.parent.mkdir(parents=True, exist_ok=True)
            _build(database, state, candidate)
            return KeyIndex(candidate, state)
        except OSError as error:
            reason = error.strerror or str(error)
    raise ConfigError(
        f"can't write the index of {path}, neither beside it nor as {candidates[1]} ({reason}): set GANTRAIN_CACHE to "
        "a folder with free space"
    )


def _build(database: Database, state: State, path: Path) -> None:
    """Write the index in one pass over the keys."""
    count = length = 0
    digest = hashlib.blake2b(digest_size=8)
    with (
        write_mapped_file(path, KIND) as file,
        console.bar(f"keys of {database.path.name}", total=state.entries, leave=False, disable=None) as bar,
    ):
        keys = database.keys()
        while batch := list(itertools.islice(keys, KEYS_AT_ONCE)):
            ends = length + np.cumsum([len(key) for key in batch])
            file.append("keys", np.frombuffer(b"".join(batch), np.uint8))
            file.append("ends", ends)
            digest.update(b"\n".join(batch))
            count, length = count + len(batch), int(ends[-1])
            bar.update(len(batch))
        if database.state() != state or count != state.entries:
            raise ConfigError(f"the LMDB {database.path} is corrupt, or is being changed: {count:,} keys were found")
        file.description = {"state": state, "digest": digest.hexdigest()}


# ---- writing

COMMIT_BYTES = 1 << 26  # The size of the values in one transaction.


def map_size(sizes: Iterable[int]) -> int:
    """An upper bound of the bytes of an LMDB with values of these sizes; only what is used takes disk space."""
    return 2 * sum(size + 8192 for size in sizes) + COMMIT_BYTES


@contextmanager
def open_for_writing(database: Path, size: int) -> Iterator[Any]:
    """The environment of an LMDB of at most ``size`` bytes, which is created if it is missing.

    At the end, the lock file is removed and ``data.mdb`` has the full length that its header records.
    """
    import lmdb

    try:
        database.mkdir(parents=True, exist_ok=True)
        with lmdb.open(str(database), map_size=size) as environment:
            yield environment
            pages, page_size = environment.info()["last_pgno"] + 1, environment.stat()["psize"]
        data = database / "data.mdb"
        if data.stat().st_size < pages * page_size:  # The last pages may have been freed before they were written.
            os.truncate(data, pages * page_size)
        (database / "lock.mdb").unlink(missing_ok=True)
    except lmdb.Error as error:
        raise ConfigError(explain(error, f"write the LMDB {database}")) from None
