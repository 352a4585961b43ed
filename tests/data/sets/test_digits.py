"""The digits that are part of the package."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from runpy import run_path

import pytest
import torch
from conftest import assert_same_bits
from torch import Tensor

from gantrain.data.base import collate
from gantrain.data.sets.digits import Digits, StackedDigits
from gantrain.errors import ConfigError
from gantrain.metrics.features.digits import DigitFeatures
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


def test_stacked_digits_are_three_digits_always_the_same_and_evenly_spread() -> None:
    stacked, digits = StackedDigits(load_size=32, phase="test"), Digits(load_size=32, phase="test")
    assert (len(stacked), stacked.spec.channels, stacked.labels) == (5000, {"image": 3}, None)
    classes = {digits.item(index, 0)["image"].numpy().tobytes(): digits.labels[index] for index in range(500)}
    batch = stacked.items([*range(len(stacked))], [0] * len(stacked))["image"]
    assert torch.equal(batch[7], stacked.item(7, seed=3)["image"])
    modes = Counter(tuple(classes[channel.numpy().tobytes()] for channel in image) for image in batch)
    assert len(modes) > 950  # Of 1,000.
    again = StackedDigits(load_size=32, phase="test")
    assert torch.equal(again.item(4999, seed=1)["image"], stacked.item(4999, seed=0)["image"])


def test_modes_are_counted_by_the_digit_in_each_channel() -> None:
    script = run_path(str(Path(__file__).parents[3] / "scripts" / "count_modes.py"))
    digits = Digits(load_size=32, phase="train")
    first = [digits.labels.index(label) for label in range(10)]
    chosen = torch.stack([digits.item(index, 0)["image"][0] for index in first])
    triples = [(label, (label + 3) % 10, 7 * label % 10) for label in range(10)]
    images = torch.stack([chosen[list(triple)] for triple in triples])
    modes = script["modes_of"](images, DigitFeatures())
    expected = [100 * a + 10 * b + c for a, b, c in triples]
    assert sum(found == real for found, real in zip(modes.tolist(), expected, strict=True)) >= 8
    name, count, divergence = script["row"]("run", torch.tensor([1, 1, 2, 3])).split()
    assert (name, count) == ("run", "3")
    assert float(divergence) == pytest.approx(
        math.log(1000) + 2 * 0.25 * math.log(0.25) + 0.5 * math.log(0.5), abs=1e-3
    )
