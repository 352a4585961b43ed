"""Locks of this process: one training run per folder, and the function that GPU claims use too."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from gantrain.errors import ConfigError
from gantrain.runtime import console
from gantrain.runtime.directories import refuse_links
from gantrain.runtime.storage import explain

if sys.platform != "win32":
    import fcntl

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
MAX_OWNER_BYTES = 200
# A link in a run folder of somebody else could lead to any file, and a named pipe would block.
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class LostFolderError(ConfigError):
    """The run folder is in use by another process or was replaced; this process must not write to it any more."""


def try_process_lock(file: IO[bytes] | int) -> bool:
    """Lock an open file for this process without waiting; the system releases it when the process ends.

    ``lockf`` also works over NFS, and forked processes (data workers) do not inherit it as they would ``flock``.
    Closing any handle of the file in this process releases the lock.

    Returns:
        False if another process holds the lock. True on Windows, where nothing is locked.

    Raises:
        OSError: The file system failed, or has no locks (``UNSUPPORTED``).
    """
    if sys.platform == "win32":
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):  # POSIX allows either if another process holds the lock.
            raise
        return False
    return True


def is_locked(folder: Path) -> bool:
    """Whether another process trains into ``folder``. Not for the process that holds the lock: it would release it."""
    try:
        with os.fdopen(os.open(folder / ".lock", os.O_RDWR | NO_FOLLOW), "r+b") as file:
            return not try_process_lock(file)
    except OSError:
        return False


class RunLock:
    """Held by the process that trains into a run folder, which ``__enter__`` creates if needed.

    ``__enter__`` raises ``ConfigError`` if another process holds the lock, or the folder is not writable or contains
    links to folders outside.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self._created: list[Path] = []
        self._file: IO[bytes] | None = None
        self._folder_stat: os.stat_result | None = None

    def __enter__(self) -> RunLock:
        folder = self.path.parent
        self._created = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            while self._file is None:  # Repeated if the last holder deletes the file at this moment.
                folder.mkdir(parents=True, exist_ok=True)
                refuse_links(folder)
                self._file = self._acquire()
            self._folder_stat = folder.stat()
        except OSError as error:
            self._remove_empty_folders()
            raise ConfigError(explain(error, f"write to {folder}")) from None
        return self

    def __exit__(self, *error: object) -> None:
        assert self._file is not None
        if self._is_current(self._file):
            with suppress(OSError):
                self.path.unlink()
        self._file.close()
        self._remove_empty_folders()

    def renew(self) -> None:
        """Acquire the lock again if its file was deleted; does nothing if the folder was.

        Raises:
            LostFolderError: Another process has acquired it meanwhile, or the folder was replaced.
        """
        assert self._file is not None
        assert self._folder_stat is not None
        if self._is_current(self._file):
            return
        with suppress(OSError):  # Reported by the next write to the folder.
            file = self._acquire()
            if file is None:
                return
            if not os.path.samestat(self._folder_stat, self.path.parent.stat()):
                self.path.unlink()
                file.close()
                raise LostFolderError(f"{self.path.parent} was deleted or renamed, and another folder has its name now")
            self._file.close()
            self._file = file

    def _acquire(self) -> IO[bytes] | None:
        """The locked file; None if its last holder has deleted it meanwhile, or it was a hard link, which is removed.

        Raises:
            LostFolderError: Another process holds the lock.
            OSError: The folder is not writable.
        """
        with ExitStack() as undo:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_FOLLOW
            file = os.fdopen(os.open(self.path, flags, 0o666), "ab+", buffering=0)
            undo.callback(file.close)
            if not self._lock(file):
                file.seek(0)
                owner = file.read(MAX_OWNER_BYTES).decode(errors="replace").strip() or "another process"
                remedy = "wait for it, stop it, or give another name=..."
                raise LostFolderError(f"{self.path.parent} is in use: {owner} trains there; {remedy}")
            if not self._is_current(file):
                return None
            undo.callback(self.path.unlink)
            if os.fstat(file.fileno()).st_nlink > 1:  # Of an unpacked archive or a backup: it is a file elsewhere, too.
                return None
            owner = f"process {os.getpid()} on {socket.gethostname()} (since {time.strftime('%Y-%m-%d %H:%M')})"
            file.truncate(0)
            file.write(owner.encode()[:MAX_OWNER_BYTES])
            undo.pop_all()
            return file

    def _lock(self, file: IO[bytes]) -> bool:
        try:
            return try_process_lock(file)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            console.err(
                f"warning: no file locks on this disk ({error.strerror}): make sure that no other process trains in "
                f"{self.path.parent}",
            )
            return True

    def _is_current(self, file: IO[bytes]) -> bool:
        """Whether an open file is still the one in the folder."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _remove_empty_folders(self) -> None:
        """Remove the folders that this lock created and that are still empty."""
        for folder in self._created:
            with suppress(OSError):
                folder.rmdir()
