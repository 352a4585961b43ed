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
TRIAL_STEP = 10**6 + 1  # After every warm-up.


class _Trial(Updates):
    """Updates without a backward pass, which measure the memory that one would need."""

    def __init__(self, update: Updates) -> None:
        super().__init__(
            sides=update.sides, schedule=update.schedule, ema=None, draws=update.draws, monitor=update.monitor
        )
        self.saved: dict[int, int] = {}  # The bytes of each storage that a backward pass would need, by address.
        self.peak = 0

    def generator(self, loss: Tensor) -> None:
        self.peak = max(self.peak, sum(self.saved.values()))
        self.saved.clear()

    discriminator = generator


def describe(model: GAN, update: Updates, stream: BatchStream, settings: TrainerSettings) -> list[str]:
    """The lines of a table of networks (shapes, parameters), the memory of a step, and the steps per epoch."""
    names = {module: name for name, module in model.named_modules()}
    networks = [*model.generators(), *model.discriminators()]
    shapes: dict[nn.Module, tuple[str, str]] = {}

    def note(network: nn.Module, inputs: Any, output: Tensor) -> None:
        given = [_shape(value) for value in inputs if isinstance(value, Tensor)]
        shapes.setdefault(network, (", ".join(given), _shape(output)))

    handles = [network.register_forward_hook(note) for network in networks]
    trial, drawn = _Trial(update), 0
    first = {key: value[:TRIAL_IMAGES] for key, value in next(stream).items()}

    def batches() -> Iterator[Batch]:
        nonlocal drawn
        while True:
            drawn += 1
            yield first

    parameters = {p.untyped_storage().data_ptr() for network in networks for p in network.parameters()}

    def measure(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            trial.saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    trial.begin(TRIAL_STEP, 0.0)
    with torch.autograd.graph.saved_tensors_hooks(measure, lambda tensor: tensor):
        model.train_step(batches(), trial)
    for handle in handles:
        handle.remove()

    rows = [("network", "input", "output", "parameters")]
    for network in networks:
        count = sum(parameter.numel() for parameter in network.parameters())
        rows.append((names[network], *shapes.get(network, ("not called", "")), f"{count:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

    weights = sum(p.numel() * p.element_size() for network in networks for p in network.parameters())
    activations = trial.peak * stream.batch_size / TRIAL_IMAGES / update.draws.world_size
    per_step = drawn * stream.batch_size
    images = ", ".join(f"{key} {_shape(first[key])}" for key in IMAGE_KEYS if key in first)
    return [
        *table,
        "",
        f"images      {images}, {stream.size:,} in an epoch",
        f"memory      about {4 * weights / 2**20:.0f} MiB for weights, gradients and optimizers, "
        f"{activations / 2**20:.0f} MiB for the activations of a batch of {stream.batch_size}",
        f"epoch       {stream.size / per_step:.1f} steps of {per_step} images",
        "length      " + ", ".join(f"{key}={value}" for key, value in settings.length.items() if value is not None),
    ]


def _shape(tensor: Tensor) -> str:
    return "(N" + "".join(f", {side}" for side in tensor.shape[1:]) + ")"
