"""The training images that are nearest to generated ones in feature space, to find out whether a model memorises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gantrain.data.base import ImageSpec, Selection, to_uint8
from gantrain.data.settings import DataSettings
from gantrain.data.stream import in_order
from gantrain.metrics.build import build_measurement
from gantrain.metrics.features.extraction import extract
from gantrain.models.base import LatentGAN

# Returns the nearest training image of each of (N, C, H, W), both in [-1, 1].
FindNearest: TypeAlias = Callable[[Tensor], Tensor]


def nearest_in_training(config: Mapping[str, Any], model: LatentGAN, spec: ImageSpec) -> FindNearest | None:
    """A function that finds nearest training images, by the metrics of a run; None if they need no features.

    Args:
        config: The configuration of the run.
        model: Its model.
        spec: The training images of the run.

    Raises:
        ConfigError: The data or the weights of the feature network are missing.
    """
    metrics = {**(config.get("metrics") or {}), "against": "train", "real": None}
    if not any(isinstance(value, Mapping) for value in metrics.values()):
        return None
    dataset = DataSettings.split(config["data"]).build(phase="train", seed=config["seed"])
    dataset.use_class_names(spec.class_names)
    device = next(model.parameters()).device
    measurement = build_measurement(metrics, config["data"], model, dataset, None, device)
    if measurement is None or (network := measurement.features) is None:
        return None
    real = measurement.real_features(network, measurement.comparisons[0].real).features

    def find(images: Tensor) -> Tensor:
        features = extract(network, to_uint8(images), measurement.chosen.settings.channels).features.cpu()
        numbers = torch.cdist(features.double(), real.double()).argmin(dim=1).tolist()
        batches = in_order(Selection(dataset, numbers), len(numbers), torch.device("cpu"), torch.float32)
        return torch.cat([batch["image"] for batch in batches])

    return find
