"""The digits that are part of the package."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from conftest import assert_same_bits
from torch import Tensor

from gantrain.data.base import collate
from gantrain.data.sets.digits import Digits
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS


def images(dataset: Digits, count: int) -> Tensor:
    return torch.stack([dataset.item(index, 0)["image"] for index in range(count)])


@pytest.mark.parametrize("size", [16, 28, 32, 64, 128])
def test_digits_of_any_size_are_white_on_black(size: int) -> None:
    digits = Digits(load_size=size, phase="test")
    some = images(digits, 100)
    assert some.shape == (100, 1, size, size)
    assert some.dtype == torch.uint8
    assert digits.spec.shape("image") == (1, size, size)
    assert digits.spec.depth == {"image": "uint8"}
    assert digits.spec.class_names == tuple("0123456789")
    # Strokes are white, corners are black.
    assert torch.stack([some[..., row, column] for row in (0, -1) for column in (0, -1)]).max() == 0
    assert some.amax(dim=(1, 2, 3)).float().mean() > 200
    in_32 = images(Digits(load_size=32, phase="test"), 100).float().mean()
    share = (28 / 32) ** 2 if size == 28 else 1.0  # 28 pixels have no padding.
    torch.testing.assert_close(some.float().mean() * share, in_32, atol=1.0, rtol=0)


def test_32_pixels_are_28_with_a_border_of_2() -> None:
    small, padded = (images(Digits(load_size=size, phase="train"), 50) for size in (28, 32))
    assert torch.equal(padded[..., 2:-2, 2:-2], small)
    assert padded.sum() == small.sum()


def test_4500_digits_are_for_training_and_500_others_for_testing() -> None:
    train, test = Digits(load_size=28, phase="train"), Digits(load_size=28, phase="test")
    assert (len(train), len(test)) == (4500, 500)
    assert (len(train.labels), len(test.labels)) == (4500, 500)
    seen = {image.numpy().tobytes() for image in images(train, 4500)}
    assert not any(image.numpy().tobytes() in seen for image in images(test, 500))


@pytest.mark.parametrize("phase", ["train", "test"])
def test_classes_are_about_equally_frequent(phase: str) -> None:
    digits = Digits(load_size=28, phase=phase)
    counts = Counter(digits.labels)
    assert set(counts) == set(range(10))
    assert max(counts.values()) < 1.5 * min(counts.values())
    assert digits.item(7, 0)["label"] == digits.labels[7]
    assert digits.keys == {"image", "label"}


def test_items_do_not_depend_on_their_seed() -> None:
    digits = Digits(load_size=16, phase="train")
    assert torch.equal(digits.item(3, 1)["image"], digits.item(3, 2)["image"])


def test_a_size_too_small_for_digits_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^data\.load_size: expected a whole number at least 8 .*, got 7$"):
        DATASETS.build({"mode": "digits", "load_size": 7}, phase="train")


def test_a_batch_equals_its_collated_items() -> None:
    digits = Digits(load_size=32, phase="test")
    chosen = [7, 0, 499, 7]
    assert_same_bits(digits.items(chosen, [0] * 4), collate([digits.item(index, 0) for index in chosen]))
