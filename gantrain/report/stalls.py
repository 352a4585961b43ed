"""Detects steps that took too long: training waits for data, or the process was stopped."""

from __future__ import annotations

import time


class PauseMonitor:
    """Detects that the process was stopped, as by Ctrl-Z or a suspended machine, which estimates of time leave out."""

    SECONDS = 20.0
    TIMES = 10  # A step that is so much longer than all before it was interrupted.

    def __init__(self) -> None:
        self._last: float | None = None  # The end of the last step.
        self._longest = 0.0

    def since_last_step(self) -> float:
        """Seconds of a pause since the last call, at the end of a step; 0 for none."""
        now, last = time.monotonic(), self._last
        self._last = now
        if last is None:
            return 0.0
        seconds = now - last
        if self._longest and seconds > max(self.SECONDS, self.TIMES * self._longest):
            return seconds - self._longest
        self._longest = max(self._longest, seconds)
        return 0.0


class DataStallMonitor:
    """Detects, once, that training has waited for data for more than a tenth of the time, for a minute or more."""

    SHARE = 0.1
    LINES = 6  # The minimum number of consecutive log lines.
    SECONDS = 60.0

    def __init__(self) -> None:
        self._lines, self._seconds = 0, 0.0  # Length of the current stall.
        self._reported = False

    def is_too_long(self, share: float, seconds: float) -> bool:
        """True once, at a log line; ``share`` of the ``seconds`` since the line before was spent waiting."""
        slow = share > self.SHARE
        self._lines, self._seconds = (self._lines + 1, self._seconds + seconds) if slow else (0, 0.0)
        first = not self._reported and self._lines >= self.LINES and self._seconds >= self.SECONDS
        self._reported |= first
        return first
