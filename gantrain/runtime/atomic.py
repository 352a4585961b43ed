"""Files that can be made again: each is whole or not there, and a killed process stands in nobody's way."""

from __future__ import annotations

import errno
import glob
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

if sys.platform != "win32":  # where nobody waits for anybody, and what is left over stays
    import fcntl

POLL = 0.1  # seconds


def cache_folder() -> Path:
    """Where they are kept: ``$GANTRAIN_CACHE``, or else ``~/.cache/gantrain``.

    Who has no home folder, in a container maybe, has them in that of temporary files.
    """
    try:
        return Path(os.environ.get("GANTRAIN_CACHE") or "~/.cache/gantrain").expanduser()
    except RuntimeError:
        return Path(tempfile.gettempdir(), f"gantrain-{os.getuid()}")


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file that becomes ``path`` if the block ends well, and of which otherwise nothing stays.

    What killed processes have left of it goes first.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}-*.partial"):
        remove_if_unused(left)
    scratch = path.with_name(f".{path.name}-{uuid.uuid4().hex}.partial")
    try:
        with scratch.open("x+b") as file:
            lock(file, exclusive=True)
            yield file
            file.flush()
            os.fsync(file.fileno())
            scratch.replace(path)
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


@contextmanager
def one_at_a_time(path: Path, *, wait: Callable[[], None]) -> Iterator[None]:
    """Of the processes of a machine, one after the other goes through the block; a killed one stands in nobody's way.

    Args:
        path: Of a file to be made, beside which another one shows who is in the block.
        wait: Called again and again until it is this one's turn.
    """
    beside = path.with_suffix(".lock")
    with beside.open("ab") as file:
        while not lock(file, exclusive=True):
            wait()
            time.sleep(POLL)
        try:
            yield
        finally:
            beside.unlink(missing_ok=True)  # whoever waits for it looks for the finished file, then has it to itself


def lock(file: IO[bytes], *, exclusive: bool) -> bool:
    """Whether nobody else holds the lock of this file now; this process does until it closes it."""
    try:
        return _flock(file, exclusive=exclusive)
    except OSError:  # some network folders know no locks; then two may do the same work
        return True


def remove_if_unused(path: Path) -> bool:
    """Delete a file, unless a process holds or makes it, or that can't be known; whether it is gone."""
    with suppress(OSError), path.open("r+b") as file:  # network folders lock no file that is open to be read
        if _flock(file, exclusive=True):
            path.unlink()
            return True
    return False


def _flock(file: IO[bytes], *, exclusive: bool) -> bool:
    """Whether this process has the lock now, which it gives back when it closes the file."""
    if sys.platform == "win32":
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
