"""Convolutional generator and discriminator of DCGAN (Radford et al. 2016, arXiv:1511.06434), for squares of 2^k."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gantrain.config.schema import NonNegativeInt, PositiveInt, RepeatCountOrZero, UnitFloat
from gantrain.networks.common import NO_LABELS, ImageShape, Network, Norm, Order, doublings, needs_bias, norm_2d
from gantrain.registry import DISCRIMINATORS, GENERATORS


def _without_effect(norm: Norm, num_classes: int) -> dict[str, str]:
    """The keys of these networks that would change nothing, each with the reason; see ``Network``."""
    reasons = {} if norm in ("batch", "instance") else {"order": f"norm={norm} adds no layers that could be ordered"}
    return reasons if num_classes else reasons | {"label_dim": NO_LABELS}


def _block(layer: nn.Module, norm: list[nn.Module], activation: nn.Module, order: Order) -> list[nn.Module]:
    return [layer, *norm, activation] if order == "conv_norm_act" else [layer, activation, *norm]


@GENERATORS.register("dcgan")
class DCGANGenerator(Network):
    """Transposed convolutions from 4 x 4 upward, ReLU, tanh (Radford et al. 2016, arXiv:1511.06434).

    Args:
        shape: The sides are equal, 2^k from 16 to 256.
        num_classes: 0, or the number of labels, whose learned embeddings are concatenated to the latent vectors.
        width: Channels of the last hidden layer; they double toward the latent vector.
        extra_layers: 3 x 3 convolutions at the last hidden layer's resolution (Arjovsky et al.'s code).
        norm: In every layer but the last.
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
        channels = width * 2 ** (doublings(shape, "dcgan") - 1)
        self.label = nn.Embedding(num_classes, label_dim) if num_classes else None
        inputs = latent_dim + (label_dim if num_classes else 0)

        def block(layer: nn.Module, outputs: int) -> list[nn.Module]:
            return _block(layer, norm_2d(norm, outputs), nn.ReLU(inplace=True), order)

        layers = block(nn.ConvTranspose2d(inputs, channels, 4, bias=bias), channels)  # (N, channels, 4, 4)
        while channels > width:
            layers += block(nn.ConvTranspose2d(channels, channels // 2, 4, 2, 1, bias=bias), channels // 2)
            channels //= 2
        for _ in range(extra_layers):
            layers += block(nn.Conv2d(channels, channels, 3, padding=1, bias=bias), channels)
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels, shape[0], 4, 2, 1, bias=bias), nn.Tanh())
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
        shape: The sides are equal, 2^k from 16 to 256.
        num_classes: 0, or the number of labels, whose learned embeddings are an additional image channel.
        width: Channels of the first layer; they double downward.
        extra_layers: 3 x 3 convolutions after the first layer (Arjovsky et al.'s code).
        dropout: After every activation; 0 is off (0.5 in Odena et al. 2017, arXiv:1610.09585).
        norm: In every layer but the first and the last.
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
        channels = width
        for _ in range(doublings(shape, "dcgan") - 1):
            layers += block(nn.Conv2d(channels, channels * 2, 4, 2, 1, bias=bias), channels * 2, norm)
            channels *= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, num_outputs, 4, bias=bias))  # (N, num_outputs, 1, 1)
        self.init_weights()

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W), and (N,) labels if the network has classes, to logits (N, num_outputs)."""
        if self.label is not None:
            plane = self.label(labels).to(image.dtype).view(-1, 1, *self.shape[1:])
            image = torch.cat([image, plane], dim=1)
        return self.layers(image).flatten(1)
