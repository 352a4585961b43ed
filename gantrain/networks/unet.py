"""Encoder-decoders with skip connections: that of pix2pix (Isola et al. 2017, arXiv:1611.07004), and a small one.

The keys and shapes of the state of ``unet`` are those of pytorch-CycleGAN-and-pix2pix.
"""

from __future__ import annotations

from math import gcd
from typing import Annotated, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gantrain.config.schema import Range, RepeatCount
from gantrain.networks.common import ImageToImage, norm_layer, reference_bias
from gantrain.registry import GENERATORS

Upsample: TypeAlias = Literal["transposed", "resize"]
LEAST_DEPTH = 5  # Four levels of increasing width, and the innermost.
MOST_DEPTH = 8  # From 256 pixels to one.


def _up(inputs: int, outputs: int, upsample: Upsample, *, bias: bool) -> nn.Module:
    """A layer that doubles the sides."""
    if upsample == "transposed":
        return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=bias)
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias))


class UNetBlock(nn.Module):
    """Halves the sides, applies the inner blocks, doubles the sides; with ``skip``, its input is concatenated."""

    def __init__(self, layers: list[nn.Module], *, skip: bool) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W), or to (N, C + C', H, W) with ``skip``."""
        inner = self.model(x)
        # The first layer of the block is a LeakyReLU in place, so that x is activated here, as in the authors' code. It
        # makes no difference: a ReLU follows outside, and relu(leaky_relu(x)) = relu(x).
        return torch.cat([x, inner], dim=1) if self.skip else inner


@GENERATORS.register("unet")
class UNetGenerator(ImageToImage):
    """The U-Net of pix2pix (Isola et al. 2017, arXiv:1611.07004), with tanh.

    Args:
        depth: How many times the sides are halved; null is the maximum for the images, at most 8.
        dropout: After the upward layers of full width but the innermost, as in the authors' PyTorch code; 0 is off.
        skips: Whether there are skip connections; without them, this is the paper's encoder-decoder.
        norm: After every convolution but the first, the innermost downward and the last.
        upsample: ``transposed`` convolutions, or ``resize``: nearest neighbours, then a 3 x 3 convolution.
    """

    def __init__(
        self,
        *,
        depth: Annotated[int, Range(at_least=LEAST_DEPTH, at_most=32)] | None,
        skips: bool,
        upsample: Upsample,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        input_shape, shape, width = self.input_shape, self.shape, self.width
        dropout, norm = self.dropout, self.norm
        halvings = gcd(*input_shape[1:], 2**MOST_DEPTH).bit_length() - 1
        levels = depth or max(halvings, LEAST_DEPTH)
        shallower = " or choose network.generator.depth=null"
        self.limit_sides("unet", multiple=2**levels, or_else=shallower if levels > LEAST_DEPTH else "")
        if levels <= LEAST_DEPTH:
            self.without_effect["dropout"] = (
                f"a U-Net that halves images {levels} times has no layers for it; sides of 64 pixels allow 6 halvings"
            )
        channels = [width * 2 ** min(level, 3) for level in range(levels)]
        bias = reference_bias(norm)
        joined = 2 if skips else 1  # Skip connections double the channels of the upward layers.

        def up(level: int, times: int) -> list[nn.Module]:
            """From the channels of a level to those of the next outer one."""
            outputs = channels[level - 1]
            layer = _up(channels[level] * times, outputs, upsample, bias=bias)
            return [nn.ReLU(inplace=True), layer, norm_layer(norm, outputs)]

        def down(level: int) -> list[nn.Module]:
            layer = nn.Conv2d(channels[level - 1], channels[level], 4, 2, 1, bias=bias)
            return [nn.LeakyReLU(0.2, inplace=True), layer]

        # The innermost downward layer has no norm, which would turn a single pixel into zero.
        inside = UNetBlock([*down(levels - 1), *up(levels - 1, 1)], skip=skips)
        for level in reversed(range(1, levels - 1)):
            noise = [nn.Dropout(dropout)] if dropout and level >= 4 else []
            layers = [*down(level), norm_layer(norm, channels[level]), inside, *up(level, joined), *noise]
            inside = UNetBlock(layers, skip=skips)
        first = nn.Conv2d(input_shape[0], width, 4, 2, 1, bias=bias)
        last = _up(width * joined, shape[0], upsample, bias=True)
        self.model = UNetBlock([first, inside, nn.ReLU(inplace=True), last, nn.Tanh()], skip=False)
        self.init_weights()

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W) in [-1, 1]; both sides are multiples of ``multiple``."""
        return self.model(image)


@GENERATORS.register("unet_resize")
class ResizeUNetGenerator(ImageToImage):
    """A small U-Net that upsamples by nearest neighbours and convolution, against checkerboard artifacts.

    Down: 4 x 4 convolutions of stride 2, norm, LeakyReLU 0.2. Up (Odena et al. 2016, doi:10.23915/distill.00003): twice
    the sides, 3 x 3 convolution, norm, ReLU, skip connection. Last: the same without norm, tanh.

    Args:
        depth: How many times the sides are halved.
        dropout: After every upward activation; 0 is off.
        norm: After every convolution but the last.
    """

    def __init__(self, *, depth: RepeatCount, **others: Any) -> None:
        super().__init__(**others)
        input_shape, shape, width = self.input_shape, self.shape, self.width
        dropout, norm = self.dropout, self.norm
        # A norm would turn a single pixel into zero.
        self.limit_sides("unet_resize", multiple=2**depth, smallest=2 * 2**depth)
        bias = reference_bias(norm)
        channels = [width * 2 ** min(level, 3) for level in range(depth)]

        def down(inputs: int, outputs: int) -> nn.Module:
            layer = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=bias)
            return nn.Sequential(layer, norm_layer(norm, outputs), nn.LeakyReLU(0.2, inplace=True))

        def up(inputs: int, outputs: int) -> nn.Module:
            noise = [nn.Dropout(dropout)] if dropout else []
            layers = [_up(inputs, outputs, "resize", bias=bias), norm_layer(norm, outputs), nn.ReLU(inplace=True)]
            return nn.Sequential(*layers, *noise)

        self.down = nn.ModuleList(map(down, [input_shape[0], *channels], channels))
        outward = channels[::-1]
        # All but the innermost are concatenated with a skip connection.
        inputs = [outward[0], *(2 * outputs for outputs in outward[1:])]
        self.up = nn.ModuleList(map(up, inputs, outward[1:]))
        self.last = nn.Sequential(_up(inputs[-1], shape[0], "resize", bias=True), nn.Tanh())
        self.init_weights()

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W) in [-1, 1]; both sides are multiples of ``multiple``."""
        skips = []
        x = image
        for down in self.down:
            x = down(x)
            skips.append(x)
        for up, skip in zip(self.up, skips[-2::-1], strict=True):
            x = torch.cat([up(x), skip], dim=1)
        return self.last(x)
