"""Control of a process from outside: signals, a time limit, environment variables, and a stderr that may be closed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, cast

# Ctrl-C, the usual request to exit, and what SLURM can be configured to send before a job's time limit.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
HANG_UPS = [getattr(signal, name) for name in ("SIGHUP", "SIGQUIT") if hasattr(signal, name)]
# Environment variables.
SCRATCH = "GANTRAIN_SCRATCH"  # For Hydra: the folder of ``scratch_folder``.
LAUNCHER = "GANTRAIN_LAUNCHER"  # In a rank: the id of the process that started it.
SWEEP = "GANTRAIN_SWEEP"  # In a process that runs jobs of a sweep: its own id (ranks inherit it) and the sweep's.

# Removed when Ctrl-C exits the process; not read from the environment, where a user could name their own folder.
scratch_folders: list[Path] = []
STOP = "stop"  # The file that tells ranks which have just started that their launcher was stopped.
ORPHAN_POLL = 0.5  # Seconds.
ORPHAN_SECONDS = 50.0  # In which a rank whose launcher is gone has to save.
_launcher: str | None = None


class Interruption:
    """Context manager in which the first signal requests a stop (finish the step, save), and a second ends the process.

    If the whole process group is signalled, a rank that gantrain launched receives the first signal twice, as the
    launcher forwards it; so it leaves the second one to the launcher (``launch.launch``).

    Args:
        max_minutes: The time after which a stop is requested; None for no limit.

    Attributes:
        signal: The number of the signal that was received; 0 for none.
    """

    def __init__(self, max_minutes: float | None) -> None:
        self.signal = 0
        self._deadline = time.monotonic() + 60 * max_minutes if max_minutes is not None else None
        self._handled = ExitStack()

    def is_asked_for(self) -> bool:
        """Whether to stop."""
        return self.signal > 0 or self._time_is_up() or is_orphaned()

    def reason(self, number: int) -> str:
        """Why the run stopped; ``number`` is a signal that any of its ranks received, or 0."""
        if number:
            return signal.Signals(number).name
        return "trainer.max_minutes reached" if self._time_is_up() else "the process that started it is gone"

    def __enter__(self) -> Interruption:
        self._handled.enter_context(signals_to(SIGNALS, self._handle))
        return self

    def __exit__(self, *error: object) -> None:
        self._handled.close()

    def _time_is_up(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        for each in () if LAUNCHER in os.environ else SIGNALS:
            if signal.getsignal(each) == self._handle:
                signal.signal(each, signal.SIG_DFL)


@contextmanager
def signals_to(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have these signals call ``handler`` inside, except those that the process was started to ignore (``nohup``).

    Does nothing outside of the main thread, as Python sets handlers only there.
    """
    is_main = threading.current_thread() is threading.main_thread()
    handled = [number for number in numbers if is_main and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside; every change of the environment is undone at the end."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def exit_on_sigint() -> AbstractContextManager[None]:
    """Have Ctrl-C exit the process inside, until ``restore_sigint``.

    A ``KeyboardInterrupt`` could be swallowed or converted by a library that is being imported.
    """
    return signals_to([signal.SIGINT], _exit)


def restore_sigint() -> None:
    """Have Ctrl-C raise ``KeyboardInterrupt`` again, so that unfinished work is cleaned up."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit(number: int, frame: FrameType | None) -> None:
    os.write(2, b"gantrain: interrupted during setup\n")
    for folder in scratch_folders:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(128 + number)


def begin_rank(job: str) -> None:
    """Register this rank with its launcher, by a file beside that of its ``job``, and have Ctrl-C end it at once.

    The action of the system also ends a rank that waits in a library for the other ranks. ``Interruption`` replaces it.
    """
    folder = Path(job).parent
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    (folder / f"{os.getpid()}.rank").touch()
    if (folder / STOP).exists():  # The launcher was stopped when it did not know this rank yet.
        os._exit(128 + signal.SIGINT)


def follow_launcher() -> None:
    """Have this rank end within a minute of the process that started it, which can't stop it if it is killed.

    A run is stopped by ``is_orphaned`` and saved if its step ends in time. A rank that waits for something, such as
    the other ranks or the store that its launcher hosted, is ended by a thread.
    """
    global _launcher
    _launcher = os.environ.get(LAUNCHER, str(os.getppid()))
    threading.Thread(target=_end_with_launcher, name="launcher", daemon=True).start()


def _end_with_launcher() -> None:
    while not is_orphaned():
        time.sleep(ORPHAN_POLL)
    deadline = time.monotonic() + ORPHAN_SECONDS
    while signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL and time.monotonic() < deadline:
        time.sleep(ORPHAN_POLL)  # An ``Interruption`` is active: the run may still save.
    with suppress(OSError):
        os.write(2, b"gantrain: the process that started this rank is gone\n")
    os._exit(1)


def is_orphaned() -> bool:
    """Whether the launcher or the sweep that started this process has ended without stopping it."""
    launcher = os.environ.get(LAUNCHER, _launcher)
    if launcher is None:
        own, _, sweep = os.environ.get(SWEEP, "").partition(" ")
        launcher = sweep if own == str(os.getpid()) else None
    return launcher is not None and os.getppid() != int(launcher)


def ignore_signals_in_worker() -> None:
    """For data workers: a signal to the process group reaches them too, but the run decides when they end.

    The first SIGTERM is ignored too; multiprocessing ends a worker that does not exit with a second one.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def requeue() -> str:
    """Have SLURM requeue this job, if there is one; returns a message about it, or an empty string.

    SLURM's batch script then runs the same command, which resumes from the newest checkpoint.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if not job or shutil.which("scontrol") is None:
        return ""
    result = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return f"SLURM requeued job {job}"
    return f"warning: SLURM did not requeue job {job}: {result.stderr.strip()}"


class _SafeStream:
    """A text stream that ignores errors of a full disk, or of a closed terminal or pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def safe_stderr() -> Iterator[None]:
    """Inside, messages to a closed or full stderr are lost without an error."""
    with redirect_stderr(cast(TextIO, _SafeStream(sys.stderr))):
        yield
