"""Sizes, parameters and memory of a run, measured by trial steps that change nothing."""

from __future__ import annotations

from gantrain.data.base import IMAGE_KEYS
from gantrain.models.base import network_sizes
from gantrain.runtime import distributed
from gantrain.runtime.memory import free_on
from gantrain.training.build import Parts
from gantrain.training.footprint import MOMENTS, gib, measure


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
