"""One run per folder."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from gantrain.registry import ConfigError

try:
    import fcntl
except ImportError:  # not on Windows, where runs are not kept apart
    fcntl = None  # type: ignore[assignment]


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
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        self._file: IO[str] | None = None

    def __enter__(self) -> RunLock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while self._file is None:
                self._file = self._taken()
        except OSError as error:
            raise ConfigError(f"can't write to {self.path.parent}: {error.strerror or error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        with suppress(OSError):  # the folder may be gone
            self.path.unlink()
        self._file.close()
        for made in self._made:  # stays, if there is anything in it
            with suppress(OSError):
                made.rmdir()

    def _taken(self) -> IO[str] | None:
        """The locked file; None if it was deleted by its last holder meanwhile."""
        file = self.path.open("a+", encoding="utf-8")
        try:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (self.path.exists() and os.path.samestat(os.fstat(file.fileno()), self.path.stat())):
                file.close()
                return None
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise ConfigError(
                f"{self.path.parent} is in use: {holder} trains there; wait for it, stop it, or give another name=..."
            ) from None
        except OSError:
            file.close()
            raise
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} (since {time.strftime('%Y-%m-%d %H:%M')})")
        file.flush()
        return file


def is_locked(folder: Path) -> bool:
    """Whether another process trains into a folder; of this process's own lock it knows nothing, and lets it go."""
    try:
        with (folder / ".lock").open("r+", encoding="utf-8") as file:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fcntl is None
    except BlockingIOError:
        return True
    except OSError:
        return False
