"""Generators as self-contained graphs: from stored or floating-point inputs to outputs of any size."""

from __future__ import annotations

import copy
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from gantrain.data.base import to_signed_range, to_uint8
from gantrain.models.translation import size_limits

# ``float`` is (N, C, H, W) as float32 in [-1, 1], ``uint8`` (N, H, W, C) in 0 to 255.
Pixels: TypeAlias = Literal["float", "uint8"]


class TranslationGraph(nn.Module):
    """What ``Translator.translate`` does in evaluation mode, in a form that can be traced with symbolic sizes.

    Args:
        network: A generator that translates images, as ``traceable`` returns it.
        pixels: The form of its input and output.
    """

    def __init__(self, network: nn.Module, pixels: Pixels) -> None:
        super().__init__()
        self.network = network
        self.pixels = pixels
        self.multiple, self.smallest = size_limits(network)

    def forward(self, image: Tensor) -> Tensor:
        """Images of any height and width to images of the same size, in the form of ``pixels``."""
        if self.pixels == "uint8":
            image = to_signed_range(image, torch.float32).permute(0, 3, 1, 2)
        height, width = image.shape[-2:]
        output = self.network(self._reflected(self._reflected(image, -2), -1))[..., :height, :width]
        return to_bytes(output) if self.pixels == "uint8" else output

    def _reflected(self, image: Tensor, axis: int) -> Tensor:
        """Pad one axis by reflection to a side that the network accepts."""
        if max(self.multiple, self.smallest) == 1:
            return image
        side = image.size(axis)
        padded = (torch.sym_max(side, self.smallest) + self.multiple - 1) // self.multiple * self.multiple
        indices = torch.arange(padded, device=image.device)
        # The remainder of a division by a symbolic size can't be exported to ONNX.
        indices = indices - torch.div(indices, 2 * side, rounding_mode="floor") * (2 * side)
        return image.index_select(axis, torch.where(indices < side, indices, 2 * side - 1 - indices))


class SamplingGraph(nn.Module):
    """A generator that makes images from noise.

    Args:
        network: As ``traceable`` returns it.
        pixels: The form of its output.
    """

    def __init__(self, network: nn.Module, pixels: Pixels) -> None:
        super().__init__()
        self.network = network
        self.pixels = pixels

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (N, latent_size), and (N,) labels for networks that use them, to images in the form of ``pixels``."""
        output = self.network(latents) if labels is None else self.network(latents, labels)
        return to_bytes(output) if self.pixels == "uint8" else output


def to_bytes(images: Tensor) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] as (N, H, W, C) in 0 to 255."""
    return to_uint8(images).permute(0, 2, 3, 1)


def traceable(network: nn.Module, *, own_statistics: bool) -> nn.Module:
    """A copy of a network in evaluation mode, float32 and on the CPU, with the spectrally normalised weights stored.

    Args:
        network: In any mode; dropout is off in the copy.
        own_statistics: Whether batch norm uses the statistics of each image, as ``as_in_training`` does: it becomes
            instance norm with the same weights.
    """
    network = copy.deepcopy(network).float().cpu().eval()
    for module in list(network.modules()):
        if is_parametrized(module):
            _store_weights(module)
        for name, norm in list(module.named_children()):
            if own_statistics and isinstance(norm, nn.BatchNorm2d):
                instance = nn.InstanceNorm2d(norm.num_features, eps=norm.eps)
                instance.weight, instance.bias = norm.weight, norm.bias
                setattr(module, name, instance.eval())
    return network


def _store_weights(layer: nn.Module) -> None:
    """Replace computed weights of a layer by their values.

    ``remove_parametrizations`` would change the class, which a copy shares with its original.
    """
    weights = {name: getattr(layer, name).detach() for name in cast(nn.ModuleDict, layer.parametrizations)}
    layer.__class__ = type_before_parametrizations(layer)
    del layer.parametrizations
    for name, weight in weights.items():
        layer.register_parameter(name, nn.Parameter(weight, requires_grad=False))
