"""Sizes, parameters and memory of a run, measured by one step on a tiny batch that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gantrain.config.settings import TrainerSettings
from gantrain.data.base import IMAGE_KEYS, Batch
from gantrain.data.stream import BatchStream
from gantrain.models.base import GAN
from gantrain.optim.updates import Updates

TRIAL_IMAGES = 2
MIB = 2**20


class _Trial(Updates):
    """Updates without a backward pass, which measure the memory that it would need."""

    def __init__(self, update: Updates) -> None:
        super().__init__(
            sides=update.sides, schedule=update.schedule, ema=None, draws=update.draws, monitor=update.monitor
        )
        self.saved: dict[int, int] = {}
        self.peak = 0

    def generator(self, loss: Tensor) -> None:
        self._measure()

    def discriminator(self, loss: Tensor) -> None:
        self._measure()

    def _measure(self) -> None:
        self.peak = max(self.peak, sum(self.saved.values()))
        self.saved.clear()


def describe(model: GAN, update: Updates, stream: BatchStream, settings: TrainerSettings) -> str:
    """A table of networks (shapes, parameters), the memory of a step, and the steps per epoch."""
    names = {module: name for name, module in model.named_modules()}
    networks = [*model.generators(), *model.discriminators()]
    shapes: dict[nn.Module, tuple[str, str]] = {}

    def note(network: nn.Module, inputs: Any, output: Tensor) -> None:
        given = [_shape(value) for value in inputs if isinstance(value, Tensor)]
        shapes.setdefault(network, (", ".join(given), _shape(output)))

    handles = [network.register_forward_hook(note) for network in networks]
    trial, drawn = _Trial(update), [0]

    def batches() -> Iterator[Batch]:
        while True:
            drawn[0] += 1
            yield first

    first = {key: value[:TRIAL_IMAGES] for key, value in next(stream).items()}

    parameters = {p.untyped_storage().data_ptr() for network in networks for p in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            trial.saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    trial.begin(_AN_ORDINARY_STEP, 0.0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train_step(batches(), trial)
    for handle in handles:
        handle.remove()

    rows = [("network", "input", "output", "parameters")]
    for network in networks:
        count = sum(parameter.numel() for parameter in network.parameters())
        given, made = shapes.get(network, ("not called", ""))
        rows.append((names[network], given, made, f"{count:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

    weights = sum(p.numel() * p.element_size() for network in networks for p in network.parameters())
    share = stream.batch_size / TRIAL_IMAGES / update.draws.world_size
    activations = trial.peak * share
    per_step = drawn[0] * stream.batch_size
    images = ", ".join(f"{key} {_shape(first[key])}" for key in IMAGE_KEYS if key in first)
    return "\n".join(
        [
            *table,
            "",
            f"images      {images}, {stream.size:,} in an epoch",
            f"memory      about {4 * weights / MIB:.0f} MiB for weights, gradients and optimizers, "
            f"{activations / MIB:.0f} MiB for the activations of a batch of {stream.batch_size}",
            f"epoch       {stream.size / per_step:.1f} steps of {per_step} images",
            "length      " + ", ".join(f"{key}={value}" for key, value in settings.length.items() if value is not None),
        ]
    )


_AN_ORDINARY_STEP = 10**6 + 1  # past every warm-up


def _shape(tensor: Tensor) -> str:
    return "(N" + "".join(f", {side}" for side in tensor.shape[1:]) + ")"
