"""The number of processes that decode, and recommended settings if they are too slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from batches import stream
from PIL import Image

from gantrain.data import workers
from gantrain.data.base import Batch, ImageDataset, ImageSpec
from gantrain.data.images.cache import Cache
from gantrain.data.sets.digits import Digits
from gantrain.data.settings import build_dataset
from gantrain.data.workers import advice, available_cores, batches_ahead, good_number_of_workers


class Sized(ImageDataset):
    """A data set of this many items and pixels."""

    def __init__(self, size: int, side: int, in_memory: bool = False) -> None:
        self.size = size
        self.in_memory = in_memory
        self.spec = ImageSpec(side, side, {"image": 3}, {"image": "uint8"})

    def __len__(self) -> int:
        return self.size

    def item(self, index: int, seed: int) -> Batch:
        raise AssertionError("an image was read")


@pytest.fixture
def machine(monkeypatch):
    def of(cores: int, ranks: int = 1) -> None:
        monkeypatch.setattr(workers, "available_cores", lambda: cores)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))

    return of


@pytest.mark.parametrize(
    ("cores", "ranks", "expected"),
    [(1, 1, 0), (2, 1, 1), (4, 1, 3), (8, 1, 7), (64, 1, 8), (64, 4, 8), (32, 8, 3), (8, 8, 1), (2, 4, 1), (1, 2, 0)],
)
def test_each_rank_has_a_worker_per_core_but_one(cores: int, ranks: int, expected: int, machine) -> None:
    machine(cores, ranks)
    assert good_number_of_workers(Sized(5000, 256)) == expected


@pytest.mark.parametrize(
    ("size", "side", "in_memory", "some"),
    [
        (999, 64, False, False),
        (1000, 64, False, True),
        (999, 65, False, True),
        (5000, 256, True, False),
        (10, 256, False, True),
    ],
)
def test_small_data_sets_and_those_in_memory_need_no_workers(
    size: int, side: int, in_memory: bool, some: bool, machine
) -> None:
    machine(4)
    assert bool(good_number_of_workers(Sized(size, side, in_memory))) == some


def test_only_cores_that_the_process_may_use_are_counted(monkeypatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {1, 5, 7}, raising=False)
    assert available_cores() == 3
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert available_cores() == 6


def test_few_workers_prepare_more_batches_each() -> None:
    assert [batches_ahead(count) for count in (1, 2, 3, 8)] == [4, 2, 2, 2]


MORE = "data.num_workers=4 (now 1; this process may use 4 cores)"
DISK = "data.cache=disk, which decodes every image only once"
DISK_IF = "data.cache=disk, if there is space, which decodes every image only once"
FAST = "data.decoder=fast, which scales images in a third of the time"


@pytest.mark.parametrize(
    ("data", "now", "expected"),
    [
        ({"cache": "off", "decoder": "exact"}, 1, f"{MORE}, or {DISK}, or {FAST}"),
        ({"cache": False, "decoder": "draft"}, 4, DISK),  # YAML reads off as false.
        ({"cache": "auto", "decoder": "fast"}, 4, DISK_IF),
        ({"cache": "auto", "decoder": "exact"}, 8, f"{DISK_IF}, or {FAST}"),
        ({"cache": "disk", "decoder": "fast"}, 4, ""),
        ({"load_size": 64}, 1, MORE),  # A data set without a cache, as of torchvision.
        ({"load_size": 64}, 4, ""),
        ({"cache": "auto", "decoder": "exact", "decode_device": "cuda"}, 1, MORE),
    ],
)
def test_only_effective_settings_are_recommended(data: dict[str, Any], now: int, expected: str, machine) -> None:
    machine(4)
    assert advice(data, Sized(5000, 256), now) == expected


def test_nothing_is_recommended_for_data_in_memory(machine) -> None:
    machine(4)
    assert advice({"load_size": 32}, Digits(load_size=32, phase="test"), 0) == ""


@pytest.mark.parametrize("mode", ["single", "aligned", "unaligned"])
def test_a_cache_in_memory_needs_no_workers(mode: str, machine) -> None:
    machine(4)
    for number in range(3):
        for folder in ("photos/trainA", "photos/trainB"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (96, 96), (number, 0, 0)).save(f"{folder}/{number}.png")
    keys: dict[str, Any] = {"preprocess": "resize_and_crop", "load_size": 80, "crop_size": 72, "flip": True}
    keys |= {"channels": 3, "range": None, "depth": "auto", "decoder": "exact", "root": "photos", "mode": mode}
    if mode == "single":
        keys |= {"crop": "random", "list": None}
    else:
        keys |= {"direction": "a_to_b", "channels_b": 3, "range_b": None}
    if mode == "unaligned":
        keys["serial"] = False
    dataset = build_dataset(keys, phase="train")
    part = dataset.first(2)
    opened = stream(part, num_workers=None)
    assert opened.num_workers == 3
    part.use_cache(Cache(cache="memory"))
    assert opened.num_workers == 0
