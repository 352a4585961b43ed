"""Batch normalisation with the statistics of the global batch, of all ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gantrain.runtime.distributed import average, world_size


class SyncBatchNorm1d(nn.BatchNorm1d):
    """``BatchNorm1d`` for (N, C) whose statistics in training are those of all ranks; it has the same state.

    Unlike ``torch.nn.SyncBatchNorm``, it also works on CPUs and can be differentiated twice. Ranks have batches of
    equal size. In evaluation, or with a single rank, it is ``BatchNorm1d``.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features (N, C), of all ranks together."""
        return _of_all_ranks(self, features) if self.training and world_size() > 1 else super().forward(features)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """``BatchNorm2d`` for (N, C, H, W), otherwise as ``SyncBatchNorm1d``."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features (N, C, H, W), of all ranks together."""
        return _of_all_ranks(self, features) if self.training and world_size() > 1 else super().forward(features)


def _of_all_ranks(norm: _BatchNorm, features: Tensor) -> Tensor:
    """The normalised features, in their dtype; statistics are computed in float32 at least, and recorded."""
    values = features.to(torch.promote_types(features.dtype, torch.float32))
    others = [dim for dim in range(values.dim()) if dim != 1]
    mean = _MeanOverRanks.apply(values.mean(others, keepdim=True))
    centered = values - mean
    variance = _MeanOverRanks.apply(centered.square().mean(others, keepdim=True))
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        assert norm.momentum is not None
        count = values.numel() // values.size(1) * world_size()
        with torch.no_grad():
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean.flatten().to(norm.running_mean), norm.momentum)
            norm.running_var.lerp_((variance * (count / (count - 1))).flatten().to(norm.running_var), norm.momentum)
    normalised = centered * (variance + norm.eps).rsqrt()
    if norm.affine:
        shape = mean.shape
        normalised = normalised * norm.weight.view(shape) + norm.bias.view(shape)
    return normalised.to(features.dtype)


class _MeanOverRanks(torch.autograd.Function):
    """The mean over ranks. Ranks minimise the mean of their losses, so its gradient is the mean of theirs as well."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        mean = tensor.clone()
        average([mean])
        return mean

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _MeanOverRanks.apply(gradients[0])
