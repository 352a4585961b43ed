"""Errors of disks and file systems, explained in one line: what was being done, the path, and what would help."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from gantrain.errors import ConfigError, reason_of

FULL = "free some space, or choose a folder on another disk"
PERMISSION = "check the owner and the permissions (ls -ld), or choose another folder"
NO_LOCKS = "this disk has no file locks: choose a folder on another disk, or mount it with locks"
REMEDIES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: "larger files are not allowed here (ulimit -f): raise the limit, or choose a folder on another disk",
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.EROFS: "it is mounted read-only: choose a folder on another disk",
    errno.EXDEV: "the folder is spread over several disks or layers (df, mount): choose one that is on a single disk",
    errno.EBUSY: "another program uses it, or it is a mount point: wait, or choose another folder",
    errno.ETXTBSY: "another program uses it: wait, or choose another folder",
    errno.ENOLCK: NO_LOCKS,
    errno.ENOSYS: NO_LOCKS,
    errno.EOPNOTSUPP: NO_LOCKS,
    errno.EIO: "the disk reports a fault (dmesg): check it, or choose a folder on another disk",
    errno.ESTALE: "the network folder was changed or mounted again: try again",
    errno.ETIMEDOUT: "the network folder does not answer: try again",
    errno.EMFILE: "raise the number of open files (ulimit -n), or lower data.num_workers",
    errno.ENFILE: "too many files are open on this machine: end other programs, or lower data.num_workers",
    errno.ENAMETOOLONG: "choose shorter names",
    errno.ELOOP: "it is a link to itself: remove it",
    errno.ENOENT: "it was moved or deleted meanwhile, or its folder is missing: try again",
    errno.ENOTDIR: "a file has the name of one of its folders: choose another folder",
    errno.EISDIR: "a folder has its name: choose another one",
    errno.ENOTEMPTY: "another program has written to it meanwhile: choose another folder",
    errno.EEXIST: "another program has created it meanwhile: try again, or choose another folder",
}


def explain(error: Exception, action: str) -> str:
    """``can't ACTION: PATH: REASON; REMEDY`` for an ``OSError``, or for a library's error about one."""
    names = [getattr(error, key, None) for key in ("filename", "filename2")]
    paths = " to ".join(str(path) for path in names if path is not None)
    where = f"{paths}: " if paths and not action.endswith(paths) else ""
    number = getattr(error, "errno", None) or _number_in(str(error))
    remedy = f"; {REMEDIES[number]}" if number in REMEDIES else ""
    return f"can't {action}: {where}{getattr(error, 'strerror', None) or reason_of(error)}{remedy}"


def _number_in(text: str) -> int | None:
    """The number of the system's error that a library reports as text."""
    if "requested and" in text:  # NumPy: "1024 requested and 0 written".
        return errno.ENOSPC
    return next((number for number in REMEDIES if os.strerror(number) in text), None)


@contextmanager
def storage_errors(action: str) -> Iterator[None]:
    """Raise an ``OSError`` inside as a ``ConfigError``; ``action`` says what is done to which path."""
    try:
        yield
    except BrokenPipeError:  # The reader of the output has ended, not a disk.
        raise
    except OSError as error:
        raise ConfigError(explain(error, action)) from error
