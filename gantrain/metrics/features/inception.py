"""The features of Inception that FID, KID and the Inception score are defined by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gantrain.errors import ConfigError, reason_of
from gantrain.metrics.base import Features, Resize
from gantrain.metrics.features.weights import hub_file, load_weights
from gantrain.registry import FEATURES

# The weights of TensorFlow's FID, converted for torch-fidelity, and the name of the same file in pytorch-fid.
WEIGHTS = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
OTHER_NAME = "pt_inception-2015-12-05-6726825d.pth"
SIZE = 299  # Pixels.


@FEATURES.register("inception")
class InceptionFeatures(Features):
    """The 2048 features before the last layer of Inception v3, and its logits without bias, as FID and IS use them.

    Szegedy et al. 2016, arXiv:1512.00567, with TensorFlow's weights of 2015-12-05. It differs from torchvision's
    network in three ways: average pools do not count padding, the last block pools by the maximum, and images are
    scaled by (x - 128) / 128. Features are bit-identical to those of torch-fidelity.

    Args:
        weights: A file of weights; None for that in torch's cache, which is downloaded if it is not there.
        resize: How images are resized to 299 x 299: ``legacy`` as in TensorFlow, which most papers' numbers are
            computed with, or ``clean``, which does not alias (Parmar et al. 2022, arXiv:2104.11222).
    """

    channels = 3
    dim = 2048
    num_classes = 1008

    def __init__(self, *, weights: str | None, resize: Resize) -> None:
        super().__init__()
        self.resize = {"clean": resize_clean, "legacy": resize_legacy}[resize]
        if weights is None:
            remedy = "give metrics.weights=FILE"
            path = hub_file(WEIGHTS, also=[OTHER_NAME], needed_by="metrics.features=inception", remedy=remedy)
        else:
            path = Path(weights)
        network, digest = _network(path)
        self.identity = f"inception {digest}"
        *layers, _dropout, head = network.children()
        average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
        maximum = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
        self.layers = nn.Sequential()
        for layer in layers:
            pool = maximum if layer is network.Mixed_7c else average
            self.layers.append(_Block(layer, pool) if hasattr(layer, "branch_pool") else layer)
        self.head = head.weight
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.layers((self.resize(images.float(), SIZE) - 128) / 128).flatten(1)
        return features, features @ self.head.T


class _Block(nn.Module):
    """A block of Inception with another pooling than torchvision's, which calls ``avg_pool2d`` once in it."""

    def __init__(self, block: nn.Module, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.block = block
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        with _Pooling(self.pool):
            return self.block(x)


class _Pooling(TorchFunctionMode):
    """Inside, ``avg_pool2d`` is replaced."""

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self.pool(args[0]) if func is F.avg_pool2d else func(*args, **(kwargs or {}))


def _network(path: Path) -> tuple[nn.Module, str]:
    """torchvision's network with the weights in a file, and the start of the file's hash."""
    from torchvision.models import Inception3  # It takes a second to import.

    state, digest = load_weights(path)
    with torch.device("meta"):
        network = Inception3(num_classes=1008, aux_logits=False, transform_input=False, init_weights=False)
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ConfigError(f"{path} contains other weights than Inception's ({reason_of(error)})") from None
    return network.float(), digest


def resize_clean(images: Tensor, size: int) -> Tensor:
    """Resize images (N, C, H, W) to squares with Pillow's bicubic filter, without rounding, limited to [0, 255]."""
    return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(0, 255)


def resize_legacy(images: Tensor, size: int) -> Tensor:
    """Resize images (N, C, H, W) to squares as TensorFlow 1 does: bilinear, without antialiasing, from corners."""
    for axis in (3, 2):
        length = images.shape[axis]
        position = torch.arange(size, dtype=torch.float32, device=images.device) * (length / size)
        low = position.long()
        weight = (position - low).reshape(-1, *[1] * (3 - axis))
        first, second = (images.index_select(axis, index.clamp(max=length - 1)) for index in (low, low + 1))
        images = first + (second - first) * weight
    return images
