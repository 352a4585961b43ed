"""A copy of a run folder elsewhere, such as in a bucket, from which the run resumes on another machine."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePath, PurePosixPath

from gantrain.checkpoints.url_claim import Claim
from gantrain.config.extras import open_url, without_credentials
from gantrain.errors import ConfigError, reason_of
from gantrain.runtime.atomic import atomic_write

CHECKPOINTS = "step_*.pt"
LOGS = ("config.yaml", "*.jsonl", "index_files/data/status.js", "images/*")
# In this order: no checkpoint is there without the log lines before it.
PATTERNS = (*LOGS, "best.pt", CHECKPOINTS)
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
        ConfigError: The protocol is unknown, its driver is not installed or fails, or it is the run folder.
    """

    def __init__(self, url: str, folder: Path, *, name: str, warn: Callable[[str], None]) -> None:
        self._files, root = open_url(url, "trainer.mirror")
        self._root = f"{root.rstrip('/')}/{name}"
        if "file" in self._files.protocol and Path(self._root).resolve() == folder.resolve():
            raise ConfigError(f"trainer.mirror={url}: this is the folder of the runs itself; give another one")
        self.url = f"{without_credentials(url).rstrip('/')}/{name}"
        self._folder, self._warn = folder, warn
        self._sent: dict[str, tuple[int, int]] = {}  # By name, the size and the time of what is there.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mirror")
        self._sending: Future[None] | None = None
        self.claim = Claim(self._files, self._root, shown=self.url, warn=warn)

    def send(self) -> None:
        """Copy what is new, in the background, unless that is still going on: then the next call does."""
        if self._sending is None or self._sending.done():
            self._sending = self._pool.submit(self._send)

    def close(self) -> None:
        """Copy what is new since the last ``send``, if there was one, and wait for it."""
        if self._sending is not None:
            self._pool.submit(self._send)
        self._pool.shutdown()

    def complete(self) -> None:
        """Copy what is missing there, or has another size, and wait for it: an earlier process may have failed to."""
        for path in (path for pattern in PATTERNS for path in self._folder.glob(pattern)):
            if self.has(path):
                self._sent[path.relative_to(self._folder).as_posix()] = _stamp(path)
        self.send()
        self.close()

    def has(self, path: Path) -> bool:
        """Whether there is a copy of the size of this file of the run folder."""
        try:
            size = self._files.size(f"{self._root}/{path.relative_to(self._folder).as_posix()}")
        except Exception:  # Drivers have their own; what can't be seen is not there.
            return False
        return bool(size == path.stat().st_size)

    def fetch(self, *, after: int, patterns: Sequence[str] = PATTERNS) -> bool:
        """Copy everything into the run folder, the log files before the checkpoints, if there is a later checkpoint.

        The newest checkpoint comes first: a run whose copy was interrupted starts again, or resumes from the newest.

        Args:
            after: The step of the newest checkpoint of the run folder; -1 if there is none.
            patterns: Of the files.

        Raises:
            ConfigError: It can't be read.
        """
        try:
            if newest_step(map(PurePosixPath, self._found(CHECKPOINTS))) <= after:
                return False
            for pattern in patterns:
                for path in sorted(self._found(pattern), key=lambda path: (len(path), path), reverse=True):
                    if not path.endswith(UNFINISHED):
                        self._fetch(path, self._folder / path[path.index(self._root) + len(self._root) + 1 :])
        except Exception as error:  # Drivers have their own.
            raise ConfigError(f"trainer.mirror: can't read {self.url}: {_line(error)}") from error
        return True

    def clear(self) -> None:
        """Delete what is there of an earlier run."""
        try:
            for path in itertools.chain.from_iterable(map(self._found, PATTERNS[::-1])):
                self._files.rm_file(path)
        except Exception as error:  # Drivers have their own.
            self._warn(f"warning: trainer.mirror: can't delete from {self.url}: {_line(error)}")

    def _found(self, pattern: str) -> list[str]:
        found: list[str] = self._files.glob(f"{glob.escape(self._root)}/{pattern}")
        return found

    def _fetch(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.parent.name == "images" and target.exists() and self.has(target)):  # Images do not change.
            with atomic_write(target) as part:  # Processes of this machine may fetch the same file.
                self._files.get_file(path, part.name)
        self._sent[str(target.relative_to(self._folder))] = _stamp(target)

    def _send(self) -> None:
        try:
            for pattern in PATTERNS:
                for path in sorted(self._folder.glob(pattern)):
                    self._send_file(path)
            present = {path.name for path in self._folder.glob(CHECKPOINTS)}
            for copy in self._found(CHECKPOINTS):
                name = copy.rpartition("/")[2]
                if name in self._sent and name not in present:  # Not what an interrupted fetch has left there.
                    self._files.rm_file(copy)
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


def newest_step(checkpoints: Iterable[PurePath]) -> int:
    """The largest step of paths of checkpoints; -1 if there is none."""
    names = (re.fullmatch(r"step_([0-9]+)\.pt", path.name) for path in checkpoints)
    return max((int(name[1]) for name in names if name), default=-1)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _line(error: Exception) -> str:
    return without_credentials(reason_of(error))
