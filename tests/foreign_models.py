"""Configurations and batches for models and networks that tests combine or register."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny import sgd, translation_batches, updates_of
from tiny_keys import IMAGES, LABELLED, NETWORK_KEYS, OWN_KEYS, PAIRS
from torch import Tensor

from gantrain.data.base import Batch, ImageSpec
from gantrain.models.base import GAN
from gantrain.optim.updates import Updates
from gantrain.registry import Registry

LABELLED_IMAGES = ImageSpec(32, 32, {"image": 3}, {"image": "uint8"}, class_names=("zero", "one", "two"))


def config(model: dict[str, Any], generator: dict[str, Any], discriminator: dict[str, Any]) -> dict[str, Any]:
    sides = {"generator": generator, "discriminator": discriminator}
    return {"model": model, "network": {**sides, "width": 4, "norm": "none", "dropout": 0.0, "antialias": False}}


def networks(side: str) -> list[dict[str, Any]]:
    return [{"name": name, **keys} for name, keys in NETWORK_KEYS[side].items()]


def spec_of(model: str) -> ImageSpec:
    return LABELLED_IMAGES if model in OWN_KEYS else IMAGES if model == "colorization" else PAIRS


def batches_of(model: str) -> Iterator[Batch]:
    for batch in translation_batches(2, spec=spec_of(model)):
        batch |= {"label": torch.tensor([0, 2])} if model in LABELLED else {}
        yield {
            key: value.float() if isinstance(value, Tensor) and key != "label" else value
            for key, value in batch.items()
        }


def updates_for(model: GAN) -> Updates:
    return updates_of(sgd(model.generators(), 1e-4), sgd(model.discriminators(), 1e-4))


def add(monkeypatch: pytest.MonkeyPatch, registry: Registry[Any], name: str, cls: type) -> None:
    monkeypatch.setattr(registry, "_classes", {**registry._classes, name: cls})
