"""Convolutional generator and discriminator of DCGAN (Radford et al. 2016, arXiv:1511.06434).

Sides that are not powers of two are halved and rounded down, until the shorter one has 4 to 7 pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gantrain.config.schema import NonNegativeInt, PositiveInt, RepeatCountOrZero, UnitFloat
from gantrain.networks.common import (
    NO_LABELS,
    NORMS_2D,
    ImageShape,
    Network,
    Norm,
    Order,
    doublings,
    needs_bias,
    norm_2d,
)
from gantrain.registry import DISCRIMINATORS, GENERATORS


def _without_effect(norm: Norm, num_classes: int) -> dict[str, str]:
    """The keys of these networks that would change nothing, each with the reason; see ``Network``."""
    reasons = {} if norm in NORMS_2D else {"order": f"norm={norm} adds no layers that could be ordered"}
    return reasons if num_classes else reasons | {"label_dim": NO_LABELS}


def _channels(width: int, level: int) -> int:
    """Channels of the layer whose sides are those of the image halved ``level`` times, at least once.

    They double up to 256 pixels, as in the networks of that size, and stay the same for larger images.
    """
    return int(width * 2 ** min(level - 1, 5))


def _block(layer: nn.Module, norm: list[nn.Module], activation: nn.Module, order: Order) -> list[nn.Module]:
    return [layer, *norm, activation] if order == "conv_norm_act" else [layer, activation, *norm]


@GENERATORS.register("dcgan")
class DCGANGenerator(Network):
    """Transposed convolutions from 4 x 4 upward, ReLU, tanh (Radford et al. 2016, arXiv:1511.06434).

    Args:
        shape: The sides are multiples of 4 from 16 to 1024; the first layer has up to 7 pixels at the shorter one.
        num_classes: 0, or the number of labels, whose learned embeddings are concatenated to the latent vectors.
        width: Channels of the last hidden layer; they double toward the latent vector.
        extra_layers: 3 x 3 convolutions at the last hidden layer's resolution (Arjovsky et al.'s code).
        label_dim: Length of the learned embedding of a label; of conditional models alone.
        norm: In every layer but the last.
        order: Whether the norm of a layer comes before or after its activation.
    """

    def __init__(
        self,
        *,
        latent_dim: PositiveInt,
        shape: ImageShape,
        num_classes: NonNegativeInt,
        width: PositiveInt,
        extra_layers: RepeatCountOrZero,
        label_dim: PositiveInt,
        norm: Norm,
        order: Order,
        **init: Any,
    ) -> None:
        super().__init__(norm=norm, **init)
        self.without_effect |= _without_effect(norm, num_classes)
        bias = needs_bias(norm)
        levels, (height, breadth) = doublings(shape, "dcgan"), shape[1:]
        channels = _channels(width, levels)
        self.label = nn.Embedding(num_classes, label_dim) if num_classes else None
        inputs = latent_dim + (label_dim if num_classes else 0)

        def block(layer: nn.Module, outputs: int) -> list[nn.Module]:
            return _block(layer, norm_2d(norm, outputs), nn.ReLU(inplace=True), order)

        def twice(inputs: int, outputs: int, level: int) -> nn.Module:
            odd = (height >> level) % 2, (breadth >> level) % 2  # Rounding down has taken a row or a column.
            return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, output_padding=odd, bias=bias)

        first = (height >> levels, breadth >> levels)
        layers = block(nn.ConvTranspose2d(inputs, channels, first, bias=bias), channels)  # (N, channels, *first)
        for level in range(levels - 1, 0, -1):
            layers += block(twice(channels, _channels(width, level), level), _channels(width, level))
            channels = _channels(width, level)
        for _ in range(extra_layers):
            layers += block(nn.Conv2d(width, width, 3, padding=1, bias=bias), width)
        self.layers = nn.Sequential(*layers, twice(width, shape[0], 0), nn.Tanh())
        self.init_weights()

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, latent_dim), and (N,) labels if the network has classes, to images (N, C, H, W) in [-1, 1]."""
        if self.label is not None:
            latent = torch.cat([latent, self.label(labels).to(latent.dtype)], dim=1)
        return self.layers(latent[:, :, None, None])


@DISCRIMINATORS.register("dcgan")
class DCGANDiscriminator(Network):
    """Strided convolutions down to 4 x 4, LeakyReLU 0.2, no norm on the first (Radford et al. 2016, arXiv:1511.06434).

    Args:
        shape: The sides are multiples of 4 from 16 to 1024; up to 7 pixels are left at the shorter one.
        num_classes: 0, or the number of labels, whose learned embeddings are an additional image channel.
        width: Channels of the first layer; they double downward.
        extra_layers: 3 x 3 convolutions after the first layer (Arjovsky et al.'s code).
        dropout: After every activation; 0 is off (0.5 in Odena et al. 2017, arXiv:1610.09585).
        norm: In every layer but the first and the last.
        order: Whether the norm of a layer comes before or after its activation.
    """

    def __init__(
        self,
        *,
        shape: ImageShape,
        num_classes: NonNegativeInt,
        num_outputs: PositiveInt,
        width: PositiveInt,
        extra_layers: RepeatCountOrZero,
        dropout: UnitFloat,
        norm: Norm,
        order: Order,
        **init: Any,
    ) -> None:
        super().__init__(norm=norm, **init)
        self.without_effect |= _without_effect(norm, num_classes)
        bias = needs_bias(norm)
        self.shape = shape
        self.label = nn.Embedding(num_classes, shape[1] * shape[2]) if num_classes else None
        inputs = shape[0] + (1 if num_classes else 0)

        def block(layer: nn.Module, outputs: int, layer_norm: Norm) -> list[nn.Module]:
            parts = _block(layer, norm_2d(layer_norm, outputs), nn.LeakyReLU(0.2, inplace=True), order)
            return parts + ([nn.Dropout(dropout)] if dropout else [])

        layers = block(nn.Conv2d(inputs, width, 4, 2, 1, bias=bias), width, "none")
        for _ in range(extra_layers):
            layers += block(nn.Conv2d(width, width, 3, padding=1, bias=bias), width, norm)
        levels = doublings(shape, "dcgan")
        for level in range(2, levels + 1):
            channels = _channels(width, level)
            layers += block(nn.Conv2d(_channels(width, level - 1), channels, 4, 2, 1, bias=bias), channels, norm)
        last = nn.Conv2d(_channels(width, levels), num_outputs, (shape[1] >> levels, shape[2] >> levels), bias=bias)
        self.layers = nn.Sequential(*layers, last)  # (N, num_outputs, 1, 1)
        self.init_weights()

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W), and (N,) labels if the network has classes, to logits (N, num_outputs)."""
        if self.label is not None:
            plane = self.label(labels).to(image.dtype).view(-1, 1, *self.shape[1:])
            image = torch.cat([image, plane], dim=1)
        return self.layers(image).flatten(1)
