"""A network as it is in training, yet each image on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def as_in_training(network: nn.Module, seeds: Sequence[int]) -> Iterator[None]:
    """Inside, dropout is on and batch norm takes the statistics of the image at hand, as if it were a batch of one.

    pix2pix samples so (Isola et al. 2017, arXiv:1611.07004): its dropout is the noise, and its batches hold one image.
    Nothing in the network changes, running statistics and spectral norms included, and neither an image's neighbours in
    the batch nor the device change its result: masks are drawn on the CPU from the image's own seed.

    Args:
        network: Called inside, on batches of ``len(seeds)`` images; its own mode does not matter.
        seeds: One per image.
    """
    modes = [(module, module.training) for module in network.modules()]
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    replaced: list[nn.Module] = []
    for module in network.modules():
        forward: Callable[[Tensor], Tensor]
        if isinstance(module, nn.BatchNorm2d):
            forward = partial(_normalised_alone, module)
        elif isinstance(module, nn.Dropout):
            forward = partial(_dropped, module.p, draws)
        else:
            continue
        module.__dict__["forward"] = forward  # found before the class's own
        replaced.append(module)
    network.eval()  # in training, a spectral norm would go on with every pass
    try:
        yield
    finally:
        for module in replaced:
            del module.__dict__["forward"]
        for module, training in modes:
            module.training = training


def _normalised_alone(norm: nn.BatchNorm2d, features: Tensor) -> Tensor:
    return F.instance_norm(features, weight=norm.weight, bias=norm.bias, eps=norm.eps)


def _dropped(share: float, draws: Sequence[torch.Generator], features: Tensor) -> Tensor:
    masks = [torch.empty(features.shape[1:]).bernoulli_(1 - share, generator=own) for own in draws]
    return features * torch.stack(masks).to(features) / (1 - share)
