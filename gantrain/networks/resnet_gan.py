"""Residual generator and discriminator of SNGAN (Miyato et al. 2018, arXiv:1802.05957), and the attention of SAGAN."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.config.schema import NonNegativeInt, PositiveInt
from gantrain.errors import ConfigError
from gantrain.networks.common import NO_LABELS, ImageShape, Network, Norm, needs_bias, norm_2d
from gantrain.registry import DISCRIMINATORS, GENERATORS

# By the side of the images: the channels of each feature map, from the first one on, in multiples of ``width``. With a
# width of 64 these are the networks of the paper's appendix B for 32 and 48 pixels, and those of the authors' code
# (pfnet-research/sngan_projection) for 64 and 128.
_GENERATOR_CHANNELS = {32: (4, 4, 4, 4), 48: (8, 4, 2, 1), 64: (16, 8, 4, 2, 1), 128: (16, 16, 8, 4, 2, 1)}
_DISCRIMINATOR_CHANNELS = {32: (2, 2, 2, 2), 48: (1, 2, 4, 8, 16), 64: (1, 2, 4, 8, 16), 128: (1, 2, 4, 8, 16, 16)}
_HALVINGS = {32: 2, 48: 4, 64: 5, 128: 5}  # The number of the discriminator's blocks that halve the sides: the first.


class ClassNorm(nn.Module):
    """A norm for (N, C, H, W) whose gain and bias, which start at 1 and 0, are learned for each class.

    With batch norm, it is conditional batch norm (de Vries et al. 2017, arXiv:1707.00683; Miyato and Koyama 2018,
    arXiv:1802.05637), and with instance norm that of Dumoulin et al. 2017, arXiv:1610.07629. With ``none`` or
    ``spectral``, there are only the gain and the bias.

    Args:
        num_classes: 0 is the usual norm, with one gain and bias.
    """

    def __init__(self, norm: Norm, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.Sequential(*norm_2d(norm, channels, affine=not num_classes))
        self.gain = self.bias = None
        if num_classes:
            self.gain, self.bias = nn.Embedding(num_classes, channels), nn.Embedding(num_classes, channels)
            nn.init.ones_(self.gain.weight)
            nn.init.zeros_(self.bias.weight)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Features (N, C, H, W), and (N,) labels if there are classes, to the shape of the features."""
        features = self.norm(features)
        if self.gain is None or self.bias is None:
            return features
        gain, bias = (each(labels)[:, :, None, None].to(features.dtype) for each in (self.gain, self.bias))
        return features * gain + bias


class SelfAttention(nn.Module):
    """``x + gamma * attention(x)`` over all positions of (N, C, H, W), with a learned gamma that starts at 0.

    Zhang et al. 2019, arXiv:1805.08318, as in the authors' code (brain-research/self-attention-gan): queries and keys
    have C/8 channels, values C/2, and keys and values are reduced to half the sides by max pooling.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, values = max(1, channels // 8), max(1, channels // 2)
        self.query = nn.Conv2d(channels, inner, 1, bias=False)
        self.key = nn.Conv2d(channels, inner, 1, bias=False)
        self.value = nn.Conv2d(channels, values, 1, bias=False)
        self.output = nn.Conv2d(values, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, C, H, W), whose sides are 2 or more, to the same shape."""
        query = self.query(features).flatten(2)
        key, value = (F.max_pool2d(each(features), 2).flatten(2) for each in (self.key, self.value))
        weights = (query.transpose(1, 2) @ key).softmax(dim=2)  # (N, H*W, H*W/4); a row for each query.
        attended = (value @ weights.transpose(1, 2)).unflatten(2, features.shape[2:])
        return features + self.gamma * self.output(attended)


class _UpBlock(nn.Module):
    """A residual block with norms before the activations, which doubles the sides by repeating pixels."""

    def __init__(self, inputs: int, outputs: int, norm: Norm, num_classes: int, *, attends: bool) -> None:
        super().__init__()
        self.norm1 = ClassNorm(norm, inputs, num_classes)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=needs_bias(norm))
        self.norm2 = ClassNorm(norm, outputs, num_classes)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.attention = SelfAttention(outputs) if attends else nn.Identity()

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        residual = self.conv1(_doubled(F.relu(self.norm1(x, labels))))
        residual = self.conv2(F.relu(self.norm2(residual, labels)))
        return self.attention(residual + _doubled(self.shortcut(x)))  # A 1 x 1 convolution and repetition commute.


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class _DownBlock(nn.Module):
    """A residual block, with or without halving the sides by their mean; the first has no activation at its input."""

    def __init__(self, inputs: int, outputs: int, norm: Norm, *, first: bool, halves: bool, attends: bool) -> None:
        super().__init__()
        hidden = outputs if first else inputs
        before = [] if first else [*norm_2d(norm, inputs), nn.ReLU()]
        between: Norm = "none" if first else norm
        layers = [nn.Conv2d(inputs, hidden, 3, padding=1, bias=needs_bias(between)), *norm_2d(between, hidden)]
        self.residual = nn.Sequential(*before, *layers, nn.ReLU(), nn.Conv2d(hidden, outputs, 3, padding=1))
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if halves or inputs != outputs else nn.Identity()
        self.halve = nn.AvgPool2d(2) if halves else nn.Identity()
        self.attention = SelfAttention(outputs) if attends else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        # A 1 x 1 convolution and the mean commute; so it is cheaper.
        return self.attention(self.halve(self.residual(x)) + self.shortcut(self.halve(x)))


def _side(shape: ImageShape) -> int:
    """The side of images, if there are networks for it."""
    _, height, width = shape
    if height != width or height not in _HALVINGS:
        raise ConfigError(
            f"the network 'resnet_gan' takes square images of 32, 48, 64 or 128 pixels, not {height} x {width}: "
            "set data.load_size (and data.crop_size) to one of these"
        )
    return height


def _check_attention(attention: list[int], sides: list[int], network: str, image: int) -> None:
    """Refuse attention at feature maps that do not exist, or twice at the same ones."""
    if len({*attention}) < len(attention) or not {*attention} <= {*sides}:
        raise ConfigError(
            f"network.{network}.attention={attention}: for images of {image} x {image} pixels, the feature maps of "
            f"this network have the sides {', '.join(map(str, sorted({*sides})))}: give some of these, each once"
        )


@GENERATORS.register("resnet_gan")
class ResnetGANGenerator(Network):
    """Residual blocks that double the sides, from a linear layer up, and tanh (Miyato et al. 2018, arXiv:1802.05957).

    Args:
        shape: Square images of 32, 48, 64 or 128 pixels.
        num_classes: 0, or the number of labels, each of which has a gain and a bias after the norms of the blocks.
        width: Channels of the last feature map; they double inward up to sixteenfold. For 32 pixels, all feature maps
            have four times as many.
        attention: The sides of the feature maps, in pixels, with self-attention (Zhang et al. 2019, arXiv:1805.08318).
        norm: In all blocks, and after the last.
        spectral: Whether all layers have spectral norm besides ``norm`` (Zhang et al. 2019).
    """

    def __init__(
        self,
        *,
        latent_dim: PositiveInt,
        shape: ImageShape,
        num_classes: NonNegativeInt,
        width: PositiveInt,
        attention: list[PositiveInt],
        norm: Norm,
        spectral: bool,
        **init: Any,
    ) -> None:
        super().__init__(norm="spectral" if spectral else norm, **init)
        if norm == "spectral":
            self.without_effect["spectral"] = "norm=spectral is spectral norm alone"
        image = _side(shape)
        channels = [width * factor for factor in _GENERATOR_CHANNELS[image]]
        self.first = (channels[0], image >> len(channels) - 1, image >> len(channels) - 1)
        sides = [self.first[1] << number for number in range(1, len(channels))]
        _check_attention(attention, sides, "generator", image)
        self.linear = nn.Linear(latent_dim, channels[0] * self.first[1] * self.first[2])
        self.blocks = nn.ModuleList(
            _UpBlock(inputs, outputs, norm, num_classes, attends=side in attention)
            for inputs, outputs, side in zip(channels[:-1], channels[1:], sides, strict=True)
        )
        last = nn.Conv2d(channels[-1], shape[0], 3, padding=1)
        self.output = nn.Sequential(*norm_2d(norm, channels[-1]), nn.ReLU(), last, nn.Tanh())
        self.init_weights()

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, latent_dim), and (N,) labels if the network has classes, to images (N, C, H, W) in [-1, 1]."""
        x = self.linear(latent).unflatten(1, self.first)
        for block in self.blocks:
            x = block(x, labels)
        return self.output(x)


@DISCRIMINATORS.register("resnet_gan")
class ResnetGANDiscriminator(Network):
    """Residual blocks, and a linear layer on the sums of the feature maps (Miyato et al. 2018, arXiv:1802.05957).

    Args:
        shape: Square images of 32, 48, 64 or 128 pixels.
        num_classes: 0, or the number of labels, which enter as ``head`` says.
        width: Channels of the first feature map; they double inward up to sixteenfold. For 32 pixels, all feature maps
            have twice as many.
        attention: The sides of the feature maps, in pixels, with self-attention (Zhang et al. 2019, arXiv:1805.08318).
        head: ``projection`` adds the inner product of the sums of the feature maps and a learned vector of the class
            (Miyato and Koyama 2018, arXiv:1802.05637); ``linear`` does not, and the labels' learned embeddings are an
            additional image channel.
        norm: In all blocks but the first.
    """

    def __init__(
        self,
        *,
        shape: ImageShape,
        num_classes: NonNegativeInt,
        num_outputs: PositiveInt,
        width: PositiveInt,
        attention: list[PositiveInt],
        head: Literal["projection", "linear"],
        norm: Norm,
        **init: Any,
    ) -> None:
        super().__init__(norm=norm, **init)
        if not num_classes:
            self.without_effect["head"] = NO_LABELS
        image = _side(shape)
        plane, projects = num_classes and head == "linear", num_classes and head == "projection"
        halvings = _HALVINGS[image]
        channels = [shape[0] + bool(plane), *(width * factor for factor in _DISCRIMINATOR_CHANNELS[image])]
        sides = [image >> min(number, halvings) for number in range(len(channels))]
        _check_attention(attention, sides[1:], "discriminator", image)
        blocks = (
            _DownBlock(
                channels[number],
                channels[number + 1],
                norm,
                first=number == 0,
                halves=number < halvings,
                attends=number < halvings and sides[number + 1] in attention,
            )
            for number in range(len(channels) - 1)
        )
        self.shape = shape
        self.label = nn.Embedding(num_classes, image * image) if plane else None
        self.blocks = nn.Sequential(*blocks, nn.ReLU())
        self.linear = nn.Linear(channels[-1], num_outputs)
        # Its columns are the vectors of the classes: a linear layer, so that spectral norm applies to it.
        self.projection = nn.Linear(num_classes, channels[-1], bias=False) if projects else None
        self.init_weights()

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W), and (N,) labels if the network has classes, to logits (N, num_outputs)."""
        if self.label is not None:
            plane = self.label(labels).to(image.dtype).view(-1, 1, *self.shape[1:])
            image = torch.cat([image, plane], dim=1)
        features = self.blocks(image).sum(dim=(2, 3))
        logits = self.linear(features)
        if self.projection is None or labels is None:
            return logits
        return logits + (F.embedding(labels, self.projection.weight.T) * features).sum(dim=1, keepdim=True)
