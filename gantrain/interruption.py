"""Signals that ask a run to stop, and the time that it was given."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from types import FrameType, TracebackType
from typing import Any

# Ctrl-C, what ends a process politely, and what SLURM can be told to send before a job's time is up
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class Interruption:
    """The first signal asks to finish the step and save; a second ends the process at once, by the system itself.

    Used as a context manager, in whose block signals are taken so.

    Args:
        max_minutes: After so many the run is asked to stop too; None for never.

    Attributes:
        signal: The number of the signal that came; 0 for none.
    """

    def __init__(self, max_minutes: float | None) -> None:
        self.signal = 0
        self._deadline = time.monotonic() + 60 * max_minutes if max_minutes is not None else None
        self._before: dict[signal.Signals, Any] = {}

    def is_asked_for(self) -> bool:
        """Whether to stop."""
        return self.signal > 0 or (self._deadline is not None and time.monotonic() >= self._deadline)

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # the only one that may
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)


def outlive_signals() -> None:
    """For processes that work for a run, which are sent what the whole group is sent: the run will tell them to stop.

    The first SIGTERM is passed over and the second obeyed, by which multiprocessing ends what does not end by itself.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


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
