"""The residual generator of CycleGAN (Zhu et al. 2017, arXiv:1703.10593), after Johnson et al. 2016, arXiv:1603.08155.

The keys and shapes of its state are those of pytorch-CycleGAN-and-pix2pix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from gantrain.config.schema import PositiveInt, RepeatCount, RepeatCountOrZero
from gantrain.errors import ConfigError
from gantrain.networks.blur import BlurDown, BlurUp, ReplicationPad2d
from gantrain.networks.common import ImageToImage, Norm, norm_layer, reference_bias
from gantrain.registry import GENERATORS

Padding: TypeAlias = Literal["reflection", "replicate", "zero"]
_PADS: dict[Padding, type[nn.Module]] = {"reflection": nn.ReflectionPad2d, "replicate": ReplicationPad2d}


def _same_size(inputs: int, outputs: int, kernel: int, padding: Padding, *, bias: bool) -> list[nn.Module]:
    """A convolution that preserves the sides, after a padding layer unless it is zero padding."""
    if padding == "zero":
        return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)]
    return [_PADS[padding](kernel // 2), nn.Conv2d(inputs, outputs, kernel, bias=bias)]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a residual connection, without a final activation (Johnson et al. 2016)."""

    def __init__(self, channels: int, *, padding: Padding, dropout: float, norm: Norm) -> None:
        super().__init__()
        bias = reference_bias(norm)
        self.conv_block = nn.Sequential(
            *_same_size(channels, channels, 3, padding, bias=bias),
            norm_layer(norm, channels),
            nn.ReLU(inplace=True),
            *([nn.Dropout(dropout)] if dropout else []),
            *_same_size(channels, channels, 3, padding, bias=bias),
            norm_layer(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same shape."""
        return x + self.conv_block(x)


@GENERATORS.register("resnet")
class ResnetGenerator(ImageToImage):
    """Strided convolutions, residual blocks, upsampling, tanh (Johnson et al. 2016, arXiv:1603.08155).

    With ``blocks`` 9 (6 for 128 pixels), ``downsamplings`` 2, ``kernel`` 3, ``stem`` 7 and ``reflection``, it is the
    generator of CycleGAN (Zhu et al. 2017, arXiv:1703.10593).

    Args:
        blocks: Number of residual blocks, at the lowest resolution.
        downsamplings: How many times the sides are halved.
        kernel: Kernel of the strided and transposed convolutions.
        stem: Kernel of the first and the last convolution; odd.
        padding: Of all convolutions but the strided and transposed ones, which have zero padding.
        dropout: In the middle of each block; 0 is off.
        norm: After every convolution but the last.
        upsample: ``transposed`` convolutions, or ``resize``: nearest neighbours, then a 3 x 3 convolution.
        antialias: Halves and doubles the sides by filters (Zhang 2019, arXiv:1904.11486) beside 3 x 3 convolutions, as
            in CUT (Park et al. 2020, arXiv:2007.15651).
    """

    def __init__(
        self,
        *,
        blocks: RepeatCount,
        downsamplings: RepeatCountOrZero,
        kernel: Literal[3, 4],
        stem: PositiveInt,
        padding: Padding,
        upsample: Literal["transposed", "resize"],
        antialias: bool,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        input_shape, shape, width = self.input_shape, self.shape, self.width
        dropout, norm = self.dropout, self.norm
        if stem % 2 == 0:
            raise ConfigError(f"network.generator.stem={stem}: give an odd kernel size, like 7")
        # Reflection and norms need at least two pixels per side at the lowest resolution.
        multiple = 2**downsamplings
        self.limit_sides("resnet", multiple=multiple, smallest=max(2 * multiple, stem // 2 + 1))
        if not downsamplings:
            why = "downsamplings=0 leaves no layer for it"
            self.without_effect |= dict.fromkeys(["kernel", "upsample", "antialias"], why)
        elif antialias:
            self.without_effect |= dict.fromkeys(["kernel", "upsample"], "antialias=true leaves no layer for it")
        bias = reference_bias(norm)

        def block(convolution: list[nn.Module], channels: int) -> list[nn.Module]:
            return [*convolution, norm_layer(norm, channels), nn.ReLU(inplace=True)]

        def down(inputs: int) -> list[nn.Module]:
            if antialias:
                return [*block([nn.Conv2d(inputs, inputs * 2, 3, 1, 1, bias=bias)], inputs * 2), BlurDown(inputs * 2)]
            return block([nn.Conv2d(inputs, inputs * 2, kernel, 2, 1, bias=bias)], inputs * 2)

        def up(inputs: int, outputs: int) -> list[nn.Module]:
            if antialias:
                return [BlurUp(inputs), nn.Conv2d(inputs, outputs, 3, 1, 1, bias=bias)]
            if upsample == "resize":
                return [nn.Upsample(scale_factor=2), *_same_size(inputs, outputs, 3, padding, bias=bias)]
            # With a kernel of 3, a pixel per side would be missing.
            return [nn.ConvTranspose2d(inputs, outputs, kernel, 2, 1, output_padding=4 - kernel, bias=bias)]

        layers = block(_same_size(input_shape[0], width, stem, padding, bias=bias), width)
        for channels in (width * 2**i for i in range(downsamplings)):
            layers += down(channels)
        channels = width * multiple
        layers += [ResidualBlock(channels, padding=padding, dropout=dropout, norm=norm) for _ in range(blocks)]
        for channels in (width * 2**i for i in reversed(range(downsamplings))):
            layers += block(up(channels * 2, channels), channels)
        self.model = nn.Sequential(*layers, *_same_size(width, shape[0], stem, padding, bias=True), nn.Tanh())
        self.init_weights()

    def forward(self, image: Tensor, layers: Sequence[int] = ()) -> Any:
        """(N, C, H, W) to (N, C', H, W) in [-1, 1]; both sides are multiples of ``multiple``.

        With numbers of ``layers``, to a pair: the same, and the list of ``features``.
        """
        if not layers:
            return self.model(image)
        found = self.features(image, layers)
        # An activation in place may follow.
        return self.model[layers[-1] + 1 :](found[-1].clone()), found

    def features(self, image: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """The outputs of the layers of these numbers, ascending, for images (N, C, H, W).

        An activation in place changes the output of the layer before it, if it is among the layers that are computed:
        none after the last of ``layers`` is. CUT (Park et al. 2020, arXiv:2007.15651) was trained on such features.
        """
        outputs = []
        for number, layer in enumerate(self.model[: layers[-1] + 1]):
            image = layer(image)
            if number in layers:
                outputs.append(image)
        return outputs

    def feature_channels(self, layers: Sequence[int]) -> list[int]:
        """The channels of ``features``.

        Raises:
            ConfigError: A number is not that of a layer.
        """
        channels = [self.input_shape[0]]
        for layer in self.model:
            channels.append(layer.out_channels if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) else channels[-1])
        if wrong := [number for number in layers if not 0 <= number < len(self.model)]:
            raise ConfigError(f"there is no layer {wrong[0]}: those of this generator are 0 to {len(self.model) - 1}")
        return [channels[number + 1] for number in layers]
