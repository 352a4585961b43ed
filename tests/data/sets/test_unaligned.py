"""Two sets of images without pairs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batches import batches
from PIL import Image

from gantrain.data.sets.unaligned import Unaligned
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS


def save(path: Path, value: int = 0, size: int = 8) -> None:
    """A gray image whose left half has this value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size, size), 255, np.uint8)
    pixels[:, : size // 2] = value
    Image.fromarray(pixels).save(path)


def fill(root: Path, count_a: int, count_b: int, phase: str = "train") -> None:
    """Images 0, 1, ... of A with their numbers as values, and of B with their numbers and 100."""
    for number in range(count_a):
        save(root / f"{phase}A/{number}.png", number)
    for number in range(count_b):
        save(root / f"{phase}B/sub/{number}.png", 100 + number)


def domains(root: Path, *, phase: str = "train", **keys: Any) -> Unaligned:
    defaults = {
        "direction": "a_to_b",
        "channels": 1,
        "channels_b": 1,
        "range": None,
        "range_b": None,
        "depth": "auto",
        "decoder": "exact",
        "preprocess": "resize_and_crop",
        "load_size": 8,
        "crop_size": 8,
        "flip": False,
        "serial": False,
    }
    return DATASETS.build({"mode": "unaligned", "root": str(root), **defaults, **keys}, phase=phase)


def numbers(dataset: Any, key: str, *, seed: int = 0) -> list[int]:
    """The image in each item."""
    return [int(dataset.item(index, seed + index)[key][0, 0, 0]) % 100 for index in range(len(dataset))]


@pytest.mark.parametrize(("count_a", "count_b"), [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("phase", ["train", "test"])
def test_an_epoch_has_the_size_of_the_larger_domain(tmp_path: Path, count_a: int, count_b: int, phase: str) -> None:
    fill(tmp_path, count_a, count_b, phase)
    dataset = domains(tmp_path, phase=phase)
    assert len(dataset) == max(count_a, count_b)
    # The smaller domain is repeated.
    assert numbers(dataset, "a") == [index % count_a for index in range(len(dataset))]


@pytest.mark.parametrize(("count_a", "count_b"), [(3, 5), (5, 3)])
def test_test_images_are_paired_by_number(tmp_path: Path, count_a: int, count_b: int) -> None:
    for phase in ("test", "val"):
        fill(tmp_path, count_a, count_b, phase)
        for seed in (0, 1):
            dataset = domains(tmp_path, phase=phase)
            assert numbers(dataset, "b", seed=seed) == [index % count_b for index in range(5)]
        item = dataset.item(4, 0)
        assert (item["name"], item["name_b"]) == (f"{4 % count_a}.png", f"sub/{4 % count_b}.png")


def test_training_combines_images_of_a_uniformly_with_those_of_b(tmp_path: Path) -> None:
    fill(tmp_path, 6, 4)
    dataset = domains(tmp_path)
    met = Counter()
    for seed in range(800):
        item = dataset.item(2, seed)
        assert (int(item["a"][0, 0, 0]), item["name"]) == (2, "2.png")
        met[int(item["b"][0, 0, 0]) - 100] += 1
        assert item["name_b"] == f"sub/{int(item['b'][0, 0, 0]) - 100}.png"
    # 200 expected of each of 4, standard deviation 12
    assert set(met) == {0, 1, 2, 3}
    assert min(met.values()) > 150
    assert max(met.values()) < 250
    assert dataset.item(2, 5)["name_b"] == dataset.item(2, 5)["name_b"]
    assert len({dataset.item(index, 5)["name_b"] for index in range(6)}) == 1  # It depends only on the seed.


def test_serial_training_pairs_by_number_and_keeps_the_order(tmp_path: Path) -> None:
    fill(tmp_path, 5, 3)
    assert domains(tmp_path).shuffled
    dataset = domains(tmp_path, serial=True)
    assert not dataset.shuffled
    for seed in (0, 100):
        assert numbers(dataset, "a", seed=seed) == [0, 1, 2, 3, 4]
        assert numbers(dataset, "b", seed=seed) == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("serial", [False, True])
def test_an_epoch_reads_all_images_of_the_larger_domain(tmp_path: Path, serial: bool) -> None:
    fill(tmp_path, 5, 3)
    epochs = [batch["name"] for batch in batches(domains(tmp_path, serial=serial), count=4)]
    in_order = [f"{number}.png" for number in range(5)]
    assert all(sorted(epoch) == in_order for epoch in epochs)
    assert all(epoch == in_order for epoch in epochs) == serial


@pytest.mark.parametrize("phase", ["train", "test"])
def test_a_single_domain_has_every_image_once(tmp_path: Path, phase: str) -> None:
    fill(tmp_path, 3, 5, phase)
    whole = domains(tmp_path, phase=phase)
    for key, count in (("a", 3), ("b", 5)):
        alone = whole.of_domain(key)
        assert len(alone) == count
        assert numbers(alone, key) == list(range(count))
        item = alone.item(1, 0)
        assert set(item) == {key, "name"}
        assert item["name"] == ("1.png" if key == "a" else "sub/1.png")
        assert alone.keys == {key}
        assert alone.spec.shape(key) == (1, 8, 8)
        assert alone.held_out == whole.held_out
    assert whole.of_domain("a").fingerprint != whole.of_domain("b").fingerprint


def test_items_of_one_domain_equal_those_of_the_pairs(tmp_path: Path) -> None:
    fill(tmp_path, 3, 5, "test")
    whole = domains(tmp_path, phase="test", crop_size=5, load_size=6)
    for key in ("a", "b"):
        assert torch.equal(whole.of_domain(key).item(2, 0)[key], whole.item(2, 7)[key])


def test_both_images_are_cropped_and_flipped_independently(tmp_path: Path) -> None:
    ramp = np.arange(8 * 8, dtype=np.uint8).reshape(8, 8)
    for name in ("trainA/1.png", "trainB/1.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(ramp).save(tmp_path / name)
    dataset = domains(tmp_path, crop_size=7, flip=True)
    seen = Counter()
    for seed in range(640):
        item = dataset.item(0, seed)
        seen[tuple(tuple(item[key][0, 0, :2].tolist()) for key in ("a", "b"))] += 1
    # 2 x 2 places, mirrored or not: 8 outcomes of each, all 64 combinations, 10 expected of each
    assert len(seen) == 64
    assert max(seen.values()) < 30


def test_the_direction_swaps_a_and_b_and_their_specification(tmp_path: Path) -> None:
    fill(tmp_path, 3, 5)
    dataset = domains(tmp_path, direction="b_to_a", channels_b=3, range=[0, 100])
    assert dataset.spec.channels == {"a": 3, "b": 1}
    assert dataset.spec.ranges == {"b": (0.0, 100.0)}
    assert (len(dataset.of_domain("a")), len(dataset.of_domain("b"))) == (5, 3)
    item = dataset.item(4, 1)
    assert (item["name"], int(item["a"][0, 0, 0])) == ("sub/4.png", 104)
    assert (item["a"].dtype, item["b"].dtype) == (torch.uint8, torch.float32)
    assert dataset.fingerprint == domains(tmp_path).fingerprint


LAYOUTS = [("{}A", "{}B"), ("A/{}", "B/{}"), ("a/{}", "b/{}"), ("{}/A", "{}/B")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_found_and_val_replaces_a_missing_test(tmp_path: Path, layout: tuple[str, str]) -> None:
    def lay(phase: str, value: int) -> None:
        for side in layout:
            save(tmp_path / side.format(phase) / "1.png", value)

    lay("train", 1)
    dataset = domains(tmp_path)
    assert (len(dataset), dataset.held_out, numbers(dataset, "a")) == (1, False, [1])
    lay("val", 2)
    assert domains(tmp_path).held_out
    assert numbers(domains(tmp_path, phase="test"), "b") == [2]
    lay("test", 3)
    assert numbers(domains(tmp_path, phase="test"), "b") == [3]


def test_two_folders_without_phases_are_read_in_every_phase(tmp_path: Path) -> None:
    save(tmp_path / "A/1.png", 1)
    save(tmp_path / "B/2.png", 2)
    for phase in ("train", "test"):
        dataset = domains(tmp_path, phase=phase)
        assert dataset.item(0, 0)["name_b"] == "2.png"
        assert not dataset.held_out


def test_the_error_lists_the_expected_folders(tmp_path: Path) -> None:
    save(tmp_path / "trainA/1.png")
    save(tmp_path / "train/1.png")
    save(tmp_path / "1.png")
    with pytest.raises(ConfigError) as caught:
        domains(tmp_path)
    for part in ("data.root: ", "train", f"{tmp_path}", "trainA + trainB; A/train + B/train; train/A + train/B"):
        assert part in str(caught.value)
    with pytest.raises(ConfigError, match=r"/horse2zebra; gantrain data download horse2zebra fetches it$"):
        domains(tmp_path / "horse2zebra")
    (tmp_path / "trainB").mkdir()
    with pytest.raises(ConfigError, match=rf"^data\.root: no image in {tmp_path}/trainB "):
        domains(tmp_path)


def test_the_fingerprint_depends_on_the_names_of_both_domains(tmp_path: Path) -> None:
    fill(tmp_path, 2, 2)
    prints = {domains(tmp_path).fingerprint}
    (tmp_path / "trainB/sub/0.png").rename(tmp_path / "trainB/sub/9.png")
    prints.add(domains(tmp_path).fingerprint)
    (tmp_path / "trainA/0.png").rename(tmp_path / "trainA/9.png")
    prints.add(domains(tmp_path).fingerprint)
    assert len(prints) == 3


def test_max_size_selects_the_first_images_of_both_domains(tmp_path: Path) -> None:
    fill(tmp_path, 12, 11)
    first = domains(tmp_path).first(3)
    # Sorted by name: 0, 1, 10, ...
    assert numbers(first, "a") == [0, 1, 10]
    assert {number for seed in range(30) for number in numbers(first, "b", seed=seed)} == {0, 1, 10}
    assert [len(first.of_domain(domain)) for domain in ("a", "b")] == [3, 3]
    assert len(domains(tmp_path).first(99)) == 12


def test_a_fraction_is_drawn_from_each_domain(tmp_path: Path) -> None:
    fill(tmp_path, 12, 6)
    part = domains(tmp_path).sample(0.5, seed=1)
    of = {domain: numbers(part.of_domain(domain), domain) for domain in ("a", "b")}
    assert [len(set(of["a"])), len(set(of["b"]))] == [6, 3]
    assert set(numbers(part, "a")) == set(of["a"])
    assert {number for seed in range(30) for number in numbers(part, "b", seed=seed)} == set(of["b"])
    other = domains(tmp_path).sample(0.5, seed=2)
    assert set(numbers(other, "a")) != set(of["a"])
    assert [len(part.first(2).of_domain(domain)) for domain in ("a", "b")] == [2, 2]
