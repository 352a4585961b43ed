"""The history of generated images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gantrain.runtime.seeding import take_turn


class ImagePool(nn.Module):
    """A history of generated images: with probability 1/2 an image is exchanged for an older one.

    Shrivastava et al. 2017 (arXiv:1612.07828). Until the pool is full, images are stored and returned unchanged. Random
    choices are made on the host with torch's default generator. The contents are part of the state and differ between
    ranks. With a ``size`` of 0, all images are returned unchanged.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        # Given where the exchange is captured in a CUDA graph: for each call to come, ``choose`` as a (2, N) tensor.
        self.places: Iterator[Tensor] | None = None
        self._stored: list[list[Tensor]] = []
        self._count = 0  # Of the images that are stored.
        # For CUDA graphs, which need a fixed memory: for the images and each companion, (size + 1, ...), the last of
        # which is that of an image that is returned itself.
        self._memory: list[Tensor] = []
        self._is_fixed = False  # Whether they are stored there.

    def forward(self, images: Tensor, *companions: Tensor | None) -> tuple[Any, ...]:
        """Images (N, C, H, W) and companions in the given shapes, detached.

        Companions (N, ...) are what the images were generated from, which is exchanged with them; any may be None.
        """
        given = [tensor.detach() for tensor in (images, *companions) if tensor is not None]
        if self.size:
            given = self._exchange(given) if self.places is None else self._exchange_fixed(given, next(self.places))
        rest = iter(given)
        return tuple(None if tensor is None else next(rest) for tensor in (images, *companions))

    def choose(self, count: int) -> tuple[list[int], list[int]]:
        """For so many new images, the place of the one that is returned, and that where the new one is stored.

        The place is ``size`` for the new image itself, and for none. The caller makes the exchange.
        """
        reads, writes = zip(*[self._choose() for _ in range(count)], strict=True)
        return list(reads), list(writes)

    def _choose(self) -> tuple[int, int]:
        if self._count < self.size:
            self._count += 1
            return self.size, self._count - 1
        chance: Any = torch.rand(()).tolist()  # This dispatches no operation that would wait for a device.
        if chance < 0.5:
            return self.size, self.size
        place: Any = torch.randint(self.size, ()).tolist()
        return place, place

    def _exchange(self, given: list[Tensor]) -> list[Tensor]:
        self._use_list()
        take_turn()
        rows = []
        for *new, read, write in zip(*given, *self.choose(len(given[0])), strict=True):
            # After a checkpoint was loaded, the stored ones are on the CPU.
            old = self._stored[read] if read < self.size else new
            rows.append([stored.to(tensor.device) for stored, tensor in zip(old, new, strict=True)])
            if write < self.size:
                self._stored[write : write + 1] = [[tensor.clone() for tensor in new]]
        return [torch.stack(column) for column in zip(*rows, strict=True)]

    def _exchange_fixed(self, given: list[Tensor], places: Tensor) -> list[Tensor]:
        rows: list[list[Tensor]] = []
        for number in range(len(given[0])):
            read, write = places[0, number : number + 1], places[1, number : number + 1]
            rows.append([])
            for memory, tensor in zip(self._memory, given, strict=True):
                new = tensor[number : number + 1]
                memory[self.size :].copy_(new)
                rows[-1].append(memory.index_select(0, read))
                memory.index_copy_(0, write, new)
        return [torch.cat(column) for column in zip(*rows, strict=True)]

    def use_fixed_memory(self, device: torch.device) -> None:
        """Store the images, of which there is at least one, in a memory that stays the same until ``free``."""
        if self._is_fixed:
            return
        if not self._memory:
            self._memory = [
                torch.zeros(self.size + 1, *each.shape, dtype=each.dtype, device=device) for each in self._stored[0]
            ]
        for place, row in enumerate(self._stored):
            for memory, each in zip(self._memory, row, strict=True):
                memory[place].copy_(each)
        self._stored, self._is_fixed = [], True

    def free(self) -> None:
        """Free the memory of ``use_fixed_memory``."""
        self._use_list()
        self._memory = []

    def _use_list(self) -> None:
        if self._is_fixed:
            self._stored, self._is_fixed = self.get_extra_state(), False

    def get_extra_state(self) -> list[list[Tensor]]:
        """The stored images and their companions."""
        if self._is_fixed:
            return [[memory[place].clone() for memory in self._memory] for place in range(self._count)]
        return [list(row) for row in self._stored]

    def set_extra_state(self, state: list[list[Tensor]]) -> None:
        """Restore ``get_extra_state``."""
        self._stored, self._count, self._is_fixed = (
            [list(row) for row in state[: self.size]],
            min(len(state), self.size),
            False,
        )
