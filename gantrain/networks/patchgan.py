"""Discriminators that classify an image patch by patch (Isola et al. 2017, arXiv:1611.07004).

The keys and shapes of the state of ``patchgan`` and ``pixelgan`` are those of pytorch-CycleGAN-and-pix2pix.
"""

from __future__ import annotations

from typing import Annotated, Any

from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.config.schema import PositiveInt, Range, RepeatCount
from gantrain.networks.blur import BlurDown
from gantrain.networks.common import ImageShape, Network, Norm, check_sides, norm_layer, reference_bias
from gantrain.registry import DISCRIMINATORS


def _block(inputs: int, outputs: int, stride: int, norm: Norm) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, 4, stride, 1, bias=reference_bias(norm))
    return [layer, norm_layer(norm, outputs), nn.LeakyReLU(0.2, inplace=True)]


@DISCRIMINATORS.register("patchgan")
class PatchGANDiscriminator(Network):
    """4 x 4 convolutions, LeakyReLU 0.2, a logit per image patch (Isola et al. 2017, arXiv:1611.07004).

    Args:
        width: Channels of the first layer; they double with every layer, up to eightfold.
        layers: Convolutions of stride 2; the side of a patch is 16 pixels for 1, 34 for 2, 70 for 3, 142 for 4.
        scales: Number of such networks, each with its own weights, on images of half the sides of those of the one
            before (Wang et al. 2018, arXiv:1711.11585). The adversarial loss is the sum of theirs.
        norm: In every layer but the first and the last.
        antialias: Halves the sides by filters (Zhang 2019, arXiv:1904.11486) after convolutions of stride 1, as in CUT
            (Park et al. 2020, arXiv:2007.15651).
    """

    def __init__(
        self,
        *,
        shape: ImageShape,
        width: PositiveInt,
        layers: RepeatCount,
        scales: Annotated[int, Range(at_least=1, at_most=8)],
        norm: Norm,
        antialias: bool,
        **init: Any,
    ) -> None:
        super().__init__(norm=norm, **init)
        self.smallest = 3 * 2**layers  # The last two layers each reduce the sides by a pixel.
        for _ in range(scales - 1):
            self.smallest = 2 * self.smallest - 1
        reducible = [key for key, value in {"layers": layers, "scales": scales}.items() if value > 1]
        fewer = "".join(f" or lower network.discriminator.{key}" for key in reducible)
        check_sides(shape, "patchgan", smallest=self.smallest, or_else=fewer)
        channels = [width * 2 ** min(number, 3) for number in range(layers + 1)]
        stride = 1 if antialias else 2
        first: list[nn.Module] = [nn.Conv2d(shape[0], width, 4, stride, 1), nn.LeakyReLU(0.2, inplace=True)]
        hidden: list[nn.Module] = [BlurDown(width)] if antialias else []
        for number in range(1, layers):
            hidden += _block(channels[number - 1], channels[number], stride, norm)
            hidden += [BlurDown(channels[number])] if antialias else []
        hidden += _block(channels[-2], channels[-1], 1, norm)
        self.model = nn.Sequential(*first, *hidden, nn.Conv2d(channels[-1], 1, 4, 1, 1))
        self.init_weights()
        self.coarser: PatchGANDiscriminator | None = None
        if scales > 1:
            half = (shape[0], (shape[1] + 1) // 2, (shape[2] + 1) // 2)
            self.coarser = PatchGANDiscriminator(
                shape=half, width=width, layers=layers, norm=norm, scales=scales - 1, antialias=antialias, **init
            )

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Images (N, C, H, W) to logits (N, 1, H // 2^layers - 2, W // 2^layers - 2); of several scales, a tuple."""
        logits: Tensor = self.model(image)
        if self.coarser is None:
            return logits
        others = self.coarser(_halved(image))
        return (logits, *(others if isinstance(others, tuple) else (others,)))

    def feature_maps(self, image: Tensor) -> list[list[Tensor]]:
        """For each scale, the output (N, C, H, W) of each LeakyReLU, and then the logits."""
        maps, features = image, []
        for layer in self.model:
            maps = layer(maps)
            if isinstance(layer, nn.LeakyReLU):
                features.append(maps)
        others = self.coarser.feature_maps(_halved(image)) if self.coarser is not None else []
        return [[*features, maps], *others]


def _halved(image: Tensor) -> Tensor:
    """Means of 3 x 3 pixels at every second, of those that are inside the image, as in the code of pix2pixHD."""
    return F.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)


@DISCRIMINATORS.register("patchgan_textbook")
class TextbookPatchGANDiscriminator(Network):
    """PatchGAN with four halvings, whose map is one sixteenth of the image: 16 x 16 logits for 256 x 256 pixels.

    After Isola et al. 2017 (arXiv:1611.07004), in a form that is common in tutorials.

    Args:
        width: Channels of the first layer; they double with every layer.
        norm: In every layer but the first and the last.
    """

    def __init__(self, *, shape: ImageShape, width: PositiveInt, norm: Norm, **init: Any) -> None:
        super().__init__(norm=norm, **init)
        self.smallest = 32  # So that the last norm has more than one pixel.
        check_sides(shape, "patchgan_textbook", smallest=self.smallest)
        first: list[nn.Module] = [nn.Conv2d(shape[0], width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        hidden = [layer for times in (1, 2, 4) for layer in _block(width * times, width * times * 2, 2, norm)]
        # An even kernel needs odd padding to preserve the sides: here a row at the top and a column on the left.
        pad = nn.ZeroPad2d((1, 0, 1, 0))
        self.layers = nn.Sequential(*first, *hidden, pad, nn.Conv2d(width * 8, 1, 4, 1, 1))
        self.init_weights()

    def forward(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, 1, H // 16, W // 16)."""
        return self.layers(image)


@DISCRIMINATORS.register("pixelgan")
class PixelGANDiscriminator(Network):
    """Three 1 x 1 convolutions, LeakyReLU 0.2, a logit per pixel (Isola et al. 2017, arXiv:1611.07004).

    Args:
        width: Channels of the first layer; the second has twice as many.
        norm: In the second layer.
    """

    def __init__(self, *, shape: ImageShape, width: PositiveInt, norm: Norm, **init: Any) -> None:
        super().__init__(norm=norm, **init)
        bias = reference_bias(norm)
        self.net = nn.Sequential(
            nn.Conv2d(shape[0], width, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, width * 2, 1, bias=bias),
            norm_layer(norm, width * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width * 2, 1, 1, bias=bias),  # Its bias depends on the norm, as in the reference.
        )
        self.init_weights()

    def forward(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, 1, H, W)."""
        return self.net(image)
