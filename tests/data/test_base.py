"""Descriptions of data sets, selections, and the conversion between stored pixels and [-1, 1]."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from gantrain.cli.main import main
from gantrain.data.base import (
    Batch,
    ImageDataset,
    ImageSpec,
    Selection,
    first_of_each_class,
    to_signed_range,
    to_uint8,
)
from gantrain.data.sets.digits import Digits
from gantrain.data.settings import build_dataset
from gantrain.errors import ConfigError


class Numbered(ImageDataset):
    """Items whose values are their numbers; item i is of class i % 3."""

    in_memory = True
    held_out = False

    def __init__(self, size: int) -> None:
        self.labels = [index % 3 for index in range(size)]
        self.spec = ImageSpec(2, 2, {"image": 1}, {"image": "uint8"}, ("a", "b", "c"))

    def __len__(self) -> int:
        return len(self.labels)

    def item(self, index: int, seed: int) -> Batch:
        return {"image": torch.full((1, 2, 2), index), "label": self.labels[index], "name": f"{index} by {seed}"}


def names(dataset: ImageDataset) -> list[int]:
    return [int(dataset.item(place, 0)["image"][0, 0, 0]) for place in range(len(dataset))]


def labels(dataset: ImageDataset) -> list[int]:
    return [dataset.item(place, 0)["label"] for place in range(len(dataset))]


def test_a_selection_contains_the_selected_items_in_order() -> None:
    selection = Selection(Numbered(10), [7, 1, 4])
    assert names(selection) == [7, 1, 4]
    assert labels(selection) == [1, 1, 1]
    assert selection.item(0, 99)["name"] == "7 by 99"
    assert selection.keys == {"image", "label"}
    assert selection.spec == Numbered(10).spec
    assert (selection.in_memory, selection.held_out) == (True, False)


def test_unknown_labels_are_hidden_and_all_items_stay() -> None:
    selection = Selection(Numbered(12), range(12), known=[0, 4])
    items = list(zip(names(selection), labels(selection), strict=True))
    assert {label for name, label in items if name not in (0, 4)} == {-1}
    assert {(name, label) for name, label in items if name in (0, 4)} == {(0, 0), (4, 1)}
    assert set(names(selection)) == set(range(12))


@pytest.mark.parametrize(("size", "known"), [(1000, 10), (1000, 100), (1000, 300), (1000, 499)])
def test_known_items_make_about_half_of_an_epoch(size: int, known: int) -> None:
    selection = Selection(Numbered(size), range(size), known=range(known))
    counts = Counter(names(selection))
    assert {counts[index] for index in range(known, size)} == {1}
    assert len({counts[index] for index in range(known)}) == 1
    share = sum(counts[index] for index in range(known)) / len(selection)
    # With n items, k of them known: k round(n / k) / (n + k round(n / k) - k), at least about 1/2.
    assert 0.45 < share < 0.7
    assert len(selection) == size - known + known * round(size / known)


def test_no_item_is_repeated_if_most_labels_are_known() -> None:
    assert names(Selection(Numbered(10), range(10), known=range(8))) == list(range(10))


def test_all_labels_are_hidden_if_none_is_known() -> None:
    assert labels(Selection(Numbered(4), range(4), known=[])) == [-1] * 4


@pytest.mark.parametrize("known", [None, [0, 4], []])
def test_the_labels_of_a_selection_are_those_of_its_items(known: list[int] | None) -> None:
    selection = Selection(Numbered(12), [0, 4, 5, 7], known)
    assert list(selection.labels) == labels(selection)


def test_the_first_of_each_class_are_equally_many() -> None:
    given = [0, 0, 0, 0, 1, 0, 1, 2, 2, 1, 0]
    assert first_of_each_class(given, 3) == [0, 4, 7]
    assert first_of_each_class(given, 6) == [0, 1, 4, 6, 7, 8]
    assert first_of_each_class(given, 4) == [0, 1, 4, 7]  # One class has one more.
    assert first_of_each_class(given, 0) == []


def test_a_class_with_too_few_items_is_completed_by_the_others() -> None:
    assert first_of_each_class([0, 1, 0, 0], 3) == [0, 1, 2]
    assert first_of_each_class([0, 1, 0, 0], 9) == [0, 1, 2, 3]


DIGITS = {"mode": "digits", "load_size": 28}


def test_max_size_selects_the_first_items_of_each_phase() -> None:
    whole = build_dataset(DIGITS, phase="train")
    some = build_dataset(DIGITS | {"max_size": 20}, phase="train")
    assert len(some) == 20
    assert all(torch.equal(some.item(i, 0)["image"], whole.item(i, 0)["image"]) for i in range(20))
    assert len(build_dataset(DIGITS | {"max_size": 20}, phase="test")) == 20
    assert len(build_dataset(DIGITS | {"max_size": 99_999}, phase="train")) == 4500


def test_a_fraction_is_a_random_sample_by_seed() -> None:
    def taken(seed: int, **keys: object) -> list[int]:
        part = build_dataset(DIGITS | keys, phase="train", seed=seed)
        return [part._indices[index] for index in range(len(part))]

    one = taken(1, fraction=0.1)
    assert len(set(one)) == 450
    assert one == sorted(one) == taken(1, fraction=0.1)
    assert 20 < len(set(one) & set(taken(2, fraction=0.1))) < 80  # 45 expected
    assert 1800 < sum(one) / 450 < 2700  # 2,250 expected
    assert taken(1, fraction=1) == list(range(4500))
    assert len(taken(1, fraction=1e-6)) == 1
    assert len(build_dataset(DIGITS | {"fraction": 0.1}, phase="test", seed=1)) == 50


def test_max_size_selects_the_first_items_of_a_fraction() -> None:
    part = build_dataset(DIGITS | {"fraction": 0.1, "max_size": 7}, phase="train", seed=3)
    whole = build_dataset(DIGITS | {"fraction": 0.1}, phase="train", seed=3)
    assert len(part) == 7
    assert all(torch.equal(part.item(i, 0)["image"], whole.item(i, 0)["image"]) for i in range(7))


@pytest.mark.parametrize("value", [0, -0.5, 1.1, "x", True])
def test_an_invalid_fraction_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^data\.fraction: .* above 0 and at most 1 or null, got"):
        build_dataset(DIGITS | {"fraction": value}, phase="train")


def test_labelled_leaves_equally_many_labels_of_each_class() -> None:
    train = build_dataset(DIGITS | {"max_size": 600, "labelled": 30}, phase="train")
    of_known = Counter(label for label in train.labels if label >= 0)
    assert set(of_known) == set(range(10))
    assert len(set(of_known.values())) == 1
    assert -1 not in labels(build_dataset(DIGITS | {"labelled": 30}, phase="test"))


@pytest.mark.parametrize("key", ["max_size", "labelled"])
@pytest.mark.parametrize("value", [0, -3, 2.5, "x", True])
def test_an_invalid_size_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.{key}: .* at least 1 or null, got"):
        build_dataset(DIGITS | {key: value}, phase="train")


def test_labels_are_hidden_only_from_models_that_need_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "trainer.accelerator=cpu", "data.labelled=10", "model=cgan"]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in ("data.labelled=10", "model=cgan", "acgan, sgan"))


def test_a_spec_survives_conversion_to_a_dict_and_back() -> None:
    spec = ImageSpec(16, 24, {"a": 3, "b": 1}, {"a": "uint8", "b": "uint16"}, ("x", "y"))
    assert ImageSpec.from_dict(spec.to_dict()) == spec
    assert ImageSpec.from_dict({**spec.to_dict(), "class_names": ["x", "y"]}) == spec
    assert (spec.shape("a"), spec.shape("b"), spec.num_classes) == ((3, 16, 24), (1, 16, 24), 2)
    assert ImageSpec(1, 1, {"image": 1}, {"image": "uint8"}).num_classes == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("stored", "largest"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_the_extreme_pixel_values_are_exactly_minus_1_and_1(
    stored: torch.dtype, largest: int, dtype: torch.dtype
) -> None:
    pixels = torch.tensor([0, largest // 3, largest]).to(stored)
    # The second value is a third of the way from -1 to 1.
    expected = torch.tensor([-1, -1 / 3, 1], dtype=dtype)
    result = to_signed_range(pixels, dtype)
    assert result.dtype == dtype
    assert result[0] == -1
    assert result[2] == 1
    torch.testing.assert_close(result, expected)


def test_floating_point_images_are_not_scaled() -> None:
    images = torch.tensor([-1.0, 0.25, 1.0])
    torch.testing.assert_close(to_signed_range(images, torch.float64), images.double(), atol=0, rtol=0)


def test_every_8_bit_value_survives_conversion_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(to_uint8(to_signed_range(values, dtype)), values)


def test_conversion_to_8_bits_clips_and_rounds() -> None:
    # (x + 1) 127.5: -0.5 gives 63.75, 0 gives 127.5 (rounded to the even 128), 0.1 gives 140.25.
    assert to_uint8(torch.tensor([-7.0, -1.0, -0.5, 0.0, 0.1, 1.0, 9.0])).tolist() == [0, 0, 64, 128, 140, 255, 255]


def test_a_data_set_with_the_old_method_keep_gets_the_cache() -> None:
    with pytest.warns(DeprecationWarning, match=r"Old\.keep is now use_cache"):

        class Old(Digits):
            def keep(self, cache: object, indices: object = None) -> None:
                self.given = cache

    old = Old(load_size=16, phase="test")
    old.use_cache({})
    assert old.given == {}
