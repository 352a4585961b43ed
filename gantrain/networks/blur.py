"""Halving and doubling of images without aliasing: Zhang 2019 (arXiv:1904.11486).

The keys and shapes of the state are those of the networks of CUT (Park et al. 2020, arXiv:2007.15651).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ReplicationPad2d(nn.ReplicationPad2d):
    """That of torch, whose compiled backward pass fails on the CPU: compiled, it is made of other operations."""

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to larger sides."""
        if not torch.compiler.is_dynamo_compiling():
            return super().forward(image)
        left, right, above, below = self.padding
        image = torch.cat([*[image[..., :1]] * left, image, *[image[..., -1:]] * right], dim=3)
        return torch.cat([*[image[:, :, :1]] * above, image, *[image[:, :, -1:]] * below], dim=2)


class Blur(nn.Module):
    """A convolution of each channel by a binomial filter, after padding.

    Attributes:
        pad: The padding layer.
        filt: (C, 1, K, K), the same filter for each channel; a buffer.
    """

    filt: Tensor

    def __init__(self, channels: int, row: list[float], pad: nn.Module) -> None:
        super().__init__()
        weights = torch.tensor(row)
        self.pad = pad
        self.register_buffer("filt", torch.outer(weights, weights).repeat(channels, 1, 1, 1))


class BlurDown(Blur):
    """Halves the sides: the filter [1, 2, 1] / 4 with reflection, then every second pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, [0.25, 0.5, 0.25], nn.ReflectionPad2d(1))

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, ceil(H / 2), ceil(W / 2))."""
        return F.conv2d(self.pad(image), self.filt, stride=2, groups=len(self.filt))


class BlurUp(Blur):
    """Doubles the sides: zeros between the pixels, then the filter [1, 3, 3, 1] / 4, which repeats the edges."""

    crop = 3  # Pixels at each edge of the transposed convolution that are made of padding.

    def __init__(self, channels: int) -> None:
        super().__init__(channels, [0.25, 0.75, 0.75, 0.25], ReplicationPad2d(1))

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2 H, 2 W)."""
        return F.conv_transpose2d(self.pad(image), self.filt, stride=2, padding=self.crop, groups=len(self.filt))
