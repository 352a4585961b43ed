"""A copy of a run folder elsewhere, such as in a bucket, from which the run resumes on another machine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from gantrain.config.extras import open_url, without_credentials
from gantrain.errors import ConfigError, reason_of

# In this order: no checkpoint is there without the log lines before it.
PATTERNS = ("config.yaml", "*.jsonl", "images/*", "best.pt", "step_*.pt")
CHECKPOINTS = "step_*.pt"
UNFINISHED = ".part"  # At the end of the name of a file that is being written.


class Mirror:
    """The files of a run folder in ``url/name``, written by a thread of its own.

    A file is there under its name only when it is whole. Errors are warnings: the next save tries again.

    Args:
        url: Anything that fsspec can open: ``s3://bucket/path``, ``gs://``, ``memory://``, or a folder.
        folder: The run folder.
        name: Its path below the folder of all runs.
        warn: Prints a line.

    Raises:
        ConfigError: The protocol is unknown, or its driver is not installed.
    """

    def __init__(self, url: str, folder: Path, *, name: str, warn: Callable[[str], None]) -> None:
        self._files, root = open_url(url, "trainer.mirror")
        self._root = f"{root.rstrip('/')}/{name}"
        self.url = f"{without_credentials(url).rstrip('/')}/{name}"
        self._folder, self._warn = folder, warn
        self._sent: dict[str, tuple[int, int]] = {}  # By name, the size and the time of what is there.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mirror")
        self._sending: Future[None] | None = None

    def send(self) -> None:
        """Copy what is new, in the background, unless that is still going on: then the next call does."""
        if self._sending is None or self._sending.done():
            self._sending = self._pool.submit(self._send)

    def close(self) -> None:
        """Copy what is new since the last ``send``, if there was one, and wait for it."""
        if self._sending is not None:
            self._pool.submit(self._send)
        self._pool.shutdown()

    def fetch(self) -> None:
        """Copy everything into the run folder, the log files before the checkpoints, of which the newest comes first.

        So a run whose copy was interrupted starts again, or resumes from the newest.

        Raises:
            ConfigError: It can't be read.
        """
        try:
            for pattern in PATTERNS:
                found = self._files.glob(f"{self._root}/{pattern}")
                for path in sorted(found, key=lambda path: (len(path), path), reverse=True):  # The newest one first.
                    if not path.endswith(UNFINISHED):
                        self._fetch(path, self._folder / path[path.rindex(self._root) + len(self._root) + 1 :])
        except Exception as error:  # Drivers have their own.
            raise ConfigError(f"trainer.mirror: can't read {self.url}: {_line(error)}") from error

    def _fetch(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".tmp")
        self._files.get_file(path, str(part))
        part.replace(target)
        self._sent[str(target.relative_to(self._folder))] = _stamp(target)

    def _send(self) -> None:
        try:
            for pattern in PATTERNS:
                for path in sorted(self._folder.glob(pattern)):
                    self._send_file(path)
            kept = {path.name for path in self._folder.glob(CHECKPOINTS)}
            for path in self._files.glob(f"{self._root}/{CHECKPOINTS}"):
                if path.rpartition("/")[2] not in kept:
                    self._files.rm_file(path)
        except Exception as error:  # Drivers have their own. What is not copied now is copied with the next checkpoint.
            self._warn(f"warning: trainer.mirror: can't write to {self.url}: {_line(error)}")

    def _send_file(self, path: Path) -> None:
        name = path.relative_to(self._folder).as_posix()
        try:
            stamp = _stamp(path)
            if self._sent.get(name) == stamp:
                return
            target = f"{self._root}/{name}"
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), target + UNFINISHED)
        except FileNotFoundError:
            if path.exists():
                raise
            return  # The run has deleted it meanwhile.
        self._files.mv(target + UNFINISHED, target)
        self._sent[name] = stamp


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _line(error: Exception) -> str:
    return without_credentials(reason_of(error))
