"""Instance normalisation in few operations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance norm that takes fewer operations to train, with the same result.

    Torch computes it as batch norm on a view in which every channel of every image is a channel, and returns a view.
    For an activation that changes a view in place, autograd dispatches a dozen operations.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        # In another memory layout, batch norm rounds differently.
        if not self.training or self.affine or not input.is_contiguous():
            return super().forward(input)
        count, channels, height, width = input.shape
        if count == 1:
            return F.batch_norm(input, None, None, training=True, eps=self.eps)
        channelwise = input.view(1, count * channels, height, width)
        normalised = F.batch_norm(channelwise, None, None, training=True, eps=self.eps)
        return torch.ops.aten._unsafe_view(normalised, input.shape)  # Nothing else refers to its memory.
