"""An endless, seeded stream of batches, on the device and in [-1, 1]."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, get_worker_info

from gantrain.config.schema import BatchSize, ProcessCount
from gantrain.data.base import IMAGE_KEYS, Batch, ImageDataset, collate, image_shapes, to_signed_range
from gantrain.data.errors import Faults, OnError, as_config_error, get_item, next_readable
from gantrain.data.workers import batches_ahead, good_number_of_workers
from gantrain.errors import ConfigError
from gantrain.runtime.seeding import derive_seed
from gantrain.runtime.signals import ignore_signals_in_worker

REPLACED = "replaced"  # under this key a batch carries what is wrong with the items that others stand in for


class BatchStream(Iterator[Batch]):
    """Global batch number k is a function of the seed and of k alone; each rank takes its slice of it.

    Every epoch is a permutation of the items; batches cross the ends of epochs, so that none is short. What an item's
    crop and flip depend on is (seed, epoch, index), never the number of workers or ranks.

    Args:
        dataset: What to draw from.
        batch_size: Of the global batch.
        seed: The run's.
        num_workers: ProcessCount that decode; None for what suits the machine and the data set.
        on_error: What an image that can't be read does: ``raise`` ends the run with its name, ``skip`` puts the next
            readable item of the data set, in its own order, in its place.
        device: Where batches go.
        dtype: Of the images there.
        channels_last: Whether images are laid out so in memory.
        rank: Which slice this process takes.
        world_size: How many slices there are.

    Attributes:
        position: Global batches handed out so far.
        rollbacks: How often the run has gone back; each time the images come in another order from there on.
        seconds_waited: Time spent waiting for data, in all.
        on_error: As given.
        faults: The images that were skipped.

    Raises:
        ConfigError: The batch can't be shared evenly by the ranks.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        batch_size: BatchSize,
        seed: int,
        num_workers: ProcessCount | None,
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
        self.rollbacks = 0
        self.seconds_waited = 0.0
        self.batch_size = batch_size
        self.size = len(dataset)
        self.on_error = on_error
        self._dataset = dataset
        self._num_workers = num_workers
        self.faults = Faults(self.size, counted=on_error == "skip")
        self._seed = seed
        self._device = device
        self._dtype = dtype
        self._channels_last = channels_last
        self._slice = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self._loader: Iterator[Batch] | None = None
        self._names: list[str] = []
        self._workers: list[BaseProcess] = []

    @property
    def images(self) -> int:
        """Images of all ranks handed out so far."""
        return self.position * self.batch_size

    @property
    def num_workers(self) -> int:
        """ProcessCount that decode; once images are in a cache, fewer will do."""
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
            # whose text is the argument: shown, its line breaks would be escapes
            raise ConfigError(str(error.args[-1]).rstrip().rpartition("ConfigError: ")[2]) from None
        self.faults.add(stored.pop(REPLACED, ()))
        self.seconds_waited += time.perf_counter() - start
        self.position += 1
        self._names += [*stored.get("name", ()), *stored.get("name_b", ())]
        return to_device(stored, device=self._device, dtype=self._dtype, channels_last=self._channels_last)

    def take_names(self) -> list[str]:
        """Of the images handed out since the last call."""
        names, self._names = self._names, []
        return names

    def exit_codes(self) -> list[int]:
        """Of the processes that decode, or did last, those that have ended: less than 0 for a signal."""
        return [process.exitcode for process in self._workers if process.exitcode is not None]

    def go_to(self, position: int, *, rollbacks: int) -> None:
        """Hand out global batch ``position`` next, in the order of a run that has gone back ``rollbacks`` times."""
        self.close()
        self.position, self.rollbacks = position, rollbacks

    def close(self) -> None:
        """End the processes that decode; the next batch would start others.

        Left to the end of the program, they would be waited for for ever: they pass over its signal.
        """
        loader, self._loader = self._loader, None
        if shut_down := getattr(loader, "_shutdown_workers", None):  # an error that is on its way may still refer to it
            with suppress(RuntimeError):  # raised wherever it may be when one dies; that has been told
                shut_down()

    def _open(self) -> Iterator[Batch]:
        workers = self.num_workers
        seed = derive_seed(self._seed, "rollback", self.rollbacks) if self.rollbacks else self._seed
        order = seed if self._dataset.shuffled else None
        loader = DataLoader(
            _Seeded(self._dataset, seed, self.on_error),
            batch_sampler=_batches(self.position, self.batch_size, self._slice, self.size, order),
            num_workers=workers,
            prefetch_factor=batches_ahead(workers) if workers else None,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws from the global one
            collate_fn=passthrough_collate,  # whole batches come from the data set
            worker_init_fn=_outlive_signals,
        )
        others = multiprocessing.active_children()
        batches = iter(loader)
        self._workers = [process for process in multiprocessing.active_children() if process not in others]
        return batches


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


def _outlive_signals(worker: int) -> None:
    """So that the main process can finish its step and save."""
    ignore_signals_in_worker()


class _Seeded(Dataset[Batch]):
    """Batches by their items' (epoch, index), each item with a seed of its own."""

    def __init__(self, dataset: ImageDataset, seed: int, on_error: OnError) -> None:
        self._dataset = dataset
        self._seed = seed
        self._on_error = on_error

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        indices, seeds = [index for _, index in keys], [self._seed_of(epoch, index) for epoch, index in keys]
        try:
            with as_config_error("make a batch of the data"):
                return self._dataset.items(indices, seeds)
        except ConfigError:
            if self._on_error == "raise":
                for index, seed in zip(indices, seeds, strict=True):  # the one that is at fault says so itself
                    get_item(self._dataset, index, seed)
                raise
        found = [next_readable(self._dataset, index, partial(self._seed_of, epoch)) for epoch, index in keys]
        return {**collate([item for item, _ in found]), REPLACED: [reasons for _, reasons in found if reasons]}

    def _seed_of(self, epoch: int, index: int) -> int:
        return derive_seed(self._seed, "item", epoch, index)


def passthrough_collate(batch: Any) -> Batch:
    """A whole batch, as it is; a worker's in shared memory, where a thread would put it whose errors nobody hears."""
    whole: Batch = batch
    if get_worker_info() is not None:
        for value in whole.values():
            if isinstance(value, torch.Tensor):
                value.share_memory_()
    return whole


def in_order(
    dataset: ImageDataset,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    on_error: OnError = "raise",
    left_out: set[str] | None = None,
) -> Iterator[Batch]:
    """Every item once, in order and without randomness beyond its index: for previews, metrics and tests.

    A batch ends early where the size of the images changes. With ``skip``, items that can't be read are left out, and
    what is wrong with them is added to ``left_out``.
    """
    items: list[Batch] = []
    for item in _each(dataset, on_error, set() if left_out is None else left_out):
        if items and (len(items) == batch_size or image_shapes(item) != image_shapes(items[0])):
            yield to_device(collate(items), device=device, dtype=dtype)
            items = []
        items.append(item)
    if items:
        yield to_device(collate(items), device=device, dtype=dtype)


def _each(dataset: ImageDataset, on_error: OnError, left_out: set[str]) -> Iterator[Batch]:
    some = False
    for index in range(len(dataset)):
        try:
            item = get_item(dataset, index, derive_seed("in order", index))
        except ConfigError as error:
            if on_error == "raise" or (index == len(dataset) - 1 and not some):
                raise
            left_out.add(str(error))
        else:
            some = True
            yield item


def to_device(batch: Batch, *, device: torch.device, dtype: torch.dtype, channels_last: bool = False) -> Batch:
    """A stored batch on the device, its images in [-1, 1]."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    placed = {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
    for key in IMAGE_KEYS:
        if key in placed:
            placed[key] = to_signed_range(placed[key], dtype).contiguous(memory_format=layout)
    return placed
