"""When a checkpoint is due by the clock."""

from __future__ import annotations

import time
from pathlib import Path

from gantrain.runtime import distributed


class SaveTimer:
    """Tells when a checkpoint is due besides the regular ones.

    Args:
        folder: The run folder, which rank 0 writes to.
        minutes: Between two checkpoints; None for no limit.
    """

    def __init__(self, folder: Path, minutes: float | None) -> None:
        self._folder = folder
        self._minutes = minutes
        self.restart()

    def restart(self) -> None:
        """Start counting, after a checkpoint or at the beginning."""
        self._start = time.monotonic()

    def is_due(self) -> bool:
        """Whether the time has passed; or the folder is gone, so that saving fails and no more steps are lost."""
        if distributed.rank() == 0 and not self._folder.exists():
            return True
        return self._minutes is not None and time.monotonic() - self._start >= 60 * self._minutes
