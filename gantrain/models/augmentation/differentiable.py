"""Differentiable augmentation of the images that a discriminator sees: Zhao et al. 2020, arXiv:2006.10738."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from gantrain.runtime.seeding import StepRandom

Operation: TypeAlias = Literal["color", "translation", "cutout"]
# Of the authors' code, relative to the height and the width.
FARTHEST_SHIFT = 0.125
CUTOUT = 0.5


def augmented(
    images: Tensor, operations: Sequence[Operation], draws: StepRandom, *, channels: Sequence[int] | None = None
) -> Tensor:
    """Images after random operations, one after another, each with its own draw for each image; differentiable.

    * ``color`` adds up to 0.5 to all values, multiplies the distances from the mean of each pixel's channels by 0 to 2
      and then those from the mean of the image by 0.5 to 1.5;
    * ``translation`` shifts by up to an eighth of the height and of the width, and fills with 0;
    * ``cutout`` sets a rectangle of half the height and half the width to 0, which edges may cut off.

    Args:
        images: (N, C, H, W) in [-1, 1]; the result may exceed this range.
        operations: Their names; empty for the images as they are.
        draws: The random numbers.
        channels: The channels of each of several images that are concatenated in dimension 1. The same draw is used for
            all of them, and means are taken in each; None for one image.
    """
    if not operations:
        return images
    parts = list(images.split(list(channels or [images.size(1)]), dim=1))
    for operation in operations:
        change = _OPERATIONS[operation](images, draws)
        parts = [change(part) for part in parts]
    return torch.cat(parts, dim=1)


def _color(images: Tensor, draws: StepRandom) -> Callable[[Tensor], Tensor]:
    brightness, saturation, contrast = draws.uniform(len(images), 3, 1, 1, 1).to(images.dtype).unbind(1)

    def change(part: Tensor) -> Tensor:
        part = part + (brightness - 0.5)
        mean = part.mean(dim=1, keepdim=True)
        part = (part - mean) * (2 * saturation) + mean
        mean = part.mean(dim=(1, 2, 3), keepdim=True)
        return (part - mean) * (contrast + 0.5) + mean

    return change


def _translation(images: Tensor, draws: StepRandom) -> Callable[[Tensor], Tensor]:
    count, _, height, width = images.shape
    (rows, row_inside), (columns, column_inside) = (_shifted(count, side, draws) for side in (height, width))
    places = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)[:, None]
    outside = ~(row_inside[:, None, :, None] & column_inside[:, None, None, :])

    def change(part: Tensor) -> Tensor:
        moved = part.flatten(2).gather(2, places.expand(-1, part.size(1), -1))
        return moved.view_as(part).masked_fill(outside, 0)

    return change


def _shifted(count: int, side: int, draws: StepRandom) -> tuple[Tensor, Tensor]:
    """(count, side): where each row or column is taken from, and whether that is inside the image."""
    farthest = int(side * FARTHEST_SHIFT + 0.5)
    shift = draws.integers(count, 2 * farthest + 1) - farthest
    places = torch.arange(side, device=shift.device) + shift[:, None]
    return places.clamp(0, side - 1), (places >= 0) & (places < side)


def _cutout(images: Tensor, draws: StepRandom) -> Callable[[Tensor], Tensor]:
    count, _, height, width = images.shape
    rows, columns = (_cut_out(count, side, draws) for side in (height, width))
    hole = rows[:, None, :, None] & columns[:, None, None, :]
    return lambda part: part.masked_fill(hole, 0)


def _cut_out(count: int, side: int, draws: StepRandom) -> Tensor:
    """(count, side): whether a row or column is cut out."""
    size = int(side * CUTOUT + 0.5)
    first = draws.integers(count, side + 1 - size % 2)[:, None] - size // 2
    places = torch.arange(side, device=first.device)
    return (places >= first) & (places < first + size)


_OPERATIONS: dict[Operation, Callable[[Tensor, StepRandom], Callable[[Tensor], Tensor]]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}
