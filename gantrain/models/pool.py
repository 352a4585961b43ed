"""The history of generated images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """A history of generated images: with probability 1/2 an image is exchanged for an older one.

    Shrivastava et al. 2017 (arXiv:1612.07828). The pool fills first, passing images through. Choices are made on the
    host with torch's default generator; the contents are part of the state, and differ from rank to rank.

    Args:
        size: Images kept; 0 passes everything through.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self._kept: list[list[Tensor]] = []

    def forward(self, images: Tensor, *companions: Tensor | None) -> tuple[Any, ...]:
        """Some new images, some older ones, without gradients.

        Args:
            images: (N, C, H, W).
            companions: (N, ...) each, what the images were made from; they stay with their images. None stays None.

        Returns:
            Images and companions, shaped as given.
        """
        given = [tensor.detach() for tensor in (images, *companions) if tensor is not None]
        if self.size:
            exchanged = [self._exchange(list(row)) for row in zip(*given, strict=True)]
            given = [torch.stack(column) for column in zip(*exchanged, strict=True)]
        rest = iter(given)
        return tuple(None if tensor is None else next(rest) for tensor in (images, *companions))

    def _exchange(self, new: list[Tensor]) -> list[Tensor]:
        if len(self._kept) < self.size:
            self._kept.append([tensor.clone() for tensor in new])
            return new
        if torch.rand(()) < 0.5:
            return new
        place = int(torch.randint(self.size, ()))
        old, self._kept[place] = self._kept[place], [tensor.clone() for tensor in new]
        # a checkpoint gives them back on the CPU
        return [kept.to(tensor.device) for kept, tensor in zip(old, new, strict=True)]

    def get_extra_state(self) -> list[list[Tensor]]:
        """The images and their companions."""
        return [list(row) for row in self._kept]

    def set_extra_state(self, state: list[list[Tensor]]) -> None:
        """Go on from ``get_extra_state``."""
        self._kept = [list(row) for row in state]
