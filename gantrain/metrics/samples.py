"""Generated images by number: image i is a function of the seed and of i, for every number of ranks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gantrain.data.base import to_uint8
from gantrain.models.base import LatentGAN
from gantrain.runtime.seeding import StepRandom, derive_seed

PIXELS = 2**21  # Of the images of a block, at most, so that their activations fit into memory.
MOST = 64  # Images of a block.


def block_size(height: int, width: int) -> int:
    """The number of images that pass through networks together, an even one.

    It depends on their size alone: networks round differently for different batches, and metrics must not depend on
    the batch size of the training or the number of ranks.
    """
    return max(2, min(MOST, PIXELS // (height * width) // 2 * 2))


def blocks(count: int, size: int, *, rank: int = 0, world_size: int = 1) -> Iterator[range]:
    """The image numbers of each block of this rank; every block has ``size`` numbers, also the last one."""
    for start in range(rank * size, count, world_size * size):
        yield range(start, start + size)


@torch.no_grad()
def generate(model: LatentGAN, numbers: range, *, seed: int) -> tuple[Tensor, Tensor | None]:
    """The generated images of a block, (N, C, H, W) uint8, and their labels (N,), of models that take labels.

    The model is in evaluation mode; classes are equally frequent, in expectation.
    """
    draws = StepRandom(derive_seed(seed, "metrics", numbers.start), torch.device("cpu"))
    latent, labels = model.draw(len(numbers), draws)
    device = next(model.parameters()).device
    labels = labels if labels is None else labels.to(device)
    return to_uint8(model.generate(latent.to(device), labels)), labels
