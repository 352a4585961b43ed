"""Signals that ask a run to stop, and the time that it was given."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, TracebackType

# Ctrl-C, what ends a process politely, and what SLURM can be told to send before a job's time is up
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
HANG_UPS = [getattr(signal, name) for name in ("SIGHUP", "SIGQUIT") if hasattr(signal, name)]
SCRATCH = "GANTRAIN_SCRATCH"  # the environment variable that names a folder of the process, to be deleted
LAUNCHER = "GANTRAIN_LAUNCHER"  # the environment variable that tells a rank which process has started it
SWEEP = "GANTRAIN_SWEEP"  # and one that makes runs of a sweep; with its own number, as its ranks inherit it


class Interruption:
    """The first signal asks to finish the step and save; a second ends the process at once, by the system itself.

    Used as a context manager, in whose block signals are taken so. A rank that gantrain has started is sent the first
    one twice if all processes of a run are, as it is passed on too; its second one is left to the process that started
    it (``distributed.launch``).

    Args:
        max_minutes: After so many the run is asked to stop too; None for never.

    Attributes:
        signal: The number of the signal that came; 0 for none.
    """

    def __init__(self, max_minutes: float | None) -> None:
        self.signal = 0
        self._deadline = time.monotonic() + 60 * max_minutes if max_minutes is not None else None
        self._handled = ExitStack()

    def is_asked_for(self) -> bool:
        """Whether to stop."""
        return self.signal > 0 or self._time_is_up() or is_orphaned()

    def reason(self, number: int) -> str:
        """Why the run has stopped, once it is known which signal came to any of its ranks, if one did."""
        if number:
            return signal.Signals(number).name
        return "trainer.max_minutes are over" if self._time_is_up() else "the process that started it is gone"

    def __enter__(self) -> Interruption:
        self._handled.enter_context(signals_to(SIGNALS, self._take))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handled.close()

    def _time_is_up(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        for each in () if LAUNCHER in os.environ else SIGNALS:
            if signal.getsignal(each) == self._take:
                signal.signal(each, signal.SIG_DFL)


@contextmanager
def signals_to(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have these signals call ``handler`` inside, but for those that the process was started to pass over.

    It is by ``nohup``, and in the background of a script. Nothing happens outside of the main thread, which alone may.
    """
    may = threading.current_thread() is threading.main_thread()
    heard = [number for number in numbers if may and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def exit_on_sigint() -> Iterator[None]:
    """Have Ctrl-C end the process inside, until ``restore_sigint``.

    As an exception it may be lost, or come out as another, in a library that is just being imported.
    """
    with signals_to([signal.SIGINT], _leave):
        yield


def restore_sigint() -> None:
    """Have Ctrl-C raise ``KeyboardInterrupt`` again, by which what is under way can be undone."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"gantrain: interrupted before anything had begun\n")
    if SCRATCH in os.environ:
        shutil.rmtree(os.environ[SCRATCH], ignore_errors=True)
    os._exit(128 + number)


def is_orphaned() -> bool:
    """Whether this makes a run for another process, and that is gone, which nobody else would notice."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None:
        own, _, sweep = os.environ.get(SWEEP, "").partition(" ")
        launcher = sweep if own == str(os.getpid()) else None
    return launcher is not None and os.getppid() != int(launcher)


def ignore_signals_in_worker() -> None:
    """For processes that work for a run, which are sent what the whole group is sent: the run will tell them to stop.

    The first SIGTERM is passed over and the second obeyed, by which multiprocessing ends what does not end by itself.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def is_requeued() -> bool:
    """Whether SLURM has started this job before."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def requeue() -> str:
    """Have SLURM start this job again, where it runs one; says so, or nothing.

    SLURM's batch script then runs the same command, which goes on from the newest checkpoint.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if not job or shutil.which("scontrol") is None:
        return ""
    asked = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        return f"SLURM starts job {job} again"
    return f"warning: SLURM does not start job {job} again: {asked.stderr.strip()}"
