"""What ``trainer.threads=auto`` and ``trainer.precision=auto`` choose at the start of a run, by measuring.

The choice is recorded with the run, since results depend on it, and a resumed run takes the recorded one.
"""

from __future__ import annotations

import itertools
import os
import time

import torch
from torch import Tensor, nn

from gantrain.data.base import IMAGE_KEYS, Batch
from gantrain.models.base import GAN
from gantrain.optim.updates import Updates
from gantrain.runtime import distributed
from gantrain.runtime.parallel import faster_threads
from gantrain.runtime.seeding import StepRandom
from gantrain.training.build import Parts, set_precisions
from gantrain.training.footprint import TRIAL_STEP, other_model, repeated
from gantrain.training.trainer import Trainer

AUTOMATIC = ("threads", "precision")  # The entries of a checkpoint that record what was chosen.
MAX_THREADS = 1024  # A checkpoint with more is damaged.

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
PROBE_ROUNDS, PROBE_SECONDS = 4, 5.0  # Steps in each precision: at most so many, and none after this time.
FASTER = 1.1  # bfloat16 is used if its steps are so many times as fast, since it is less precise.


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


def use_precision(trainer: Trainer) -> None:
    """With ``trainer.precision=auto``, compute in the precision of the run, or else in the faster one; record it."""
    settings, parts, constants = trainer.settings, trainer.parts, trainer.constants
    if settings.precision != "auto":
        constants.pop("precision", None)
        return
    recorded = constants.get("precision")
    if recorded in PRECISIONS:
        chosen, reason = recorded, "as recorded"
    else:
        ratio = distributed.all_gather_object(speed_of_bfloat16(parts))[0]
        chosen = "bfloat16" if ratio >= FASTER else "float32"
        reason = f"bfloat16 is {ratio:.2f} times as fast as float32 here"
    device = parts.context.device
    set_precisions(parts.model, device, autocast=PRECISIONS[chosen], compiled=settings.compile)
    constants["precision"] = chosen
    distributed.print_rank_zero(f"Precision: {chosen} (trainer.precision=auto: {reason})")


def speed_of_bfloat16(parts: Parts) -> float:
    """How many times as fast as in float32 a step is, except for the optimizers, of another model of the same kind.

    On the CPU it depends on the processor; on a GPU also on the sizes, as small steps consist of launching kernels.
    """
    device = parts.context.device
    if device.type not in ("cpu", "cuda"):
        return 0.0
    model, item = other_model(parts)
    model.train()
    batch = repeated(item, parts.images_at_once // distributed.world_size())
    batch |= {key: torch.rand_like(batch[key]) * 2 - 1 for key in IMAGE_KEYS if key in batch}
    update = _Probe(parts.update, model)
    seconds: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for _ in range(PROBE_ROUNDS):  # By turns, as other work on the machine may come and go.
        for name, autocast in PRECISIONS.items():
            for module in model.modules():
                module.__dict__.pop("forward", None)  # That of the other precision.
            set_precisions(model, device, autocast=autocast, compiled=False)
            seconds[name].append(_time_step(model, batch, update, device))
        # All ranks take the same steps, in which they may exchange statistics.
        if max(distributed.all_gather_object(sum(map(sum, seconds.values())))) > PROBE_SECONDS:
            break
    # The first step is slower, which does not matter where it takes seconds.
    fastest = {name: min(times[1:] or times) for name, times in seconds.items()}
    return fastest["float32"] / fastest["bfloat16"]


def _time_step(model: GAN, batch: Batch, update: Updates, device: torch.device) -> float:
    update.draws.start(TRIAL_STEP)
    start = time.perf_counter()
    model.train_step(itertools.repeat(batch), update)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


class _Probe(Updates):
    """Updates of another model without the optimizers' steps."""

    def __init__(self, update: Updates, model: GAN) -> None:
        draws = StepRandom(update.draws.seed, next(model.parameters()).device)
        super().__init__(sides=update.sides, schedule=update.schedule, ema=None, draws=draws, monitor=update.monitor)
        self.step = TRIAL_STEP
        self._model = model

    def generator(self, loss: Tensor) -> None:
        self._backward(loss, self._model.generators())

    def discriminator(self, loss: Tensor) -> None:
        self._backward(loss, self._model.discriminators())

    def _backward(self, loss: Tensor, networks: list[nn.Module]) -> None:
        parameters = [parameter for network in networks for parameter in network.parameters()]
        loss.backward(inputs=parameters)
        for parameter in parameters:
            parameter.grad = None
