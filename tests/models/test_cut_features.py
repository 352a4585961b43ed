"""CUT computes the features of images once where nothing but the image decides them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import adam_updates, build_translator, translation_batches
from tiny_keys import RESNET_KEYS

from gantrain.networks.resnet import ResnetGenerator


class OfPlugin(ResnetGenerator):
    """A generator whose ``forward`` returns no features."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(image)


def of_plugin(**keys: Any) -> OfPlugin:
    return OfPlugin(**{**RESNET_KEYS, **keys})


@pytest.mark.parametrize(
    ("keys", "passes"),
    [
        ({"flip_equivariance": False}, [4, 4]),  # Sources and their translations, each at once.
        ({"flip_equivariance": False, "nce_idt": False}, [2, 2]),
        ({"flip_equivariance": True}, [4, 4, 4]),  # What is translated may be mirrored, its features not.
        ({"norm": "batch"}, [4, 2, 2, 2, 2]),
        ({"dropout": 0.5}, [4, 2, 2, 2, 2]),
        ({"generator": of_plugin}, [4, 2, 2, 2, 2]),
    ],
)
def test_features_are_computed_once_where_the_image_alone_decides_them(keys: dict[str, Any], passes: list[int]) -> None:
    model = build_translator("cut", **keys)
    seen: list[int] = []
    model.generator.model[1].register_forward_pre_hook(lambda layer, given: seen.append(len(given[0])))
    model.train_step(translation_batches(2), adam_updates(model))
    assert seen == passes
