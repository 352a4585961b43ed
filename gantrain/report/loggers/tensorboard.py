"""TensorBoard's files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gantrain.registry import LOGGERS
from gantrain.report.lines import Line
from gantrain.report.loggers.base import Logger, require, step_kept
from gantrain.runtime.atomic import write_file


@LOGGERS.register("tensorboard")
class TensorBoardLogger(Logger):
    """Scalars, images, and hyper-parameters with what came of them: ``tensorboard --logdir checkpoints``.

    Args:
        folder: The run folder, in which the event files lie.
        flush_seconds: Between writes to the disk.
    """

    def __init__(self, *, flush_seconds: float, folder: Path) -> None:
        require("tensorboard")
        self._folder = folder
        self._kept = folder / "tensorboard_step.txt"  # the last step that is on the disk for certain
        self._flush_seconds = flush_seconds
        self._flushed = 0.0
        self._step = -1
        self._writer: Any = None
        self._settings: dict[str, Any] = {}
        self._told: set[str] = set()

    def begin(self, step: int, settings: Mapping[str, Any], lines: Sequence[Line]) -> None:
        """Open another event file, which hides what the earlier ones hold of later steps, and write what they lack."""
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is not None:
            self._flush()
            self._writer.close()
        known = any(self._folder.glob("events.out.tfevents.*"))
        last = min(step, step_kept(self._kept, otherwise=step)) if known else -1
        self._writer = SummaryWriter(
            str(self._folder), purge_step=last + 1 if known else None, flush_secs=int(self._flush_seconds)
        )
        self._step, self._flushed = last, time.monotonic()
        self._settings = {
            key: value if isinstance(value, (bool, int, float, str)) else str(value)
            for key, value in settings.items()
            if value is not None
        }
        self._told = set()
        for line in lines:
            if line["step"] > last:
                self.scalars(int(line["step"]), {name: value for name, value in line.items() if name != "step"})
        self._flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """A point on each curve."""
        from torch.utils.tensorboard.summary import hparams

        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        if not self._told.issuperset(values):  # TensorBoard looks the figures up in the curves of these names
            self._told.update(values)
            for summary in hparams(self._settings, dict.fromkeys(self._told, 0.0))[:2]:
                self._writer.file_writer.add_summary(summary)
        self._step = step
        if time.monotonic() - self._flushed >= self._flush_seconds:
            self._flush()

    def _flush(self) -> None:
        self._writer.flush()
        write_file(self._kept, str(self._step))
        self._flushed = time.monotonic()

    def image(self, step: int, name: str, image: Image.Image) -> None:
        """One image."""
        self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def end(self, status: str) -> None:
        """Write what is left."""
        from torch.utils.tensorboard.summary import hparams

        if status == "done":
            self._writer.file_writer.add_summary(hparams(self._settings, dict.fromkeys(self._told, 0.0))[2])
        self._flush()
        self._writer.close()
