"""What a feature network makes of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TypeAlias

import torch
from torch import Tensor

from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted, Features

# What the networks make of some images, by metric, and the numbers of their pairs, by name.
Part: TypeAlias = tuple[dict[str, Extracted], dict[str, Tensor]]


def extract(network: Features, images: Tensor, channels: Sequence[int] | None) -> Extracted:
    """What the network makes of images (N, C, H, W) uint8, of which it is given these channels."""
    weights = next(chain(network.parameters(), network.buffers()), images)
    with torch.no_grad(), full_float32():
        return Extracted(*network(fit_channels(network, images.to(weights.device), channels)))


def fit_channels(network: Features, images: Tensor, channels: Sequence[int] | None) -> Tensor:
    """Images (N, C, H, W) with the channels that the network takes: those chosen, and gray is repeated to three.

    Raises:
        ConfigError: They have other channels.
    """
    wanted = network.channels
    if channels is not None:
        if max(channels, default=0) >= images.shape[1]:
            raise ConfigError(f"metrics.channels={list(channels)}: the images have {images.shape[1]}, counted from 0")
        images = images[:, list(channels)]
    found = images.shape[1]
    if found == 1 and wanted == 3:
        return images.expand(-1, 3, -1, -1)
    if found != wanted:
        remedy = (
            "metrics.channels=[0,1,2]"
            if found >= wanted == 3
            else "metrics.channels=[0]"
            if wanted == 3
            else "metrics.channels=[0] or metrics.features=inception"
        )
        raise ConfigError(
            f"the feature network {network.identity.split()[0]} takes {wanted} channel{'s' * (wanted > 1)}, and the "
            f"images have {found}: give {remedy}"
        )
    return images


@contextmanager
def full_float32() -> Iterator[None]:
    """Inside, convolutions and matrix products on a GPU are in full float32."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def joined(parts: Sequence[Part]) -> Part:
    """The images of several parts, in order."""
    extracted: dict[str, list[Extracted]] = {}
    pairs: dict[str, list[Tensor]] = {}
    for own, own_pairs in parts:
        for name, each in own.items():
            extracted.setdefault(name, []).append(each)
        for name, value in own_pairs.items():
            pairs.setdefault(name, []).append(value)
    return (
        {name: Extracted.joined(each) for name, each in extracted.items()},
        {name: torch.cat(values) for name, values in pairs.items()},
    )


def on_cpu(parts: Mapping[int, Part]) -> dict[int, Part]:
    """The parts of this rank with tensors on the CPU."""
    return {
        start: (
            {name: each.cpu() for name, each in extracted.items()},
            {name: value.cpu() for name, value in pairs.items()},
        )
        for start, (extracted, pairs) in parts.items()
    }
