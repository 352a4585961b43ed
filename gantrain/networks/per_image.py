"""Running a network in training mode on each image of a batch independently."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def as_in_training(network: nn.Module, seeds: Sequence[int], *, image_statistics: bool = True) -> Iterator[None]:
    """Inside, dropout is on and batch norm uses the statistics of each image, as if it were a batch of one.

    pix2pix samples like this (Isola et al. 2017, arXiv:1611.07004): its dropout is the noise, and its batches contain
    one image. Without ``image_statistics``, batch norm uses its running statistics, which suits networks that were
    trained with larger batches: the statistics of a single image can differ much from those of a batch.

    The state of the network does not change, including running statistics and spectral norms. The result for an image
    depends neither on the rest of the batch nor on the device: its masks are drawn on the CPU from its seed.
    """
    modes = [(module, module.training) for module in network.modules()]
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    replaced: list[tuple[nn.Module, Callable[..., Any] | None]] = []
    for module in network.modules():
        forward: Callable[[Tensor], Tensor]
        if isinstance(module, nn.BatchNorm2d) and image_statistics:
            forward = partial(_normalised_alone, module)
        elif isinstance(module, nn.Dropout):
            forward = partial(_dropped, module.p, draws)
        else:
            continue
        replaced.append((module, module.__dict__.get("forward")))
        module.__dict__["forward"] = forward  # Takes precedence over that of the class.
    network.eval()  # In training mode, a forward pass updates spectral norms.
    try:
        yield
    finally:
        for module, before in replaced:
            del module.__dict__["forward"]
            module.__dict__.update({"forward": before} if before is not None else {})
        for module, training in modes:
            module.training = training


def _normalised_alone(norm: nn.BatchNorm2d, features: Tensor) -> Tensor:
    return F.instance_norm(features, weight=norm.weight, bias=norm.bias, eps=norm.eps)


def _dropped(probability: float, draws: Sequence[torch.Generator], features: Tensor) -> Tensor:
    masks = [torch.empty(features.shape[1:]).bernoulli_(1 - probability, generator=generator) for generator in draws]
    return features * torch.stack(masks).to(features) / (1 - probability)
