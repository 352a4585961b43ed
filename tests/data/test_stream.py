"""Batches depend only on the seed and on their number."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import batches
import pytest
import torch

from gantrain.data.base import Batch, ImageDataset, ImageSpec, Selection, collate
from gantrain.data.stream import BatchStream, in_order, to_device
from gantrain.errors import ConfigError
from gantrain.runtime.seeding import derive_seed

CPU = torch.device("cpu")


class Numbered(ImageDataset):
    """Items whose names contain their number and seed."""

    def __init__(self, size: int = 10, stored: torch.dtype = torch.uint8, in_memory: bool = True) -> None:
        self.size = size
        self.stored = stored
        self.in_memory = in_memory
        self.labels = list(range(size))
        self.spec = ImageSpec(2, 3, {"image": 2}, {"image": "uint8"})

    def __len__(self) -> int:
        return self.size

    def item(self, index: int, seed: int) -> Batch:
        largest = 1 if self.stored.is_floating_point else torch.iinfo(self.stored).max
        image = torch.zeros(2, 2, 3, dtype=torch.int64)
        image[1] = largest
        return {"image": image.to(self.stored), "label": index, "name": f"{index} by {seed}"}


def stream(dataset: ImageDataset | None = None, **keys: Any) -> BatchStream:
    return batches.stream(dataset or Numbered(), **keys)


def names(opened: Iterable[Batch], count: int) -> list[list[str]]:
    return [batch["name"] for batch in islice(opened, count)]


def numbers(opened: Iterable[Batch], count: int) -> list[int]:
    return [label for batch in islice(opened, count) for label in batch["label"].tolist()]


def test_batches_do_not_depend_on_workers() -> None:
    assert names(stream(num_workers=2), 12) == names(stream(num_workers=0), 12)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("position", [1, 4, 7])
def test_a_stream_resumes_at_any_position(position: int, workers: int) -> None:
    later = stream(num_workers=workers)
    later.position = position
    assert names(later, 5) == names(stream(), position + 5)[position:]
    assert later.position == position + 5


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_slices_of_all_ranks_make_up_the_global_batch(world_size: int) -> None:
    whole = names(stream(), 8)
    ranks = [names(stream(rank=rank, world_size=world_size), 8) for rank in range(world_size)]
    assert [[name for share in shares for name in share] for shares in zip(*ranks, strict=True)] == whole
    assert {len(share) for rank in ranks for share in rank} == {4 // world_size}


def test_an_epoch_has_every_item_once_in_an_order_of_its_own() -> None:
    drawn = numbers(stream(), 10)  # 40 images: four epochs of ten, which end within opened.
    epochs = [drawn[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_batches_are_full_even_if_the_data_set_is_smaller() -> None:
    assert {len(batch["label"]) for batch in islice(stream(), 10)} == {4}
    drawn = numbers(stream(Numbered(size=3), batch_size=8), 3)
    assert len(drawn) == 24
    assert all(sorted(drawn[start : start + 3]) == [0, 1, 2] for start in range(0, 24, 3))


def test_the_seed_of_an_item_depends_on_run_epoch_and_item() -> None:
    drawn = [name for batch in names(stream(), 5) for name in batch]  # Two epochs.
    expected = {f"{index} by {derive_seed(3, 'item', epoch, index)}" for epoch in (0, 1) for index in range(10)}
    assert set(drawn) == expected
    assert len(expected) == 20


def test_the_order_does_not_depend_on_the_size_of_the_batch() -> None:
    assert numbers(stream(batch_size=2), 10) == numbers(stream(batch_size=5), 4)


def test_the_order_depends_on_the_seed() -> None:
    assert numbers(stream(seed=4), 5) != numbers(stream(seed=3), 5)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_generator_of_torch_is_not_used(workers: int) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    names(stream(num_workers=workers), 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_position_counts_returned_batches_not_prepared_ones(workers: int) -> None:
    opened = stream(num_workers=workers)
    assert (opened.position, opened.images, opened.epoch) == (0, 0, 0.0)
    for expected in (1, 2, 3):
        next(opened)
        assert (opened.position, opened.images, opened.epoch) == (expected, 4 * expected, 4 * expected / 10)


def test_time_spent_waiting_is_added_up() -> None:
    opened = stream()
    waited = [opened.seconds_waited]
    for _ in range(3):
        next(opened)
        waited.append(opened.seconds_waited)
    assert waited[0] == 0
    assert waited == sorted(waited)
    assert waited[-1] > 0


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"batch_size": 5, "world_size": 2}, r"batch_size \(5\) must be a multiple of trainer\.devices \(2\)"),
        ({"batch_size": 2, "world_size": 4}, r"batch_size \(2\) must be a multiple of trainer\.devices \(4\)"),
        ({"batch_size": 0}, "batch_size: expected a whole number at least 1 and at most 1,000,000, got 0"),
        ({"num_workers": -1}, "num_workers: expected a whole number at least 0 and at most 1,000 or null, got -1"),
    ],
)
def test_an_impossible_batch_size_is_refused(keys: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.{text}$"):
        stream(**keys)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stored", [torch.uint8, torch.uint16])
def test_images_are_in_minus_1_to_1_in_the_requested_type(
    stored: torch.dtype, dtype: torch.dtype, workers: int
) -> None:
    batch = next(stream(Numbered(stored=stored), dtype=dtype, num_workers=workers))
    assert batch["image"].dtype == dtype
    assert batch["image"].shape == (4, 2, 2, 3)
    assert torch.equal(batch["image"][:, 0], -torch.ones(4, 2, 3, dtype=dtype))
    assert torch.equal(batch["image"][:, 1], torch.ones(4, 2, 3, dtype=dtype))
    assert batch["label"].dtype == torch.int64


@pytest.mark.parametrize("channels_last", [False, True])
def test_images_have_the_requested_memory_format(channels_last: bool) -> None:
    image = next(stream(channels_last=channels_last))["image"]
    assert image.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert image.is_contiguous() == (not channels_last)
    torch.testing.assert_close(image, next(stream())["image"], atol=0, rtol=0)


def test_workers_are_started_only_for_data_that_is_not_in_memory(monkeypatch) -> None:
    monkeypatch.setattr("gantrain.data.workers.available_cores", lambda: 3)
    counts = []
    for in_memory in (True, False):
        made = stream(Numbered(size=1000, in_memory=in_memory), num_workers=None)
        assert next(made)["image"].shape[0] == 4
        counts.append((made.num_workers, len(getattr(made._loader, "_workers", []))))
    assert counts == [(0, 0), (2, 2)]


class AtOnce(Numbered):
    """Items that are read in whole batches; the reads are counted."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        self.reads = 0

    def items(self, indices: Sequence[int], seeds: Sequence[int]) -> Batch:
        self.reads += 1
        return super().items(indices, seeds)


def test_a_batch_is_one_read_of_the_data_set() -> None:
    dataset = AtOnce()
    assert names(stream(dataset), 3) == names(stream(), 3)
    assert dataset.reads == 3


@pytest.mark.parametrize("known", [None, [2, 3]])
def test_a_selection_reads_whole_batches(known: list[int] | None) -> None:
    dataset = AtOnce()
    part = Selection(dataset, [1, 2, 3, 5, 8], known)
    batch = part.items([4, 0, 1], [7, 7, 9])
    expected = collate([part.item(index, seed) for index, seed in ((4, 7), (0, 7), (1, 9))])
    assert batch["name"] == expected["name"] == ["8 by 7", "1 by 7", "2 by 9"]
    assert batch["label"].tolist() == expected["label"].tolist() == ([8, 1, 2] if known is None else [-1, -1, 2])
    assert torch.equal(batch["image"], expected["image"])
    assert dataset.reads == 1


def test_workers_end_with_the_last_reference_to_their_stream() -> None:
    opened = stream(num_workers=2)
    next(opened)
    workers = list(opened._loader._workers)
    assert all(worker.is_alive() for worker in workers)
    gc.disable()  # Reference counting alone has to end them.
    try:
        del opened
        assert not any(worker.is_alive() for worker in workers)
    finally:
        gc.enable()


def test_in_order_every_item_comes_once_and_the_last_batch_is_short() -> None:
    def read() -> list[Batch]:
        return list(in_order(Numbered(), 4, CPU, torch.float64))

    assert [batch["label"].tolist() for batch in read()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [batch["name"] for batch in read()] == [batch["name"] for batch in read()]
    assert {batch["image"].dtype for batch in read()} == {torch.float64}
    assert read()[0]["image"][0, 1, 0, 0] == 1


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_images_of_any_number_and_size_become_signed(dtype: torch.dtype, channels_last: bool) -> None:
    """A large batch is converted in parts: of several images each, of one, and of one larger than a part."""
    largest = 1 if dtype.is_floating_point else torch.iinfo(dtype).max
    draws = torch.Generator().manual_seed(0)
    for shape in [(1000, 1, 28, 28), (5, 3, 256, 256), (2, 3, 400, 300), (1, 1, 1, 1), (0, 3, 8, 8)]:
        values = torch.rand(shape, generator=draws, dtype=torch.float64)
        stored = (values * largest).round().to(dtype) if largest > 1 else (2 * values - 1).to(dtype)
        expected = stored.double() if largest == 1 else 2 * stored.double() / largest - 1
        image = to_device({"image": stored}, device=CPU, dtype=torch.float64, channels_last=channels_last)["image"]
        torch.testing.assert_close(image, expected, atol=1e-15, rtol=0)
        assert image.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
