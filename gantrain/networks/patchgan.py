"""Discriminators that judge an image patch by patch (Isola et al. 2017, arXiv:1611.07004).

The keys and shapes of the state of ``patchgan`` are those of pytorch-CycleGAN-and-pix2pix.
"""

from __future__ import annotations

from torch import Tensor, nn

from gantrain.config.schema import NonNegativeFloat, NonNegativeInt, PositiveInt, RepeatCount
from gantrain.networks.common import (
    ImageShape,
    Init,
    Norm,
    check_at_least,
    check_one_map,
    finish,
    norm_layer,
    reference_bias,
)
from gantrain.registry import DISCRIMINATORS


def _block(inputs: int, outputs: int, stride: int, norm: Norm) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, 4, stride, 1, bias=reference_bias(norm))
    return [layer, norm_layer(norm, outputs), nn.LeakyReLU(0.2, inplace=True)]


@DISCRIMINATORS.register("patchgan")
class PatchGANDiscriminator(nn.Module):
    """4 x 4 convolutions, LeakyReLU 0.2: each logit sees a square of the image (Isola et al. 2017, arXiv:1611.07004).

    Args:
        shape: Channels, height and width of the images.
        num_classes: 0: it sees no labels.
        num_outputs: 1: it puts out one map.
        width: Channels of the first layer; they double with every layer, up to eightfold.
        layers: Convolutions of stride 2; a logit sees 16 pixels a side for 1, 34 for 2, 70 for 3, 142 for 4.
        norm: In every layer but the first and the last.
        init: See ``gantrain.networks.common.finish``.
        init_gain: See there.

    Attributes:
        smallest: No side of an image may be less than this.
    """

    def __init__(
        self,
        *,
        shape: ImageShape,
        num_classes: NonNegativeInt,
        num_outputs: PositiveInt,
        width: PositiveInt,
        layers: RepeatCount,
        norm: Norm,
        init: Init,
        init_gain: NonNegativeFloat,
    ) -> None:
        super().__init__()
        check_one_map("patchgan", num_classes, num_outputs)
        self.smallest = 3 * 2**layers
        check_at_least(shape, self.smallest, "patchgan")  # the last two layers take a pixel off each
        channels = [width * 2 ** min(number, 3) for number in range(layers + 1)]
        first: list[nn.Module] = [nn.Conv2d(shape[0], width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        hidden: list[nn.Module] = []
        for number in range(1, layers + 1):
            hidden += _block(channels[number - 1], channels[number], 2 if number < layers else 1, norm)
        self.model = nn.Sequential(*first, *hidden, nn.Conv2d(channels[-1], 1, 4, 1, 1))
        finish(self, norm=norm, init=init, init_gain=init_gain)

    def forward(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, 1, H // 2^layers - 2, W // 2^layers - 2)."""
        return self.model(image)


@DISCRIMINATORS.register("patchgan_textbook")
class TextbookPatchGANDiscriminator(nn.Module):
    """PatchGAN with four halvings, whose map is one sixteenth of the image: 16 x 16 logits for 256 x 256 pixels.

    Isola et al. 2017 (arXiv:1611.07004), in a form that tutorials are fond of.

    Args:
        shape: Channels, height and width of the images.
        num_classes: 0: it sees no labels.
        num_outputs: 1: it puts out one map.
        width: Channels of the first layer; they double with every layer.
        norm: In every layer but the first and the last.
        init: See ``gantrain.networks.common.finish``.
        init_gain: See there.

    Attributes:
        smallest: No side of an image may be less than this.
    """

    def __init__(
        self,
        *,
        shape: ImageShape,
        num_classes: NonNegativeInt,
        num_outputs: PositiveInt,
        width: PositiveInt,
        norm: Norm,
        init: Init,
        init_gain: NonNegativeFloat,
    ) -> None:
        super().__init__()
        check_one_map("patchgan_textbook", num_classes, num_outputs)
        self.smallest = 32
        check_at_least(shape, self.smallest, "patchgan_textbook")  # so that the last norm has more than one pixel
        first: list[nn.Module] = [nn.Conv2d(shape[0], width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        hidden = [layer for times in (1, 2, 4) for layer in _block(width * times, width * times * 2, 2, norm)]
        # an even kernel takes one pixel more than it is padded with: a row at the top, a column on the left
        pad = nn.ZeroPad2d((1, 0, 1, 0))
        self.layers = nn.Sequential(*first, *hidden, pad, nn.Conv2d(width * 8, 1, 4, 1, 1))
        finish(self, norm=norm, init=init, init_gain=init_gain)

    def forward(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, 1, H // 16, W // 16)."""
        return self.layers(image)
