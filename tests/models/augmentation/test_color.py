"""Color operations compared with homogeneous matrices of colors."""

from __future__ import annotations

import augmented_by_hand
import numpy as np
import pytest
import torch

from gantrain.models.augmentation.color import recolored

NAMES = ("brightness", "contrast", "luma", "hue", "saturation")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("alone", [None, *NAMES])
def test_colors_change_as_by_matrices(alone: str | None, channels: int) -> None:
    numbers = np.random.default_rng(channels)
    given = numbers.uniform(-1, 1, (5, channels, 3, 4))
    values = numbers.normal(size=(5, 5))
    values[:, 2] = [0, 1, 1, 0, 1]
    changes = [dict(zip(NAMES, row, strict=True)) for row in values]
    if alone is not None:
        changes = [{name: amount if name == alone else 0.0 for name, amount in each.items()} for each in changes]
    brightness, contrast, luma, hue, saturation = (
        torch.tensor([each[name] for each in changes], dtype=torch.float64) for name in NAMES
    )
    found = recolored(torch.from_numpy(given), brightness, contrast.exp2(), luma, hue, saturation.exp2())
    expected = [augmented_by_hand.recolored(image, change) for image, change in zip(given, changes, strict=True)]
    np.testing.assert_allclose(found.numpy(), np.stack(expected), atol=1e-12, rtol=0)
    changed = np.abs(found.numpy() - given).max() > 0.1
    assert changed == (channels == 3 or alone not in ("hue", "saturation"))
