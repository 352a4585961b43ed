"""Makers of tiny networks that start from noise, or take images, and inputs for them."""

from __future__ import annotations

import torch
from tiny import dcgan_discriminator, dcgan_generator, mlp_discriminator, mlp_generator
from torch import Tensor, nn

MAKERS = [dcgan_generator, dcgan_discriminator, mlp_generator, mlp_discriminator]


def inputs_of(network: nn.Module, count: int = 4) -> Tensor:
    """Noise that the network can take, in the type of its weights."""
    generator = torch.Generator().manual_seed(5)
    shape = {"DCGANDiscriminator": (3, 16, 16), "MLPDiscriminator": (1, 4, 4)}.get(type(network).__name__, (3,))
    return torch.randn(count, *shape, generator=generator).to(next(network.parameters()).dtype)
