"""Random numbers as functions of the run's seed and of what they are for (a step; an epoch and an item).

No state is carried from step to step, so a resumed run draws the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2^63) that depends on all parts and on their order."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_default_generators(seed: int, device: torch.device) -> None:
    """Seed the default generators of the CPU and of ``device`` as ``torch.manual_seed`` does.

    That function is slow in a training step: it formats stack traces for the kinds of devices that are not there.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    elif device.type != "cpu":
        torch.manual_seed(seed)


_turns = threading.local()


def wait_in_turns(wait: Callable[[], None]) -> None:
    """Have ``take_turn`` call ``wait`` in this thread, which computes a part of a batch."""
    _turns.wait = wait


def take_turn() -> None:
    """Wait for the other parts of the batch, if this is one (``trainer.micro_batch``).

    It is called before numbers are drawn from torch's default generator for each image in turn, so that the parts
    together draw those of the whole batch, even if a step draws several times.
    """
    getattr(_turns, "wait", lambda: None)()


class StepRandom:
    """The random numbers of one step: drawn for the global batch on every rank, of which each uses its slice.

    So all ranks together use the same numbers as a single rank would. They are generated on ``device``, by
    ``generator``.
    """

    def __init__(self, seed: int, device: torch.device, *, rank: int = 0, world_size: int = 1) -> None:
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.generator = torch.Generator(device)
        self.start(0)

    def part(self, number: int, count: int) -> StepRandom:
        """The numbers of part ``number`` (from 0) of ``count`` equal parts of this rank's batch."""
        device, ranks = self.generator.device, self.world_size * count
        return StepRandom(self.seed, device, rank=self.rank * count + number, world_size=ranks)

    def start(self, step: int) -> None:
        """Reset to the beginning of ``step``."""
        self.step = step
        self.generator.manual_seed(derive_seed(self.seed, "draws", step))

    def normal(self, count: int, *shape: int) -> Tensor:
        """(count, *shape) from N(0, 1), where ``count`` is the size of this rank's batch."""
        return self._draw(torch.randn, count, *shape)

    def uniform(self, count: int, *shape: int) -> Tensor:
        """(count, *shape), uniform in [0, 1)."""
        return self._draw(torch.rand, count, *shape)

    def integers(self, count: int, high: int) -> Tensor:
        """(count,), integers in [0, high)."""
        return self._draw(partial(torch.randint, high), count)

    def permutation(self, count: int) -> Tensor:
        """(count,), the integers in [0, count) in random order, the same on every rank."""
        return torch.randperm(count, generator=self.generator, device=self.generator.device)

    def coin(self) -> Tensor:
        """(), true with probability one half, the same on every rank."""
        return torch.rand((), generator=self.generator, device=self.generator.device) < 0.5

    def _draw(self, function: Callable[..., Tensor], count: int, *shape: int) -> Tensor:
        size = (count * self.world_size, *shape)
        numbers = function(size, generator=self.generator, device=self.generator.device)
        return numbers if self.world_size == 1 else numbers[self.rank * count : (self.rank + 1) * count]
