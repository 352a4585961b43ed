"""A small classifier of digits whose weights are part of the package, so that metrics need no download."""

from __future__ import annotations

import hashlib
from importlib import resources

import safetensors.torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.metrics.base import Features
from gantrain.registry import FEATURES

WEIGHTS = "digits.safetensors"
SIZE = 32  # Pixels.
CLASSES = 10
WIDTHS = (16, 32, 64)


class DigitClassifier(nn.Module):
    """A classifier of digits, white on black; ``scripts/train_digit_features.py`` trains it."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for ins, outs in zip((1, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(ins, outs, 3, padding=1, bias=False), nn.BatchNorm2d(outs), nn.ReLU(), nn.MaxPool2d(2)]
        self.convolutions = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(WIDTHS[-1] * (SIZE // 8) ** 2, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 64), averaged over positions, and logits (N, 10), from images (N, 1, 32, 32) in [-1, 1]."""
        maps = self.convolutions(images)
        return maps.mean(dim=(2, 3)), self.head(self.dropout(maps.flatten(1)))


@FEATURES.register("digits")
class DigitFeatures(Features):
    """Features of a classifier of handwritten digits, for gray images; others are resized to 32 x 32 pixels."""

    channels = 1
    dim = WIDTHS[-1]
    num_classes = CLASSES
    class_names = tuple(map(str, range(CLASSES)))

    def __init__(self) -> None:
        super().__init__()
        data = resources.files("gantrain.metrics.features").joinpath(WEIGHTS).read_bytes()
        self.identity = f"digits {hashlib.sha256(data).hexdigest()[:8]}"
        self.network = DigitClassifier()
        self.network.load_state_dict(safetensors.torch.load(data))
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        pixels = images.float()
        if images.shape[-2:] != (SIZE, SIZE):
            pixels = F.interpolate(pixels, size=(SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 255)
        features, logits = self.network(pixels.div(127.5).sub(1))
        return features, logits
