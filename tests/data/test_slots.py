"""Batches of workers in reused shared memory: bit-identical, written in place, and overwritten late enough."""

from __future__ import annotations

import pickle
import time
from itertools import islice
from types import SimpleNamespace
from typing import Any

import batches
import numpy as np
import pytest
import torch

from gantrain.data import slots as slots_module
from gantrain.data.base import Batch, ImageDataset, ImageSpec
from gantrain.data.slots import Slots, stack
from gantrain.runtime.seeding import derive_seed


class Noise(ImageDataset):
    """Random images of a stored type, ``larger`` times as high as the specification says."""

    labels = range(10)

    def __init__(self, depth: str, larger: int = 1) -> None:
        self.spec = ImageSpec(8, 9, {"image": 3}, {"image": depth})
        self.larger = larger

    def __len__(self) -> int:
        return 10

    def item(self, index: int, seed: int) -> Batch:
        pixels = np.random.default_rng(seed).random((3, 8 * self.larger, 9))
        scaled = pixels * 2 - 1 if self.spec.depth["image"] == "float32" else pixels * 255
        return {"image": torch.from_numpy(scaled.astype(self.spec.depth["image"])), "label": index, "name": str(index)}


@pytest.mark.parametrize(
    ("depth", "larger", "workers"), [("uint8", 1, 1), ("uint16", 1, 2), ("float32", 1, 2), ("uint8", 5, 1)]
)
def test_stored_batches_are_the_same_with_workers(depth: str, larger: int, workers: int) -> None:
    """Though all of them are kept while the slots are used several times; images that are too large are not in one."""
    expected, found = (
        list(islice(batches.stream(Noise(depth, larger), num_workers=count), 16)) for count in (0, workers)
    )
    for one, other in zip(expected, found, strict=True):
        assert one.keys() == other.keys()
        assert one["name"] == other["name"]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])


def test_the_batch_in_use_is_not_overwritten_by_the_prefetched_ones() -> None:
    noise = Noise("uint8")
    opened = batches.stream(noise, num_workers=1)
    loader: Any = opened._open()
    taken = next(loader)
    seeds = [(index, derive_seed(3, "item", 0, index)) for index in taken["label"].tolist()]
    while loader._worker_result_queue.qsize() < loader._prefetch_factor:
        time.sleep(0.01)
    assert torch.equal(taken["image"], torch.stack([noise.item(*seed)["image"] for seed in seeds]))
    loader._shutdown_workers()


def test_a_worker_writes_in_place_to_its_own_slots_in_turn(monkeypatch) -> None:
    slots = Slots([12, 8], workers=2, per_worker=3)
    slots._memory[:3] = 9  # Those of the other worker.
    worker = SimpleNamespace(id=1, dataset=SimpleNamespace(slots=slots))
    monkeypatch.setattr(slots_module, "get_worker_info", lambda: worker)
    received = []
    for number in range(4):
        slots.next_slot()
        made = {"image": stack([torch.full((3,), number, dtype=torch.int16)] * 2), "label": torch.tensor([number])}
        assert slots._memory.data_ptr() <= made["image"].data_ptr() < slots._memory.data_ptr() + slots._memory.nbytes
        received.append(pickle.loads(pickle.dumps(slots.sent({**made, "name": ["x"]}))))
    assert [batch["image"].tolist() for batch in received] == [[[number] * 3] * 2 for number in (3, 1, 2, 3)]
    assert [batch["label"].tolist() for batch in received] == [[3], [1], [2], [3]]
    assert (slots._memory[:3] == 9).all()
    kept = slots.kept(received[1])
    slots._memory.zero_()
    assert kept["image"].tolist() == [[1] * 3] * 2
    assert kept["name"] == ["x"]
    assert received[1]["label"].tolist() == [0]


def test_tensors_that_do_not_fit_are_shared_one_by_one(monkeypatch) -> None:
    slots = Slots([8], workers=1, per_worker=2)
    monkeypatch.setattr(slots_module, "get_worker_info", lambda: SimpleNamespace(id=0))
    slots.next_slot()
    large = torch.arange(100)
    sent = slots.sent({"a": large})["a"]
    assert sent is large
    assert sent.is_shared()
