"""An endless, seeded stream of batches, on the device and in [-1, 1]."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from gantrain.data.base import IMAGE_KEYS, Batch, ImageDataset, to_unit_range
from gantrain.registry import ConfigError, Count, Positive
from gantrain.seeding import derive_seed


class BatchStream(Iterator[Batch]):
    """Global batch number k is a function of the seed and of k alone; each rank takes its slice of it.

    Every epoch is a permutation of the items; batches cross the ends of epochs, so that none is short. What an item's
    crop and flip depend on is (seed, epoch, index), never the number of workers or ranks.

    Args:
        dataset: What to draw from.
        batch_size: Of the global batch.
        seed: The run's.
        num_workers: Processes that decode; None for what suits the machine and the data set.
        device: Where batches go.
        dtype: Of the images there.
        channels_last: Whether images are laid out so in memory.
        rank: Which slice this process takes.
        world_size: How many slices there are.

    Attributes:
        position: Global batches handed out so far. May be set before the first is drawn.
        seconds_waited: Time spent waiting for data, in all.

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
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise ConfigError(f"data.batch_size ({batch_size}) must be a multiple of trainer.devices ({world_size})")
        self.position = 0
        self.seconds_waited = 0.0
        self.batch_size = batch_size
        self.size = len(dataset)
        self._source = _Seeded(dataset, seed)
        self._seed = seed if dataset.shuffled else None
        self._num_workers = _good_number_of_workers(dataset) if num_workers is None else num_workers
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
        self.seconds_waited += time.perf_counter() - start
        self.position += 1
        return place(stored, device=self._device, dtype=self._dtype, channels_last=self._channels_last)

    def _open(self) -> Iterator[Batch]:
        loader = DataLoader(
            self._source,
            batch_sampler=_batches(self.position, self.batch_size, self._slice, self.size, self._seed),
            num_workers=self._num_workers,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws from the global one
            collate_fn=_collate,
            worker_init_fn=_outlive_ctrl_c,
        )
        return iter(loader)


def _batches(start: int, batch_size: int, share: slice, size: int, seed: int | None) -> Iterator[list[tuple[int, int]]]:
    """From global batch ``start`` on, a rank's (epoch, index) pairs; without a seed, every epoch goes in order.

    No method of the stream, whose loader would then hold it: a ring that only the garbage collector opens, too late for
    the workers to hear of it, and each is waited for for five seconds.
    """
    order: list[int] = []
    drawn = -1
    for first in itertools.count(start * batch_size, batch_size):
        pairs = []
        for place_ in range(first + share.start, first + share.stop):
            epoch, within = divmod(place_, size)
            if epoch != drawn:
                order, drawn = _permutation(size, seed, epoch), epoch
            pairs.append((epoch, order[within]))
        yield pairs


def _permutation(size: int, seed: int | None, epoch: int) -> list[int]:
    if seed is None:
        return list(range(size))
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    return torch.randperm(size, generator=generator).tolist()


def _outlive_ctrl_c(worker: int) -> None:
    """The terminal interrupts every process; workers go on, so that the main one can finish its step and save."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Seeded(Dataset[Batch]):
    """Items by (epoch, index), each with a seed of its own."""

    def __init__(self, dataset: ImageDataset, seed: int) -> None:
        self._dataset = dataset
        self._seed = seed

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, index = key
        return self._dataset.item(index, derive_seed(self._seed, "item", epoch, index))


def in_order(dataset: ImageDataset, batch_size: int, device: torch.device, dtype: torch.dtype) -> Iterator[Batch]:
    """Every item once, in order and without randomness beyond its index: for previews, metrics and tests.

    A batch ends early where the size of the images changes.
    """
    items: list[Batch] = []
    for index in range(len(dataset)):
        item = dataset.item(index, derive_seed("in order", index))
        if items and (len(items) == batch_size or _shapes(item) != _shapes(items[0])):
            yield place(_collate(items), device=device, dtype=dtype)
            items = []
        items.append(item)
    if items:
        yield place(_collate(items), device=device, dtype=dtype)


def _shapes(item: Batch) -> list[torch.Size]:
    return [item[key].shape for key in IMAGE_KEYS if key in item]


def _collate(items: list[Batch]) -> Batch:
    """Items as one batch.

    Raises:
        ConfigError: Their images differ in size.
    """
    for item in items:
        if _shapes(item) != _shapes(items[0]):
            sizes = " and ".join(
                f"{one.get('name', 'a picture')} ({' and '.join(f'{h} x {w}' for _, h, w in _shapes(one))})"
                for one in (items[0], item)
            )
            raise ConfigError(
                f"data.preprocess leaves pictures of unlike sizes in one batch: {sizes}; take a mode that crops "
                "(resize_and_crop, scale_width_and_crop, scale_shortside_and_crop), or data.batch_size=1"
            )
    batch: Batch = default_collate(items)
    return batch


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


def _good_number_of_workers(dataset: ImageDataset) -> int:
    return 0 if dataset.in_memory else min(4, os.cpu_count() or 1)
