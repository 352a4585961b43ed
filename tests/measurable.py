"""Data sets and models that are measured fast."""

from __future__ import annotations

from typing import Any

import torch
from tiny import CPU, build

from gantrain.data.base import Batch, ImageDataset, ImageSpec
from gantrain.metrics.build import build_measurement
from gantrain.metrics.measure import Measurement
from gantrain.models.base import LatentGAN

KEYS: dict[str, Any] = {
    **{"every": 2, "samples": 150, "features": "digits", "weights": None, "resize": "clean", "channels": None},
    **{"against": None, "real": None, "seed": 0, "optional": False, "fid": {"name": "fid"}},
}


class Numbered(ImageDataset):
    """Gray images of random noise, each a function of its number, with two classes."""

    def __init__(self, size: int, *, channels: int = 1) -> None:
        self.spec = ImageSpec(32, 32, {"image": channels}, {"image": "uint8"}, ("even", "odd"))
        self.labels = [number % 2 for number in range(size)]
        self.fingerprint = f"{size} of {channels}"
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.labels)

    def item(self, index: int, seed: int) -> Batch:
        self.read.append(index)
        generator = torch.Generator().manual_seed(index)
        shape = (self.spec.channels["image"], 32, 32)
        return {"image": torch.randint(256, shape, generator=generator, dtype=torch.uint8), "label": index % 2}


def model(dataset: ImageDataset, name: str = "dcgan") -> LatentGAN:
    """An untrained model with fully connected networks, in evaluation mode."""
    built: LatentGAN = build(name, spec=dataset.spec)
    return built.float().eval()


def measurement(dataset: ImageDataset, test_set: ImageDataset | None = None, **keys: Any) -> Measurement:
    found = build_measurement(KEYS | keys, {"mode": "mine"}, model(dataset), dataset, test_set, CPU)
    assert found is not None
    return found
