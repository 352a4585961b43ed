#!/usr/bin/env python3
"""Runs a ``gantrain`` command on a GPU and counts how often its host waits for it in 100 steps without a log line.

    python scripts/count_synchronisations.py train model=dcgan trainer.steps=140 trainer.log_every=130

Prints ``synchronisations N`` at the end, the warnings of torch's synchronisation debug mode from step 20 to 120.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import torch

from gantrain.cli.main import main
from gantrain.training.trainer import Trainer

FIRST, LAST = 20, 120
counts: list[int] = []
fit = Trainer.fit


def count(message: Warning | str, *rest: Any) -> None:
    """Take the place of ``warnings.showwarning``."""
    if counts:
        counts[-1] += "called a synchronizing CUDA operation" in str(message)


def counting_fit(self: Trainer) -> bool:
    """``Trainer.fit``, whose steps switch the debug mode on and off."""
    start = self.update.begin

    def begin(step: int, progress: float) -> None:
        if step in (FIRST, LAST):
            counts.append(0)
            torch.cuda.set_sync_debug_mode("warn" if step == FIRST else "default")
        start(step, progress)

    self.update.begin = begin  # type: ignore[method-assign]
    return fit(self)


Trainer.fit = counting_fit  # type: ignore[method-assign]
warnings.showwarning = count  # type: ignore[assignment]
warnings.simplefilter("always")
status = main(sys.argv[1:])
print("synchronisations", counts[0])
sys.exit(status)
