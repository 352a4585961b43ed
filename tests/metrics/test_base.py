"""What all metrics share."""

from __future__ import annotations

import torch

from gantrain.metrics.base import Extracted, spaced


def test_some_of_the_images_are_evenly_spaced() -> None:
    assert spaced(10, 4) == [0, 2, 5, 7]
    assert spaced(5, 5) == [0, 1, 2, 3, 4]


def test_parts_are_joined_in_order_with_what_they_have() -> None:
    parts = [Extracted(torch.full((2, 3), value), labels=torch.full((2,), value)) for value in (1.0, 2.0)]
    whole = Extracted.joined(parts)
    assert whole.features[:, 0].tolist() == [1, 1, 2, 2]
    assert whole.labels is not None
    assert whole.labels.tolist() == [1, 1, 2, 2]
    assert whole.logits is None
