"""The network of the perceptual distance of images, LPIPS, and its weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.errors import ConfigError
from gantrain.metrics.features.weights import hub_file, load_weights

LAYERS = (1, 4, 7, 9, 11)  # Of AlexNet: after each ReLU of its convolutions.
SMALLEST = 31  # Pixels: AlexNet leaves nothing of smaller images.
MEAN, DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # Of ImageNet's images in [-1, 1].


class LPIPS(nn.Module):
    """The network of LPIPS.

    Args:
        weights: Of torchvision's AlexNet.
        heads: Of the channels of each layer, (1, C, 1, 1).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: dict[str, Tensor], heads: list[Tensor]) -> None:
        from torchvision.models import alexnet  # It takes a second to import.

        super().__init__()
        with torch.device("meta"):
            network = alexnet()
        network.load_state_dict(weights, assign=True)
        self.layers = network.features[: LAYERS[-1] + 1]
        self.heads = nn.ParameterList(heads)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """The distances (N,) of images (N, 3 or 1, H, W) uint8."""
        return self.distances(*((images.float() / 127.5 - 1) for images in (one, other)))

    def distances(self, one: Tensor, other: Tensor) -> Tensor:
        """The distances (N,) of images (N, 3 or 1, H, W) in [-1, 1]; differentiable."""
        maps = (torch.cat([one, other]) - self.mean) / self.deviation
        heads, distances = iter(self.heads), []
        for number, layer in enumerate(self.layers):
            maps = layer(maps)
            if number in LAYERS:
                # Where all features are 0, the square root has no slope.
                norms = maps.square().sum(dim=1, keepdim=True).clamp(min=1e-20).sqrt()
                a, b = (maps / (norms + 1e-10)).chunk(2)
                distances.append(F.conv2d((a - b).square(), next(heads)).mean(dim=(1, 2, 3)))
        return torch.stack(distances).sum(dim=0)


def lpips_weights(needed_by: str, *, remedy: str) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The weights of AlexNet, those of torchvision, and of the heads, which come with the package ``lpips``.

    Args:
        needed_by: The key that needs them (``metrics=lpips``), for messages.
        remedy: What else could be done than to provide them, for messages.

    Raises:
        ConfigError: The package is missing, which is not imported, or the weights can't be downloaded.
    """
    from torchvision.models import AlexNet_Weights

    package = find_spec("lpips")
    if package is None or package.origin is None:
        raise ConfigError(f"{needed_by} needs the package lpips: pip install 'gantrain[lpips]', or {remedy}")
    heads, _ = load_weights(Path(package.origin).parent / "weights/v0.1/alex.pth")
    path = hub_file(AlexNet_Weights.IMAGENET1K_V1.url, needed_by=needed_by, remedy=remedy)
    alexnet, _ = load_weights(path)
    return alexnet, [heads[f"lin{number}.model.1.weight"] for number in range(len(LAYERS))]
