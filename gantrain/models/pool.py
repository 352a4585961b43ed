"""The history of generated images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """A history of generated images: with probability 1/2 an image is exchanged for an older one.

    Shrivastava et al. 2017 (arXiv:1612.07828). Until the pool is full, images are stored and returned unchanged. Random
    choices are made on the host with torch's default generator. The contents are part of the state and differ between
    ranks. With a ``size`` of 0, all images are returned unchanged.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self._stored: list[list[Tensor]] = []

    def forward(self, images: Tensor, *companions: Tensor | None) -> tuple[Any, ...]:
        """Images (N, C, H, W) and companions in the given shapes, detached.

        Companions (N, ...) are what the images were generated from, which is exchanged with them; any may be None.
        """
        given = [tensor.detach() for tensor in (images, *companions) if tensor is not None]
        if self.size:
            exchanged = [self._exchange(list(row)) for row in zip(*given, strict=True)]
            given = [torch.stack(column) for column in zip(*exchanged, strict=True)]
        rest = iter(given)
        return tuple(None if tensor is None else next(rest) for tensor in (images, *companions))

    def _exchange(self, new: list[Tensor]) -> list[Tensor]:
        if len(self._stored) < self.size:
            self._stored.append([tensor.clone() for tensor in new])
            return new
        chance: Any = torch.rand(()).tolist()  # This dispatches no operation that would wait for a device.
        if chance < 0.5:
            return new
        place: Any = torch.randint(self.size, ()).tolist()
        old, self._stored[place] = self._stored[place], [tensor.clone() for tensor in new]
        # After a checkpoint was loaded, the stored ones are on the CPU.
        return [stored.to(tensor.device) for stored, tensor in zip(old, new, strict=True)]

    def get_extra_state(self) -> list[list[Tensor]]:
        """The stored images and their companions."""
        return [list(row) for row in self._stored]

    def set_extra_state(self, state: list[list[Tensor]]) -> None:
        """Restore ``get_extra_state``."""
        self._stored = [list(row) for row in state]
