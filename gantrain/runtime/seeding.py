"""Random numbers as functions of what they are for.

Nothing here carries a state from step to step: every draw is a function of the run's seed and of a place (a step, an
epoch and an item). So a resumed run draws what an uninterrupted one would have drawn, with nothing to save.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2^63) that depends on all parts and on their order."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class StepRandom:
    """The random numbers of one step, drawn for the global batch on every rank alike, then cut to the rank's slice.

    Two ranks together therefore see the noise that one rank would have seen.

    Args:
        seed: The run's seed.
        device: Where the numbers are made.
        rank: Which slice this process takes.
        world_size: How many slices there are.
    """

    def __init__(self, seed: int, device: torch.device, *, rank: int = 0, world_size: int = 1) -> None:
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._generator = torch.Generator(device)
        self.start(0)

    def start(self, step: int) -> None:
        """Begin the draws of ``step``."""
        self._generator.manual_seed(derive_seed(self.seed, "draws", step))

    def normal(self, count: int, *shape: int) -> Tensor:
        """(count, *shape) from N(0, 1); ``count`` is the rank's own share of the batch."""
        device = self._generator.device
        return self._slice(
            torch.randn(count * self.world_size, *shape, generator=self._generator, device=device), count
        )

    def uniform(self, count: int, *shape: int) -> Tensor:
        """(count, *shape), uniform in [0, 1)."""
        device = self._generator.device
        return self._slice(torch.rand(count * self.world_size, *shape, generator=self._generator, device=device), count)

    def integers(self, count: int, high: int) -> Tensor:
        """(count,), whole numbers in [0, high)."""
        device = self._generator.device
        whole = torch.randint(high, (count * self.world_size,), generator=self._generator, device=device)
        return self._slice(whole, count)

    def _slice(self, whole: Tensor, count: int) -> Tensor:
        return whole[self.rank * count : (self.rank + 1) * count]
