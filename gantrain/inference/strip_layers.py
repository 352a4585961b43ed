"""The layers that can be computed in strips of rows: which rows they read, and how they are computed."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.errors import ConfigError
from gantrain.networks.blur import BlurDown, BlurUp, ReplicationPad2d
from gantrain.networks.instance import InstanceNorm2d
from gantrain.networks.sync_batch import SyncBatchNorm2d


class Layer(ABC):
    """A layer, in strips.

    Attributes:
        height: Rows of its input.
        work: Multiplications per value of its output.
    """

    height = 0
    work = 0.0

    def channels(self, inputs: list[int]) -> int:
        """Channels of the output, from those of the inputs."""
        return inputs[0]

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output, from those of the input."""
        return height, width

    @abstractmethod
    def rows(self, inputs: list[tuple[Tensor, int]], first: int, last: int) -> Tensor:
        """Rows of the output, from rows of each input and the number of its first row."""

    def needs(self, first: int, last: int) -> tuple[int, int]:
        """The rows of the input for rows of the output (both ``last`` not included); some may be outside of it."""
        return first, last


class SingleInput(Layer):
    """A layer of one input."""

    def rows(self, inputs: list[tuple[Tensor, int]], first: int, last: int) -> Tensor:
        x, start = inputs[0]
        low, high = self.needs(first, last)
        return self.compute(x[:, :, max(low, 0) - start : min(high, self.height) - start], first, last)

    @abstractmethod
    def compute(self, x: Tensor, first: int, last: int) -> Tensor:
        """Rows of the output, from exactly the rows of the input that it needs."""


class Pointwise(SingleInput):
    """A function of each value alone."""

    def __init__(self, module: nn.Module, alone: bool) -> None:
        self.module = cast(Any, copy.copy(module))
        if hasattr(module, "inplace"):
            self.module.inplace = False  # Others may read the same rows.

    def compute(self, x: Tensor, first: int, last: int) -> Tensor:
        return self.module(x)


class Normalisation(SingleInput):
    """Batch or instance norm."""

    def __init__(self, module: Any, alone: bool) -> None:
        self.module = module
        batch = isinstance(module, nn.BatchNorm2d)
        self.of_image = (batch and alone) or not module.track_running_stats  # Whether it needs statistics of the image.
        self.reset()

    def reset(self) -> None:
        """Forget the statistics of the last image."""
        self._count, self._mean, self._squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, x: Tensor) -> None:
        """Include the values of a strip in the statistics, by the pairwise update of Chan et al. 1979."""
        x = x.float() if x.dtype.itemsize < 4 else x
        variance, mean = (moment.double() for moment in torch.var_mean(x, (0, 2, 3), correction=0))
        count = x.size(2) * x.size(3)
        total = self._count + count
        delta = mean - self._mean
        self._mean = self._mean + delta * (count / total)
        self._squares = self._squares + variance * count + delta**2 * (self._count * count / total)
        self._count = total

    def compute(self, x: Tensor, first: int, last: int) -> Tensor:
        module = self.module
        if not self.of_image:
            return module(x)
        scale = (self._squares / self._count + module.eps).rsqrt()
        shift = -self._mean * scale
        if module.weight is not None:
            scale, shift = scale * module.weight, shift * module.weight + module.bias
        scale, shift = (each.to(x.dtype)[:, None, None] for each in (scale, shift))
        return torch.addcmul(shift, x, scale)


class Convolution(SingleInput):
    """A convolution with padding by zeros."""

    def __init__(self, module: nn.Conv2d, alone: bool) -> None:
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise ConfigError(f"a convolution with padding {module.padding} {module.padding_mode} can't be cut")
        self.module = module
        self.stride, self.padding = module.stride[0], int(module.padding[0])
        self.reach = module.dilation[0] * (module.kernel_size[0] - 1) + 1
        self.work = module.weight[0].numel()

    def channels(self, inputs: list[int]) -> int:
        return self.module.out_channels

    def sides(self, height: int, width: int) -> tuple[int, int]:
        module, sides = self.module, []
        for axis, side in enumerate((height, width)):
            reach = module.dilation[axis] * (module.kernel_size[axis] - 1) + 1
            sides.append((side + 2 * int(module.padding[axis]) - reach) // module.stride[axis] + 1)
        return sides[0], sides[1]

    def needs(self, first: int, last: int) -> tuple[int, int]:
        low = first * self.stride - self.padding
        return low, (last - 1) * self.stride - self.padding + self.reach

    def compute(self, x: Tensor, first: int, last: int) -> Tensor:
        low, high = self.needs(first, last)
        above, below = max(0, -low), max(0, high - self.height)
        module = self.module
        x = F.pad(x, (0, 0, above, below)) if above or below else x
        padding = 0, int(module.padding[1])
        return F.conv2d(x, module.weight, module.bias, module.stride, padding, module.dilation, module.groups)


class TransposedConvolution(SingleInput):
    """A transposed convolution whose kernel is not smaller than its stride."""

    def __init__(self, module: nn.ConvTranspose2d, alone: bool) -> None:
        self.module = module
        self.kernel, self.stride, self.padding = module.kernel_size[0], module.stride[0], int(module.padding[0])
        if module.dilation != (1, 1) or self.kernel < self.stride:
            raise ConfigError("a transposed convolution that is dilated or has gaps can't be cut")
        self.work = module.weight[:, 0].numel() / module.groups / (module.stride[0] * module.stride[1])

    def channels(self, inputs: list[int]) -> int:
        return self.module.out_channels

    def sides(self, height: int, width: int) -> tuple[int, int]:
        module = self.module
        new = [
            (side - 1) * module.stride[axis]
            - 2 * int(module.padding[axis])
            + module.kernel_size[axis]
            + module.output_padding[axis]
            for axis, side in enumerate((height, width))
        ]
        return new[0], new[1]

    def needs(self, first: int, last: int) -> tuple[int, int]:
        low = -(-(first + self.padding - self.kernel + 1) // self.stride)
        return low, (last - 1 + self.padding) // self.stride + 1

    def compute(self, x: Tensor, first: int, last: int) -> Tensor:
        module = self.module
        padding, more = (0, int(module.padding[1])), module.output_padding
        y = F.conv_transpose2d(x, module.weight, module.bias, module.stride, padding, more, module.groups)
        skipped = first + self.padding - max(0, self.needs(first, last)[0]) * self.stride
        return y[:, :, skipped : skipped + last - first]


class Padding(SingleInput):
    """Padding by reflection or by repeating the edge."""

    def __init__(self, module: Any, alone: bool) -> None:
        self.mode = "reflect" if isinstance(module, nn.ReflectionPad2d) else "replicate"
        self.left, self.right, self.above, self.below = module.padding

    def sides(self, height: int, width: int) -> tuple[int, int]:
        return height + self.above + self.below, width + self.left + self.right

    def _sources(self, first: int, last: int) -> Tensor:
        """The row of the input for each row of the output."""
        rows = torch.arange(first, last) - self.above
        end = self.height - 1
        return rows.clamp(0, end) if self.mode == "replicate" else end - (end - rows.abs()).abs()

    def needs(self, first: int, last: int) -> tuple[int, int]:
        rows = self._sources(first, last)
        return int(rows.min()), int(rows.max()) + 1

    def compute(self, x: Tensor, first: int, last: int) -> Tensor:
        rows = self._sources(first, last)
        return F.pad(x.index_select(2, (rows - rows.min()).to(x.device)), (self.left, self.right, 0, 0), mode=self.mode)


class Enlargement(SingleInput):
    """Upsampling by nearest neighbours."""

    def __init__(self, module: nn.Upsample, alone: bool) -> None:
        factor = module.scale_factor
        if module.mode != "nearest" or not isinstance(factor, (int, float)) or factor != int(factor):
            raise ConfigError(f"upsampling by {module.mode} and {factor} can't be cut")
        self.factor = int(factor)

    def sides(self, height: int, width: int) -> tuple[int, int]:
        return height * self.factor, width * self.factor

    def needs(self, first: int, last: int) -> tuple[int, int]:
        return first // self.factor, (last - 1) // self.factor + 1

    def compute(self, x: Tensor, first: int, last: int) -> Tensor:
        y = F.interpolate(x, scale_factor=float(self.factor), mode="nearest")
        skipped = first % self.factor
        return y[:, :, skipped : skipped + last - first]


class Add(Layer):
    """The sum of two layers."""

    def rows(self, inputs: list[tuple[Tensor, int]], first: int, last: int) -> Tensor:
        one, other = (x[:, :, first - start : last - start] for x, start in inputs)
        return one + other


class Concatenation(Layer):
    """The channels of several layers."""

    def channels(self, inputs: list[int]) -> int:
        return sum(inputs)

    def rows(self, inputs: list[tuple[Tensor, int]], first: int, last: int) -> Tensor:
        return torch.cat([x[:, :, first - start : last - start] for x, start in inputs], dim=1)


class Chain(SingleInput):
    """Several layers, each of which reads the one before."""

    def __init__(self, *layers: SingleInput) -> None:
        self.layers = layers
        self.work = sum(layer.work for layer in layers)

    def sides(self, height: int, width: int) -> tuple[int, int]:
        for layer in self.layers:
            layer.height = height
            height, width = layer.sides(height, width)
        return height, width

    def needs(self, first: int, last: int) -> tuple[int, int]:
        for layer in reversed(self.layers):
            first, last = layer.needs(first, last)
            first, last = max(first, 0), min(last, layer.height)
        return first, last

    def compute(self, x: Tensor, first: int, last: int) -> Tensor:
        wanted = [(first, last)]
        for layer in self.layers[:0:-1]:
            low, high = layer.needs(*wanted[0])
            wanted.insert(0, (max(low, 0), min(high, layer.height)))
        for layer, rows in zip(self.layers, wanted, strict=True):
            x = layer.compute(x, *rows)
        return x


def _blur(module: Any, alone: bool) -> Layer:
    """A layer of ``networks.blur``: its padding, then its filter."""
    channels, down = len(module.filt), isinstance(module, BlurDown)
    kind, layer = (nn.Conv2d, Convolution) if down else (nn.ConvTranspose2d, TransposedConvolution)
    crop, size = 0 if down else module.crop, module.filt.size(-1)
    filters: Any = kind(channels, channels, size, 2, crop, groups=channels, bias=False, device="meta")
    filters.weight = nn.Parameter(module.filt, requires_grad=False)
    return Chain(Padding(module.pad, alone), layer(filters, alone))


LAYERS: dict[tuple[type[nn.Module], ...], Any] = {
    (nn.Conv2d,): Convolution,
    (nn.ConvTranspose2d,): TransposedConvolution,
    (nn.ReflectionPad2d, nn.ReplicationPad2d, ReplicationPad2d): Padding,
    (nn.Upsample,): Enlargement,
    (BlurDown, BlurUp): _blur,
    (nn.BatchNorm2d, SyncBatchNorm2d, nn.InstanceNorm2d, InstanceNorm2d): Normalisation,
    (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.Dropout): Pointwise,
}


def kind_of(module: nn.Module) -> Any:
    """The class of a module's layer; None if there is none, as for a subclass that computes something else."""
    if module._forward_hooks or module._forward_pre_hooks:
        return None
    for types, layer in LAYERS.items():
        for kind in types:
            if isinstance(module, kind) and type(module).forward is kind.forward:
                return layer
    return None
