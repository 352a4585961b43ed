"""A discriminator that judges every pixel alone: the 1 x 1 PixelGAN of Isola et al. 2017 (arXiv:1611.07004).

The keys and shapes of its state are those of pytorch-CycleGAN-and-pix2pix.
"""

from __future__ import annotations

from torch import Tensor, nn

from gantrain.config.schema import NonNegativeFloat, NonNegativeInt, PositiveInt
from gantrain.networks.common import ImageShape, Init, Norm, check_one_map, finish, norm_layer, reference_bias
from gantrain.registry import DISCRIMINATORS


@DISCRIMINATORS.register("pixelgan")
class PixelGANDiscriminator(nn.Module):
    """Three 1 x 1 convolutions, LeakyReLU 0.2 (Isola et al. 2017, arXiv:1611.07004).

    Args:
        shape: Channels, height and width of the images.
        num_classes: 0: it sees no labels.
        num_outputs: 1: it puts out one map.
        width: Channels of the first layer; the second has twice as many.
        norm: In the second layer.
        init: See ``gantrain.networks.common.finish``.
        init_gain: See there.
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
        check_one_map("pixelgan", num_classes, num_outputs)
        bias = reference_bias(norm)
        self.net = nn.Sequential(
            nn.Conv2d(shape[0], width, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, width * 2, 1, bias=bias),
            norm_layer(norm, width * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width * 2, 1, 1, bias=bias),  # before no norm, but so it is in the reference's files
        )
        finish(self, norm=norm, init=init, init_gain=init_gain)

    def forward(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, 1, H, W)."""
        return self.net(image)
