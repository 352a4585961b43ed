"""Writing LMDB files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gantrain.errors import ConfigError

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
        raise ConfigError(f"can't write the LMDB {database}: {error}") from None
