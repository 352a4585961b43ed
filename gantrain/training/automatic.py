"""What ``trainer.threads=auto`` chooses at the start of a run, by measuring; the choice is recorded with the run."""

from __future__ import annotations

import os

import torch

from gantrain.runtime.parallel import faster_threads
from gantrain.training.trainer import Trainer

MAX_THREADS = 1024  # A checkpoint with more is damaged.


def use_threads(trainer: Trainer) -> None:
    """Compute with the configured number of threads, or that of the run, or else one that is measured; record it."""
    chosen, recorded = trainer.settings.threads, trainer.constants.get("threads")
    if not isinstance(recorded, int) or not 0 < recorded <= MAX_THREADS:
        recorded = None
    if chosen == "auto":
        measures = trainer.parts.context.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ
        chosen = recorded or (faster_threads(torch.get_num_threads()) if measures else torch.get_num_threads())
    torch.set_num_threads(chosen)
    trainer.constants["threads"] = chosen
