"""An endless, seeded stream of batches, on the device and in [-1, 1]."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from gantrain.data.base import IMAGE_KEYS, Batch, ImageDataset, collate, image_shapes, to_unit_range
from gantrain.data.faults import Faults, OnError, readable
from gantrain.data.workers import batches_ahead, good_number_of_workers
from gantrain.registry import ConfigError, Count, Positive
from gantrain.seeding import derive_seed

REPLACED = "replaced"  # under this key a batch carries what is wrong with the items that others stand in for


class BatchStream(Iterator[Batch]):
    """Global batch number k is a function of the seed and of k alone; each rank takes its slice of it.

    Every epoch is a permutation of the items; batches cross the ends of epochs, so that none is short. What an item's
    crop and flip depend on is (seed, epoch, index), never the number of workers or ranks.

    Args:
        dataset: What to draw from.
        batch_size: Of the global batch.
        seed: The run's.
        num_workers: Processes that decode; None for what suits the machine and the data set.
        on_error: What a picture that can't be read does: ``raise`` ends the run with its name, ``skip`` puts the next
            readable item of the data set, in its own order, in its place.
        device: Where batches go.
        dtype: Of the images there.
        channels_last: Whether images are laid out so in memory.
        rank: Which slice this process takes.
        world_size: How many slices there are.

    Attributes:
        position: Global batches handed out so far. May be set before the first is drawn.
        seconds_waited: Time spent waiting for data, in all.
        on_error: As given.
        faults: The pictures that were skipped.

    Raises:
        ConfigError: The batch can't be shared evenly by the ranks.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        batch_size: Positive,
        seed: int,
        num_workers: Count | None,
        device: torch.device,
        dtype: torch.dtype,
        channels_last: bool,
        on_error: OnError = "raise",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise ConfigError(f"data.batch_size ({batch_size}) must be a multiple of trainer.devices ({world_size})")
        self.position = 0
        self.seconds_waited = 0.0
        self.batch_size = batch_size
        self.size = len(dataset)
        self.on_error = on_error
        self._dataset = dataset
        self._num_workers = num_workers
        self.faults = Faults(self.size, counted=on_error == "skip")
        self._source = _Seeded(dataset, seed, on_error)
        self._seed = seed if dataset.shuffled else None
        self._device = device
        self._dtype = dtype
        self._channels_last = channels_last
        self._slice = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self._loader: Iterator[Batch] | None = None

    @property
    def images(self) -> int:
        """Images of all ranks handed out so far."""
        return self.position * self.batch_size

    @property
    def num_workers(self) -> int:
        """Processes that decode; once pictures are in a cache, fewer will do."""
        return good_number_of_workers(self._dataset) if self._num_workers is None else self._num_workers

    @property
    def epoch(self) -> float:
        """How often the data set has been gone through, as a fraction."""
        return self.images / self.size

    def __next__(self) -> Batch:
        """The next batch: image keys as (N, C, H, W) in [-1, 1], labels as (N,) whole numbers, names as a list."""
        start = time.perf_counter()
        if self._loader is None:
            self._loader = self._open()
        try:
            stored = next(self._loader)
        except ConfigError as error:  # from a worker, torch wraps it in the trace there
            raise ConfigError(str(error).rstrip().rpartition("ConfigError: ")[2]) from None
        except RuntimeError as error:
            raise _lost_worker(error) or error from None
        self.faults.add(stored.pop(REPLACED, ()))
        self.seconds_waited += time.perf_counter() - start
        self.position += 1
        return place(stored, device=self._device, dtype=self._dtype, channels_last=self._channels_last)

    def _open(self) -> Iterator[Batch]:
        workers = self.num_workers
        loader = DataLoader(
            self._source,
            batch_sampler=_batches(self.position, self.batch_size, self._slice, self.size, self._seed),
            num_workers=workers,
            prefetch_factor=batches_ahead(workers) if workers else None,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws from the global one
            collate_fn=_as_it_is,  # whole batches come from the data set
            worker_init_fn=_outlive_ctrl_c,
        )
        return iter(loader)


def _batches(start: int, batch_size: int, share: slice, size: int, seed: int | None) -> Iterator[list[tuple[int, int]]]:
    """From global batch ``start`` on, a rank's (epoch, index) pairs; without a seed, every epoch goes in order.

    No method of the stream, whose loader would then hold it: a ring that only the garbage collector opens, too late for
    the workers to hear of it, and each is waited for for five seconds.
    """
    order = np.empty(0, dtype=np.int64)
    drawn = -1
    for first in itertools.count(start * batch_size, batch_size):
        pairs = []
        for place_ in range(first + share.start, first + share.stop):
            epoch, within = divmod(place_, size)
            if epoch != drawn:
                order, drawn = _permutation(size, seed, epoch), epoch
            pairs.append((epoch, int(order[within])))
        yield pairs


def _permutation(size: int, seed: int | None, epoch: int) -> NDArray[np.int64]:
    """No list, which would take a hundred megabytes for LSUN's three million bedrooms."""
    if seed is None:
        return np.arange(size)
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    return torch.randperm(size, generator=generator).numpy()


def _outlive_ctrl_c(worker: int) -> None:
    """The terminal interrupts every process; workers go on, so that the main one can finish its step and save."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _lost_worker(error: RuntimeError) -> ConfigError | None:
    """What to say where a worker's end, and not its work, is what torch complains of."""
    text = str(error)
    if "shared memory" in text:
        return ConfigError(
            "data.num_workers: there is too little shared memory (df /dev/shm) to hand batches from process to "
            "process: give data.num_workers=0 or a smaller data.batch_size, or a container more (docker --shm-size)"
        )
    if "exited unexpectedly" in text or "killed by signal" in text:
        return ConfigError(
            "data.num_workers: a process that reads pictures was killed, as a rule for want of memory: give fewer "
            "(0 for none), or a smaller data.batch_size; the run goes on from its newest checkpoint"
        )
    return None


class _Seeded(Dataset[Batch]):
    """Batches by their items' (epoch, index), each item with a seed of its own."""

    def __init__(self, dataset: ImageDataset, seed: int, on_error: OnError) -> None:
        self._dataset = dataset
        self._seed = seed
        self._on_error = on_error

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        seeds = [self._seed_of(epoch, index) for epoch, index in keys]
        try:
            return self._dataset.items([index for _, index in keys], seeds)
        except ConfigError:
            if self._on_error == "raise":
                raise
        found = [readable(self._dataset, index, partial(self._seed_of, epoch)) for epoch, index in keys]
        return {**collate([item for item, _ in found]), REPLACED: [reasons for _, reasons in found if reasons]}

    def _seed_of(self, epoch: int, index: int) -> int:
        return derive_seed(self._seed, "item", epoch, index)


def _as_it_is(batch: Any) -> Batch:
    whole: Batch = batch
    return whole


def in_order(
    dataset: ImageDataset, batch_size: int, device: torch.device, dtype: torch.dtype, *, on_error: OnError = "raise"
) -> Iterator[Batch]:
    """Every item once, in order and without randomness beyond its index: for previews, metrics and tests.

    A batch ends early where the size of the images changes. With ``skip``, items that can't be read are left out.
    """
    items: list[Batch] = []
    for item in _each(dataset, on_error):
        if items and (len(items) == batch_size or image_shapes(item) != image_shapes(items[0])):
            yield place(collate(items), device=device, dtype=dtype)
            items = []
        items.append(item)
    if items:
        yield place(collate(items), device=device, dtype=dtype)


def _each(dataset: ImageDataset, on_error: OnError) -> Iterator[Batch]:
    some = False
    for index in range(len(dataset)):
        try:
            item = dataset.item(index, derive_seed("in order", index))
        except ConfigError:
            if on_error == "raise" or (index == len(dataset) - 1 and not some):
                raise
        else:
            some = True
            yield item


def place(batch: Batch, *, device: torch.device, dtype: torch.dtype, channels_last: bool = False) -> Batch:
    """A stored batch on the device, its images in [-1, 1]."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    placed = {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
    for key in IMAGE_KEYS:
        if key in placed:
            placed[key] = to_unit_range(placed[key], dtype).contiguous(memory_format=layout)
    return placed
