"""TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gantrain.registry import LOGGERS
from gantrain.report.log import Line
from gantrain.report.loggers.base import Logger, read_step, require
from gantrain.runtime.atomic import write_file


@LOGGERS.register("tensorboard")
class TensorBoardLogger(Logger):
    """Scalars, images, and hyper-parameters with the metrics reached: ``tensorboard --logdir checkpoints``.

    Args:
        folder: The run folder, which receives the event files.
        flush_seconds: Seconds between writes to the disk.
    """

    def __init__(self, *, flush_seconds: float, folder: Path) -> None:
        require("tensorboard")
        self._folder = folder
        self._step_file = folder / "tensorboard_step.txt"  # The last step that was flushed to the disk.
        self._flush_seconds = flush_seconds
        self._flushed = 0.0
        self._step = -1
        self._writer: Any = None
        self._settings: dict[str, Any] = {}
        self._names: set[str] = set()

    def begin(self, step: int, settings: Mapping[str, Any], lines: Sequence[Line]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is not None:
            self._flush()
            self._writer.close()
        known = any(self._folder.glob("events.out.tfevents.*"))
        last = min(step, read_step(self._step_file, default=step)) if known else -1
        # The new event file hides the points of later steps in earlier files.
        purge_step = last + 1 if known else None
        self._writer = SummaryWriter(str(self._folder), purge_step=purge_step, flush_secs=int(self._flush_seconds))
        self._step, self._flushed = last, time.monotonic()
        self._settings = {
            key: value if isinstance(value, (bool, int, float, str)) else str(value)
            for key, value in settings.items()
            if value is not None
        }
        self._names = set()
        self._log_lines(lines, after=last)
        self._flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from torch.utils.tensorboard.summary import hparams

        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        if not self._names.issuperset(values):  # The metrics of the hyper-parameters are the curves of these names.
            self._names.update(values)
            for summary in hparams(self._settings, dict.fromkeys(self._names, 0.0))[:2]:
                self._writer.file_writer.add_summary(summary)
        self._step = step
        if time.monotonic() - self._flushed >= self._flush_seconds:
            self._flush()

    def _flush(self) -> None:
        self._writer.flush()
        write_file(self._step_file, str(self._step))
        self._flushed = time.monotonic()

    def image(self, step: int, name: str, image: Image.Image) -> None:
        self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def end(self, status: str) -> None:
        from torch.utils.tensorboard.summary import hparams

        if status == "done":
            self._writer.file_writer.add_summary(hparams(self._settings, dict.fromkeys(self._names, 0.0))[2])
        self._flush()
        self._writer.close()
