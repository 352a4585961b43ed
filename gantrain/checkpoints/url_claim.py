"""A file beside a run at a URL that says which process trains it, so that a second one is refused."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any, NamedTuple

from gantrain.config.extras import without_credentials
from gantrain.errors import ConfigError, reason_of

NAME = "claim.json"
REFRESH = 30  # Seconds between two writes, by a thread: the time between two checkpoints may be hours.
WATCHED = 1.5 * REFRESH  # Seconds without one after which a run has ended, such as one on a preempted machine.


class Owner(NamedTuple):
    """A process."""

    host: str
    pid: int

    def has_ended(self) -> bool:
        """Whether it is known to have ended; that of a process on another machine is not known."""
        if self.host != socket.gethostname() or sys.platform == "win32":
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except OSError:
            pass
        return False


class Claim:
    """Held, as a context, by the process that trains a run at a URL.

    ``__enter__`` watches the claim of another process for ``WATCHED`` seconds, and raises ``ConfigError`` if it is
    refreshed in that time. This is no lock, as storages have none: machines that start in the same second both begin,
    and the one whose claim was overwritten warns at its next refresh. Processes in containers of one host name must see
    each other. If the claim can't be read or written, there is a warning only.

    Args:
        files: The file system.
        root: The path of the run in it.
        shown: The URL of the run, for messages.
        warn: Prints a line.
    """

    def __init__(self, files: Any, root: str, *, shown: str, warn: Callable[[str], None]) -> None:
        self._files, self._root, self._path = files, root, f"{root}/{NAME}"
        self._shown, self._warn = shown, warn
        self._me = Owner(socket.gethostname(), os.getpid())
        self._ends = Event()
        self._thread = Thread(target=self._keep, name="claim", daemon=True)

    def __enter__(self) -> None:
        try:
            self._take()
        except ConfigError:
            raise
        except Exception as error:  # Drivers have their own.
            self._warn_of(error)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        self._thread.join()
        try:
            if self._owner()[0] == self._me:
                self._files.rm_file(self._path)
        except Exception as failure:  # Drivers have their own.
            self._warn_of(failure)

    def _take(self) -> None:
        owner, then = self._owner()
        if owner not in (None, self._me):
            who, why = f"process {owner.pid} on {owner.host}", "has ended"
            if not owner.has_ended():
                self._warn(f"Looking for up to {WATCHED:g} seconds whether {who} still trains {self._shown}")
                if self._is_refreshed(then):
                    raise ConfigError(f"{self._shown} is in use: {who} trains it; stop it, or give another name=...")
                why = f"has not refreshed its claim for {WATCHED:g} seconds"
            self._warn(f"Taking over {self._shown} from {who}, which {why}")
        self._write()

    def _is_refreshed(self, then: float) -> bool:
        """Whether the claim of another process changes while it is watched, so that clocks need not agree."""
        end = time.monotonic() + WATCHED
        while time.monotonic() < end:
            time.sleep(WATCHED / 45)
            owner, now = self._owner()
            if owner is None:
                return False
            if now != then:
                return True
        return False

    def _keep(self) -> None:
        while not self._ends.wait(REFRESH):
            try:
                owner, _ = self._owner()
                if owner not in (None, self._me):
                    self._warn(
                        f"warning: {self._shown}: process {owner.pid} on {owner.host} trains this run as well, and "
                        "both overwrite the files of the other: stop one of them"
                    )
                    return
                self._write()
            except Exception as error:  # Drivers have their own.
                self._warn_of(error)

    def _owner(self) -> tuple[Owner | None, float]:
        """Who has claimed the run, and when it was last seen, in seconds since 1970; None for no one."""
        try:
            claim = json.loads(self._files.cat_file(self._path))
            return Owner(str(claim["host"])[:100], int(claim["pid"])), float(claim["time"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):  # Also of a file that is no claim.
            return None, 0

    def _write(self) -> None:
        self._files.makedirs(self._root, exist_ok=True)
        self._files.pipe_file(self._path, json.dumps({**self._me._asdict(), "time": time.time()}).encode())

    def _warn_of(self, error: Exception) -> None:
        reason = without_credentials(reason_of(error))
        self._warn(f"warning: trainer.mirror: can't claim {self._shown}: {reason}")
