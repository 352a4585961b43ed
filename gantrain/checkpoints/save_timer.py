"""The timer of ``trainer.save_minutes``."""

from __future__ import annotations

import time
from pathlib import Path

from gantrain.runtime import distributed


class SaveTimer:
    """Determines when a checkpoint is due besides the regular ones: after ``minutes``; None for never."""

    def __init__(self, folder: Path, minutes: float | None) -> None:
        self._folder, self._minutes = folder, minutes
        self.restart()

    def restart(self) -> None:
        """Start counting, after a checkpoint or at the beginning."""
        self._start = time.monotonic()

    def is_due(self) -> bool:
        """Whether the time has passed, or the run folder was deleted: saving then fails before more steps are lost."""
        if distributed.rank() == 0 and not self._folder.exists():
            return True
        return self._minutes is not None and time.monotonic() - self._start >= 60 * self._minutes
