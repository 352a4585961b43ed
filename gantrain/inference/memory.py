"""Whether images are translated whole, or in strips because they do not fit in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from gantrain.data.base import to_signed_range
from gantrain.errors import ConfigError
from gantrain.inference.strips import Strips
from gantrain.models.translation import Direction, NetworkMode, Translator, accepted_sides, mirrored
from gantrain.runtime.memory import free_on

Memory: TypeAlias = Literal["auto", "whole", "strips"]

SMALL = 1 << 18  # Pixels of images that are not worth a look at the memory.
MAX_SHARE = 0.8  # The fraction of the free memory that images may take.
OVERHEAD = 2.0  # Convolutions also take memory for their inputs and outputs in other layouts.


def images_at_once(
    translator: Translator,
    direction: Direction,
    shape: Sequence[int],
    network_mode: NetworkMode,
    memory: Memory,
    device: torch.device,
) -> int:
    """How many images of the shape (N, C, H, W) are translated at a time; 0 for one by one in strips.

    Raises:
        ConfigError: They would have to be computed in strips, and the network can't.
    """
    count, _, height, width = shape
    if memory == "whole" or (memory == "auto" and count * height * width <= SMALL):
        return count
    sides = accepted_sides(translator.generator_of(direction), height, width)
    free = free_on(device)
    fitting, largest = count, ""
    try:
        needed = _strips(translator, direction, sides, "eval").bytes_of_whole() * OVERHEAD
    except ConfigError as error:
        if memory == "strips":
            raise ConfigError(f"memory=strips: {error}: give memory=whole") from None
        return count  # Its memory is unknown.
    if free is not None:
        fitting = int(MAX_SHARE * free / needed)
        side = math.isqrt(int(sides[0] * sides[1] * MAX_SHARE * free / needed))
        largest = f", which fits images of about {side} x {side} pixels"
    if memory == "auto" and fitting:
        return min(count, fitting)
    try:
        _strips(translator, direction, sides, network_mode)
    except ConfigError as error:
        raise ConfigError(
            f"memory={memory}: an image of {width} x {height} pixels: {error}: give network_mode=eval, or "
            f"memory=whole{largest}"
        ) from None
    return 0


def in_strips(
    translator: Translator, direction: Direction, image: Tensor, network_mode: NetworkMode
) -> Iterator[tuple[int, Tensor]]:
    """Translate a stored image (1, C, H, W) in strips: the number of the first row, and rows (1, C', rows, W)."""
    height, width = image.shape[-2:]
    network = translator.generator_of(direction)
    weights = next(network.parameters())
    sides = accepted_sides(network, height, width)
    rows, columns = mirrored(height, sides[0]).to(image.device), mirrored(width, sides[1]).to(weights.device)

    def stored(first: int, last: int) -> Tensor:
        # Not ``index_select``, which has no 16 bits.
        return to_signed_range(image[:, :, rows[first:last]].to(weights.device), weights.dtype)

    def read(first: int, last: int) -> Tensor:
        return translator.from_stored(stored(first, last)).index_select(3, columns)

    for first, output in _strips(translator, direction, sides, network_mode)(read):
        last = min(first + output.size(2), height)
        if last > first:
            yield first, translator.to_stored(output[:, :, : last - first, :width], stored(first, last))


def _strips(translator: Translator, direction: Direction, sides: tuple[int, int], network_mode: NetworkMode) -> Strips:
    network = translator.generator_of(direction)
    channels = translator.input_channels(direction)
    if channels is None:
        raise ConfigError(f"{type(translator).__name__} does not say how many channels it takes")
    if network_mode != "eval" and any(isinstance(module, nn.Dropout) and module.p for module in network.modules()):
        raise ConfigError(f"dropout as in training (network_mode={network_mode}) can't be computed in strips")
    return Strips(network, channels, *sides, alone=translator.uses_image_statistics(network_mode))
