"""The memory of a training step, its shapes and the names of its losses, by trial steps of another model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gantrain.data.base import IMAGE_KEYS, Batch
from gantrain.data.stream import in_order
from gantrain.errors import ConfigError
from gantrain.models.base import GAN, network_sizes
from gantrain.optim.updates import Updates
from gantrain.runtime import distributed
from gantrain.runtime.memory import free_on
from gantrain.runtime.seeding import StepRandom, derive_seed
from gantrain.training.build import Parts, build_model, prepare_model

TRIAL_STEP = 10**6 + 1  # After every warm-up.
TRIAL_SIZES = (2, 4)  # Images; batch norm needs two.
# Memory of the widest layer during a backward pass, for gradients and workspace, in sizes of its output. With it, the
# estimate is 0.77 to 1.08 times what was measured on a CPU: for dcgan, wgan_gp, pix2pix and cyclegan.
GRADIENTS = 5
MOMENTS = 3  # Weights are joined by their gradients and by two moments of Adam.
# No model here needs as much memory as this times that of its images, so that most runs need no trial step.
MOST_PER_IMAGE = 10_000
TOLERANCE = 1.25  # Of the estimate: more than the free memory times this is refused, and what is proposed is below it.


@dataclass(frozen=True)
class Footprint:
    """The memory of a step, which is linear in the batch, and what else a trial step shows."""

    weights: float  # Bytes of the weights.
    fixed: float  # Bytes of other tensors that do not depend on the batch, such as normalised weights.
    per_image: float  # Bytes for each image: what the backward pass needs, and its own.
    batches: int  # Batches that a step draws.
    shapes: dict[str, tuple[str, str]]  # Of the inputs and the output of each network, as text, by its name.

    def activations(self, batch_size: float) -> float:
        """Bytes for the activations of so many images."""
        return self.fixed + self.per_image * batch_size

    def largest_batch(self, free: float) -> int:
        """The largest power of two that surely fits into so many bytes; 0 if none does."""
        count = (free / TOLERANCE - MOMENTS * self.weights - self.fixed) / max(1.0, self.per_image)
        return 2 ** int(math.log2(count)) if count >= 1 else 0

    def problem(self, batch_size: int, device: torch.device, *, ranks: int, ranks_here: int) -> str:
        """Why a global batch does not fit into the memory of this machine, and what does; empty if it may fit.

        Args:
            batch_size: Images of all ranks together.
            device: Of this rank.
            ranks: Their number.
            ranks_here: Their number on this machine, whose memory they share on the CPU.
        """
        free = free_on(device)
        if free is None:
            return ""
        share = free / (ranks_here if device.type == "cpu" else 1)
        needed = MOMENTS * self.weights + self.activations(batch_size / ranks)
        if needed <= TOLERANCE * share:
            return ""
        fits = ranks * self.largest_batch(share)
        others = "data.load_size, data.crop_size or network.width"
        remedy = f"data.batch_size={fits} fits, or lower {others}" if fits else f"lower {others}"
        return (
            f"data.batch_size={batch_size}: a step takes about {gib(needed)}, and {gib(share)} are free "
            f"on {device}: {remedy}"
        )


class _Trial(Updates):
    """Updates without a backward pass, which measure the memory that one would need."""

    def __init__(self, update: Updates, draws: StepRandom, step: int) -> None:
        super().__init__(sides=update.sides, schedule=update.schedule, ema=None, draws=draws, monitor=update.monitor)
        self.saved: dict[int, int] = {}  # The bytes of each storage that a backward pass would need, by address.
        self.peak = 0
        self.step = step
        draws.start(step)
        torch.manual_seed(derive_seed(draws.seed, "trial"))

    def generator(self, loss: Tensor) -> None:
        self.peak = max(self.peak, sum(self.saved.values()) + GRADIENTS * max(self.saved.values(), default=0))
        self.saved.clear()

    discriminator = generator


def measure(parts: Parts) -> Footprint:
    """The footprint of a run, by trial steps of another model of the same configuration."""
    model, item = other_model(parts)
    names = {network: name for name, network in model.named_modules()}
    networks = [*model.generators(), *model.discriminators()]
    shapes: dict[str, tuple[str, str]] = {}

    def note(network: nn.Module, inputs: Any, output: Any) -> None:
        given, made = (shapes_of(values) for values in (inputs, (output,) if isinstance(output, Tensor) else output))
        shapes.setdefault(names[network], (given, made))

    for network in networks:
        network.register_forward_hook(note)
    batches = (repeated(item, size) for size in TRIAL_SIZES)
    (few, drawn, _), (more, _, _) = (_trial_step(model, parts.update, batch) for batch in batches)
    per_image = max(0.0, (more - few) / (TRIAL_SIZES[1] - TRIAL_SIZES[0]))
    weights = sum(parameter.nbytes for network in networks for parameter in network.parameters())
    return Footprint(weights, max(0.0, few - TRIAL_SIZES[0] * per_image), per_image, drawn, shapes)


def trial_names(parts: Parts) -> set[str]:
    """The names of all losses and held-out metrics of a run, by trial steps of another model.

    The first step is one of them: a loss of every n-th step is a loss of step 0.
    """
    model, item = other_model(parts)
    batch = repeated(item, TRIAL_SIZES[0])
    found = [_trial_step(model, parts.update, batch, step=step)[2] for step in (0, TRIAL_STEP)]
    model.eval()
    with torch.no_grad():
        held_out = model.evaluate([] if parts.test_set is None else [dict(batch)])
    return {name for losses in found for name in losses} | held_out.keys()


def other_model(parts: Parts) -> tuple[GAN, Batch]:
    """Another model of the same configuration, and a batch of one image."""
    context = parts.context
    model = build_model(context.config, parts.dataset.spec)
    prepare_model(model, replace(context.trainer, compile=False), context.device)
    batches = in_order(parts.dataset, 1, context.device, context.trainer.dtype, on_error=parts.stream.on_error)
    return model, next(iter(batches))


def check_memory(parts: Parts) -> None:
    """Refuse a batch that does not fit into the free memory, before anything of its size is allocated.

    Raises:
        ConfigError: It does not fit; the message names a batch size that does.
    """
    device, spec = parts.context.device, parts.dataset.spec
    here = distributed.local_world_size() if device.type == "cpu" else 1
    images = sum(math.prod(spec.shape(key)) for key in spec.channels) * parts.context.trainer.dtype.itemsize
    free = free_on(device)
    if free is None or MOST_PER_IMAGE * images * parts.images_at_once / distributed.world_size() * here < free:
        return
    if problem := measure(parts).problem(
        parts.images_at_once, device, ranks=distributed.world_size(), ranks_here=distributed.local_world_size()
    ):
        raise ConfigError(problem)


def describe(parts: Parts, *, missing: str | None) -> list[str]:
    """The lines of a table of networks (shapes, parameters), the memory of a step, and the steps per epoch.

    ``missing`` is the folder of the data if it does not exist, so that the number of images is unknown.
    """
    footprint, stream, device = measure(parts), parts.stream, parts.context.device
    rows = [("network", "input", "output", "parameters")]
    for name, count in network_sizes(parts.model).items():
        rows.append((name, *footprint.shapes.get(name, ("not called", "")), f"{count:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

    ranks, here = distributed.world_size(), distributed.local_world_size()
    per_step = footprint.batches * stream.batch_size
    spec, length = parts.dataset.spec, parts.context.trainer.length
    shapes = {key: ", ".join(["N", *map(str, spec.shape(key))]) for key in IMAGE_KEYS if key in spec.channels}
    images = ", ".join(f"{key} ({shape})" for key, shape in shapes.items())
    size = f"{stream.size:,} in an epoch" if missing is None else f"as configured: there is no data in {missing} yet"
    free = free_on(device)
    at_once = parts.images_at_once
    problem = footprint.problem(at_once, device, ranks=ranks, ranks_here=here)
    return [
        *table,
        "",
        f"images      {images}, {size}",
        f"memory      about {gib((1 + MOMENTS) * footprint.weights)} for weights, gradients and optimizers, "
        f"{gib(footprint.activations(at_once / ranks))} for the activations of {at_once} images"
        + (f"; {gib(free)} are free on {device}" if free is not None else ""),
        f"epoch       {'?' if missing else f'{stream.size / per_step:.1f}'} steps of {per_step} images",
        "length      " + ", ".join(f"{key}={value}" for key, value in length.items() if value is not None),
        *([f"too large   {problem}"] if problem else []),
    ]


def _trial_step(
    model: GAN, update: Updates, batch: Batch, *, step: int = TRIAL_STEP
) -> tuple[int, int, dict[str, Tensor]]:
    """The bytes that the larger backward pass of a step needs, the number of batches that it draws, and its losses."""
    draws = update.draws
    trial = _Trial(update, StepRandom(draws.seed, next(model.parameters()).device), step)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    drawn = 0

    def batches() -> Iterator[Batch]:
        nonlocal drawn
        while True:
            drawn += 1
            yield dict(batch)

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            trial.saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        losses = model.train_step(batches(), trial)
    return trial.peak, drawn, losses


def repeated(item: Batch, size: int) -> Batch:
    """A batch of ``size`` times the first image."""
    first = [0] * size
    return {key: value[first] if isinstance(value, Tensor) else value[:1] * size for key, value in item.items()}


def shapes_of(values: Iterable[Any]) -> str:
    """``(N, 3, 32, 32), (N)``: those of the tensors among the inputs or outputs of a network."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    return ", ".join("(N" + "".join(f", {side}" for side in tensor.shape[1:]) + ")" for tensor in tensors)


def gib(count: float) -> str:
    """``1.5 GiB``, or MiB for less than one."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"
