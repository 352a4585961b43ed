"""Fully connected generator and discriminator on flattened images (Goodfellow et al. 2014, arXiv:1406.2661)."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from gantrain.config.schema import NonNegativeFloat, NonNegativeInt, PositiveInt, RepeatCountOrZero, UnitFloat
from gantrain.errors import ConfigError
from gantrain.networks.common import ImageShape, Init, Norm, finish, needs_bias
from gantrain.registry import DISCRIMINATORS, GENERATORS


def _hidden_layers(sizes: list[int], norm: Norm, dropout: float) -> list[nn.Module]:
    if norm == "instance":
        raise ConfigError("norm=instance has no meaning in a fully connected network; use batch, none or spectral")
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers.append(nn.Linear(inputs, outputs, bias=needs_bias(norm)))
        if norm == "batch":
            layers.append(nn.BatchNorm1d(outputs))
        layers.append(nn.LeakyReLU(0.2, inplace=True))
        if dropout:
            layers.append(nn.Dropout(dropout))
    return layers


@GENERATORS.register("mlp")
class MLPGenerator(nn.Module):
    """Linear layers that double in size, LeakyReLU 0.2, tanh, for images of any size.

    Args:
        latent_dim: Length of the latent vector.
        shape: Channels, height and width of the images.
        num_classes: 0, or the number of labels; each label's learnt embedding then joins the latent vector.
        hidden: Size of the first hidden layer.
        num_layers: Hidden layers.
        doubling: Whether each is twice as large as the one before.
        label_dim: Length of a label's embedding.
        dropout: After every activation; 0 is off.
        norm: ``batch``, ``none`` or ``spectral``.
        init: See ``gantrain.networks.common.finish``.
        init_gain: See there.
    """

    def __init__(
        self,
        *,
        latent_dim: PositiveInt,
        shape: ImageShape,
        num_classes: NonNegativeInt,
        hidden: PositiveInt,
        num_layers: RepeatCountOrZero,
        doubling: bool,
        label_dim: PositiveInt,
        dropout: UnitFloat,
        norm: Norm,
        init: Init,
        init_gain: NonNegativeFloat,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.label = nn.Embedding(num_classes, label_dim) if num_classes else None
        inputs = latent_dim + (label_dim if num_classes else 0)
        sizes = [inputs, *(hidden * 2 ** (doubling * i) for i in range(num_layers))]
        self.layers = nn.Sequential(*_hidden_layers(sizes, norm, dropout), nn.Linear(sizes[-1], prod(shape)), nn.Tanh())
        finish(self, norm=norm, init=init, init_gain=init_gain)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, latent_dim), and (N,) labels if the network has classes, to images (N, C, H, W) in [-1, 1]."""
        if self.label is not None:
            latent = torch.cat([latent, self.label(labels).to(latent.dtype)], dim=1)
        return self.layers(latent).view(-1, *self.shape)


@DISCRIMINATORS.register("mlp")
class MLPDiscriminator(nn.Module):
    """Linear layers that halve in size down to ``hidden``, LeakyReLU 0.2, for images of any size.

    Args:
        shape: Channels, height and width of the images.
        num_classes: 0, or the number of labels; each label's learnt embedding then joins the pixels.
        num_outputs: Logits per image.
        hidden: Size of the last hidden layer.
        num_layers: Hidden layers.
        doubling: Whether each is half as large as the one before.
        label_dim: Length of a label's embedding.
        dropout: After every activation; 0 is off.
        norm: ``batch``, ``none`` or ``spectral``.
        init: See ``gantrain.networks.common.finish``.
        init_gain: See there.
    """

    def __init__(
        self,
        *,
        shape: ImageShape,
        num_classes: NonNegativeInt,
        num_outputs: PositiveInt,
        hidden: PositiveInt,
        num_layers: RepeatCountOrZero,
        doubling: bool,
        label_dim: PositiveInt,
        dropout: UnitFloat,
        norm: Norm,
        init: Init,
        init_gain: NonNegativeFloat,
    ) -> None:
        super().__init__()
        self.label = nn.Embedding(num_classes, label_dim) if num_classes else None
        inputs = prod(shape) + (label_dim if num_classes else 0)
        sizes = [inputs, *(hidden * 2 ** (doubling * i) for i in reversed(range(num_layers)))]
        self.layers = nn.Sequential(*_hidden_layers(sizes, norm, dropout), nn.Linear(sizes[-1], num_outputs))
        finish(self, norm=norm, init=init, init_gain=init_gain)

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W), and (N,) labels if the network has classes, to logits (N, num_outputs)."""
        flat = image.flatten(1)
        if self.label is not None:
            flat = torch.cat([flat, self.label(labels).to(flat.dtype)], dim=1)
        return self.layers(flat)
