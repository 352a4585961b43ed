"""One run per folder."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from gantrain.errors import ConfigError

if sys.platform != "win32":  # where runs are not kept apart
    import fcntl

TAKEN = (errno.EAGAIN, errno.EACCES)
HOLDER = 200  # bytes
IMPOSSIBLE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class LostFolderError(ConfigError):
    """The run folder is another's now, or none; nothing is written there any more."""


class RunLock:
    """Held by the process that trains into a folder, which it makes if need be.

    The system lets go of it when the process ends, however that ends, so that none is ever left behind; over NFS too.
    (It is one by ``lockf``, which the processes that the run forks don't inherit, unlike one by ``flock``.)

    Args:
        folder: The run folder.

    Raises:
        ConfigError: By ``__enter__``: another process holds it, or the folder can't be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self._made: list[Path] = []
        self._file: IO[bytes] | None = None
        self._folder: os.stat_result | None = None

    def __enter__(self) -> RunLock:
        folder = self.path.parent
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            while self._file is None:  # again where its last holder deletes it at this moment
                folder.mkdir(parents=True, exist_ok=True)
                self._file = self._taken()
            self._folder = folder.stat()
        except OSError as error:
            self._leave()
            raise ConfigError(f"can't write to {folder}: {error.strerror or error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        if self._is_held(self._file):
            with suppress(OSError):
                self.path.unlink()
        self._file.close()
        self._leave()

    def renew(self) -> None:
        """Take it again if its file was deleted; nothing, where the folder was.

        Raises:
            LostFolderError: Another process has taken it meanwhile, or there is another folder in its place.
        """
        assert self._file is not None
        assert self._folder is not None
        if not self._is_held(self._file):
            with suppress(OSError):  # told by those who write there
                again = self._taken()
                if again is None:
                    return
                if not os.path.samestat(self._folder, self.path.parent.stat()):
                    self.path.unlink()
                    again.close()
                    raise LostFolderError(f"{self.path.parent} was deleted or renamed, and another folder is there now")
                self._file.close()
                self._file = again

    def _taken(self) -> IO[bytes] | None:
        """The locked file; None if it was deleted by its last holder meanwhile.

        Raises:
            LostFolderError: Another process holds it.
            OSError: The folder can't be written to.
        """
        file = self.path.open("ab+", buffering=0)
        try:
            _lock(file)
            if self._is_held(file):
                self._sign(file)
                return file
        except BlockingIOError:
            file.seek(0)
            holder = file.read(HOLDER).decode(errors="replace").strip() or "another process"
            file.close()
            raise LostFolderError(
                f"{self.path.parent} is in use: {holder} trains there; wait for it, stop it, or give another name=..."
            ) from None
        except OSError:
            file.close()
            raise
        file.close()
        return None

    def _sign(self, file: IO[bytes]) -> None:
        """Write into the locked file who has it."""
        holder = f"process {os.getpid()} on {socket.gethostname()} (since {time.strftime('%Y-%m-%d %H:%M')})"
        try:
            file.truncate(0)
            file.write(holder.encode()[:HOLDER])
        except OSError:
            self.path.unlink()
            raise

    def _is_held(self, file: IO[bytes]) -> bool:
        """Whether the locked file is the one in the folder."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _leave(self) -> None:
        """Remove the folders that were made and have stayed empty."""
        for made in self._made:
            with suppress(OSError):
                made.rmdir()


def is_locked(folder: Path) -> bool:
    """Whether another process trains into a folder; of this process's own lock it knows nothing, and lets it go."""
    if sys.platform == "win32":
        return False
    try:
        with (folder / ".lock").open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in TAKEN
    return False


def _lock(file: IO[bytes]) -> None:
    """Lock a file where the disk can.

    Raises:
        BlockingIOError: Another process has.
        OSError: The disk fails.
    """
    if sys.platform == "win32":
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            raise BlockingIOError from None
        if error.errno not in IMPOSSIBLE:
            raise
        told = f"warning: no locks on this disk ({error.strerror}): nobody else may train in {Path(file.name).parent}"
        print(told, file=sys.stderr)
