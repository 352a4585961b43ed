"""Encoder-decoders with skip connections: that of pix2pix (Isola et al. 2017, arXiv:1611.07004), and a small one.

The keys and shapes of the former's state are those of pytorch-CycleGAN-and-pix2pix.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gantrain.config.schema import NonNegativeFloat, PositiveInt, Range, RepeatCount, UnitFloat
from gantrain.networks.common import (
    ImageShape,
    Init,
    Norm,
    check_at_least,
    check_multiple,
    finish,
    norm_layer,
    reference_bias,
)
from gantrain.registry import GENERATORS

Upsample: TypeAlias = Literal["transposed", "resize"]
LEAST_DEPTH = 5  # four blocks of growing width, and the innermost
MOST_DEPTH = 8  # 256 pixels to one


def _up(inputs: int, outputs: int, upsample: Upsample, *, bias: bool) -> nn.Module:
    """A layer that doubles the sides."""
    if upsample == "transposed":
        return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=bias)
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias))


def _halvings(shape: ImageShape) -> int:
    """How often both sides can be halved, at most ``MOST_DEPTH`` times."""
    times = 0
    while times < MOST_DEPTH and all(side % 2 ** (times + 1) == 0 for side in shape[1:]):
        times += 1
    return times


class UNetBlock(nn.Module):
    """Halves the sides, runs what lies inside, doubles them; with ``skip``, its input goes round beside its output."""

    def __init__(self, layers: list[nn.Module], *, skip: bool) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W), or to (N, C + C', H, W) with ``skip``."""
        inner = self.model(x)
        # the block's first layer, a LeakyReLU, works in place: what goes round is activated as well, as in the authors'
        # code (the ReLU that comes next outside would make it so anyway: relu(leaky_relu(x)) = relu(x))
        return torch.cat([x, inner], dim=1) if self.skip else inner


@GENERATORS.register("unet")
class UNetGenerator(nn.Module):
    """The U-Net of pix2pix (Isola et al. 2017, arXiv:1611.07004): halvings down to a pixel, mirrored, tanh.

    Args:
        input_shape: Channels, height and width of the images that are translated.
        shape: Of those that come out; the sides are the same.
        width: Channels of the first layer; they double downward, up to eightfold.
        depth: How often the sides are halved, or null: as often as they can be, at most 8 times.
        dropout: After the upward layers of full width but the innermost, as in the authors' PyTorch code; 0 is off.
        skips: Whether layers of equal resolution are joined; if not, this is the paper's encoder-decoder.
        norm: After every convolution but the first, the innermost downward and the last.
        upsample: ``transposed`` convolutions, or ``resize``: nearest neighbours, then a 3 x 3 convolution.
        init: See ``gantrain.networks.common.finish``.
        init_gain: See there.

    Attributes:
        multiple: Both sides of any image must be a multiple of this.
    """

    def __init__(
        self,
        *,
        input_shape: ImageShape,
        shape: ImageShape,
        width: PositiveInt,
        depth: Annotated[int, Range(at_least=LEAST_DEPTH, at_most=32)] | None,
        dropout: UnitFloat,
        skips: bool,
        norm: Norm,
        upsample: Upsample,
        init: Init,
        init_gain: NonNegativeFloat,
    ) -> None:
        super().__init__()
        levels = depth or max(_halvings(input_shape), LEAST_DEPTH)
        self.multiple = 2**levels
        shallower = " or choose network.generator.depth=null"
        check_multiple(input_shape, self.multiple, "unet", else_set=shallower if levels > LEAST_DEPTH else "")
        channels = [width * 2 ** min(level, 3) for level in range(levels)]
        bias = reference_bias(norm)
        joined = 2 if skips else 1  # how many times the channels of a level come up to it from inside

        def up(level: int, times: int) -> list[nn.Module]:
            """From the channels of a level to those of the one outside it."""
            outputs = channels[level - 1]
            layer = _up(channels[level] * times, outputs, upsample, bias=bias)
            return [nn.ReLU(inplace=True), layer, norm_layer(norm, outputs)]

        def down(level: int) -> list[nn.Module]:
            layer = nn.Conv2d(channels[level - 1], channels[level], 4, 2, 1, bias=bias)
            return [nn.LeakyReLU(0.2, inplace=True), layer]

        # no norm between: of the one pixel that is left, it would make zero
        inside = UNetBlock([*down(levels - 1), *up(levels - 1, 1)], skip=skips)
        for level in reversed(range(1, levels - 1)):
            noise = [nn.Dropout(dropout)] if dropout and level >= 4 else []
            layers = [*down(level), norm_layer(norm, channels[level]), inside, *up(level, joined), *noise]
            inside = UNetBlock(layers, skip=skips)
        first = nn.Conv2d(input_shape[0], width, 4, 2, 1, bias=bias)
        last = _up(width * joined, shape[0], upsample, bias=True)
        self.model = UNetBlock([first, inside, nn.ReLU(inplace=True), last, nn.Tanh()], skip=False)
        finish(self, norm=norm, init=init, init_gain=init_gain)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W) in [-1, 1]; both sides multiples of ``multiple``."""
        return self.model(image)


@GENERATORS.register("unet_resize")
class ResizeUNetGenerator(nn.Module):
    """A small U-Net that grows by nearest neighbours and convolution, against checkerboards (Odena et al. 2016).

    Down: 4 x 4 convolutions of stride 2, norm, LeakyReLU 0.2. Up: twice the sides, 3 x 3 convolution, norm, ReLU, then
    joined with what was on the way down. Last: the same without norm, tanh. (doi:10.23915/distill.00003)

    Args:
        input_shape: Channels, height and width of the images that are translated.
        shape: Of those that come out; the sides are the same.
        width: Channels of the first layer; they double downward, up to eightfold.
        depth: How often the sides are halved.
        dropout: After every upward activation; 0 is off.
        norm: After every convolution but the last.
        init: See ``gantrain.networks.common.finish``.
        init_gain: See there.

    Attributes:
        multiple: Both sides of any image must be a multiple of this.
        smallest: They must not be less than this.
    """

    def __init__(
        self,
        *,
        input_shape: ImageShape,
        shape: ImageShape,
        width: PositiveInt,
        depth: RepeatCount,
        dropout: UnitFloat,
        norm: Norm,
        init: Init,
        init_gain: NonNegativeFloat,
    ) -> None:
        super().__init__()
        self.multiple = 2**depth
        check_multiple(input_shape, self.multiple, "unet_resize")
        self.smallest = 2 * self.multiple
        check_at_least(input_shape, self.smallest, "unet_resize")  # of one pixel alone, a norm would make zero
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
        # the innermost has nothing beside it, the others come with their like from the way down
        inputs = [outward[0], *(2 * outputs for outputs in outward[1:])]
        self.up = nn.ModuleList(map(up, inputs, outward[1:]))
        self.last = nn.Sequential(_up(inputs[-1], shape[0], "resize", bias=True), nn.Tanh())
        finish(self, norm=norm, init=init, init_gain=init_gain)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W) in [-1, 1]; both sides multiples of ``multiple``."""
        passed = []
        x = image
        for down in self.down:
            x = down(x)
            passed.append(x)
        for up, beside in zip(self.up, passed[-2::-1], strict=True):
            x = torch.cat([up(x), beside], dim=1)
        return self.last(x)
