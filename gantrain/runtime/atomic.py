"""Atomic writes, file locks, and the folder of caches and indices, which can be rebuilt."""

from __future__ import annotations

import glob
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from gantrain.runtime import console

if sys.platform != "win32":  # On Windows, nothing is locked, and leftovers are not removed.
    import fcntl

POLL_SECONDS = 0.1
MIN_LEFTOVER_AGE = 10.0  # In seconds; a younger file may belong to a process that is about to lock it.


def cache_dir() -> Path:
    """``$GANTRAIN_CACHE``, or else ``~/.cache/gantrain``, or a temporary folder for users without a home folder."""
    try:
        return Path(os.environ.get("GANTRAIN_CACHE") or "~/.cache/gantrain").expanduser()
    except RuntimeError:
        return Path(tempfile.gettempdir(), f"gantrain-{os.getuid()}")


@contextmanager
def atomic_write(path: Path, *, sync: bool = True) -> Iterator[IO[bytes]]:
    """Yield a temporary file that replaces ``path`` if the block succeeds, and is removed otherwise.

    Readers never see a partial file, concurrent writers do not mix, and files that killed writers of ``path`` left
    behind are removed. After an error, a previous file is unchanged. ``sync`` waits until the content is on the disk.
    """
    for leftover in filter(is_leftover, path.parent.glob(f"{glob.escape(path.name)}.*.tmp")):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > MIN_LEFTOVER_AGE:
                remove_if_unused(leftover)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().int % 10**12}.tmp")
    try:
        with temporary.open("x+b") as file:
            try_lock(file, exclusive=True)
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a small file atomically, without waiting for the disk.

    In a string, characters that can't be encoded (those of undecodable file names) become question marks.
    """
    with atomic_write(path, sync=False) as file:
        file.write(content.encode(errors="replace") if isinstance(content, str) else content)


def is_leftover(path: Path) -> bool:
    """Whether this is the name of a temporary file of ``atomic_write``, which a killed process may have left."""
    return re.fullmatch(r".+\.[0-9]+\.tmp", path.name) is not None


@contextmanager
def file_lock(path: Path, message: str = "", *, wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let one process of a machine at a time run the block; the lock of a killed process is released.

    Args:
        path: A file that the block writes; the lock file is beside it.
        message: Printed if another process has the lock.
        wait: Called repeatedly until the lock is acquired; may raise to give up.
    """
    lock_path = path.with_suffix(".lock")
    with lock_path.open("ab") as file:
        while not try_lock(file, exclusive=True):
            wait()
            if message:
                console.err(message)
            message = ""
            time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            lock_path.unlink(missing_ok=True)  # Waiting processes hold the deleted file, and find the finished one.


def remove_if_unused(path: Path) -> bool:
    """Delete a file unless a process has locked it, or files can't be locked; return whether it was deleted."""
    with suppress(OSError), path.open("r+b") as file:  # Network folders lock no file that is open for reading only.
        if try_lock(file, exclusive=True, unsupported=False):
            path.unlink()
            return True
    return False


def try_lock(file: IO[bytes], *, exclusive: bool, unsupported: bool = True) -> bool:
    """Lock a file by ``flock`` until all its descriptors are closed; False if another process has locked it.

    Network file systems lock only files that are open for writing.

    Args:
        file: The file.
        exclusive: Whether no other process may share the lock.
        unsupported: The result where files can't be locked; True lets two processes do the same work.
    """
    if sys.platform == "win32":
        return unsupported
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unsupported
    return True
