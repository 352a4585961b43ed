"""An endless, seeded stream of batches, on the device and in [-1, 1]."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from gantrain.config.schema import BatchSize, ProcessCount
from gantrain.data import queues
from gantrain.data.base import IMAGE_KEYS, Batch, ImageDataset, collate, image_shapes, to_signed_range
from gantrain.data.errors import Faults, OnError, get_item
from gantrain.data.images.deferred import DecodeDevice, DeferredDecoder
from gantrain.data.images.remote import UnreachableConfigError
from gantrain.data.order import balanced, batches, check_balance, epochs
from gantrain.data.seeded import REPLACED, Seeded
from gantrain.data.slots import Slots
from gantrain.data.workers import batches_ahead, good_number_of_workers
from gantrain.errors import ConfigError
from gantrain.runtime.seeding import derive_seed
from gantrain.runtime.signals import ignore_signals_in_worker

IN_CACHE = 2**18  # Values of images, as floating-point numbers, that fit into the cache of a core.


@dataclass(frozen=True)
class Origin:
    """Where counting starts for the images that a run draws from now on, after it has drawn from another data set."""

    number: int = 0  # The number of data sets before this one, which changes the order of images.
    images: int = 0  # The number of images drawn from them.
    epochs: float = 0.0  # The passes through them.


class BatchStream(Iterator[Batch]):
    """Yields global batches, the k-th of which depends on the seed and k alone; each rank gets its slice of them.

    Every epoch is a permutation of the items, unless classes are balanced; batches cross the ends of epochs, so that
    all have the same size. Crops and flips of an item depend on (seed, epoch, index), never on the number of workers or
    ranks.

    Args:
        dataset: The data set.
        batch_size: Images of a batch, of all processes together; a multiple of their number.
        seed: The run's.
        num_workers: Worker processes; None for a number that suits the machine and the data set.
        on_error: For an image that can't be read: ``raise`` ends the run with its name, ``skip`` replaces it by the
            next readable item of the data set.
        balance: Whether classes are drawn equally often; an epoch has as many images as without it, some repeated.
        decode_device: Where JPEGs are decoded: ``cuda`` for the device of the batches, which must be a GPU.
        device: The device of the batches; ``dtype`` and ``channels_last`` are the type and layout of their images.
        rank: The slice that this process gets, of ``world_size``.

    Attributes:
        position: Number of global batches so far, from ``origin`` on.
        origin: What was drawn from other data sets before, or in batches of another size.
        rollbacks: Number of rollbacks of the run; each one changes the order of images.
        seconds_waited: Total time spent waiting for data.
        faults: The images that were skipped.
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
        balance: bool = False,
        decode_device: DecodeDevice = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise ConfigError(f"data.batch_size ({batch_size}) must be a multiple of trainer.devices ({world_size})")
        if balance:
            check_balance(dataset.labels)
        self.position = 0
        self.origin = Origin()
        self.rollbacks = 0
        self.seconds_waited = 0.0
        self.batch_size = batch_size
        self.size = len(dataset)
        self.on_error = on_error
        self._dataset = dataset
        self._num_workers = num_workers
        self.faults = Faults(self.size, counted=on_error == "skip")
        self._balance = balance
        self._seed = seed
        self._device = device
        self._dtype = dtype
        self._channels_last = channels_last
        self._slice = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self._loader: Iterator[Batch] | None = None
        self._names: list[str] = []
        self._workers: list[BaseProcess] = []
        self._decoder = None
        if decode_device == "cuda":
            dataset.deferring()  # Raises an error for data sets that can't.
            self._decoder = DeferredDecoder(device)
        self._slots: Slots | None = None

    @property
    def images(self) -> int:
        """Number of images of all ranks so far."""
        return self.origin.images + self.position * self.batch_size

    @property
    def num_workers(self) -> int:
        """Worker processes for the data set as it is now: fewer once its images are in a cache."""
        return good_number_of_workers(self._dataset) if self._num_workers is None else self._num_workers

    @property
    def epoch(self) -> float:
        """Number of passes through the data set, as a fraction."""
        return self.origin.epochs + self.position * self.batch_size / self.size

    def images_after(self, epochs: float) -> float:
        """Number of images after so many epochs of the whole run."""
        return self.origin.images + (epochs - self.origin.epochs) * self.size

    def __next__(self) -> Batch:
        """The next batch: images as (N, C, H, W) in [-1, 1], labels as (N,) integers, names as a list."""
        start = time.perf_counter()
        if self._loader is None:
            self._loader = self._open()
        try:
            stored = next(self._loader)
        except ConfigError as error:  # The argument of a worker's error is its traceback there.
            raise ConfigError(str(error.args[-1]).rstrip().rpartition("ConfigError: ")[2]) from None
        if self._decoder is not None:
            stored = self._decoder(stored, self._seeded.on_cpu)
        self.faults.add(stored.pop(REPLACED, ()))
        self.seconds_waited += time.perf_counter() - start
        self.position += 1
        self._names += [*stored.get("name", ()), *stored.get("name_b", ())]
        batch = to_device(stored, device=self._device, dtype=self._dtype, channels_last=self._channels_last)
        return batch if self._slots is None else self._slots.kept(batch)

    def take_names(self) -> list[str]:
        """The names of the images since the last call."""
        names, self._names = self._names, []
        return names

    def exit_codes(self) -> list[int]:
        """The exit codes of current or last workers that have ended; less than 0 for a signal."""
        return [process.exitcode for process in self._workers if process.exitcode is not None]

    def go_to(self, position: int, *, rollbacks: int, origin: Origin = Origin()) -> None:
        """Continue with global batch ``position`` from ``origin``, in the order of a run with that many rollbacks.

        Raises:
            ValueError: One of them is negative.
        """
        if position < 0 or rollbacks < 0:
            raise ValueError(f"position {position} in the data after {rollbacks} rollbacks")
        self.close()
        self.position, self.rollbacks, self.origin = position, rollbacks, origin

    def close(self) -> None:
        """End the worker processes; the next batch would start new ones.

        At exit, Python would wait for them forever, since they ignore its signal.
        """
        loader, self._loader = self._loader, None
        # Setting the loader to None may not delete it: a current exception may refer to it.
        if shut_down := getattr(loader, "_shutdown_workers", None):
            with suppress(RuntimeError):  # A worker has died, which has been reported.
                shut_down()
        self._slots = None

    def _open(self) -> Iterator[Batch]:
        workers = self.num_workers
        seed = derive_seed(self._seed, "origin", self.origin.number) if self.origin.number else self._seed
        seed = derive_seed(seed, "rollback", self.rollbacks) if self.rollbacks else seed
        order_seed = seed if self._dataset.shuffled else None
        labels = self._dataset.labels if self._balance else None  # Resuming may have numbered them anew.
        order = epochs(self.size, order_seed) if labels is None else balanced(labels, order_seed)
        # It is no method of the stream, since the loader would then refer to the stream: workers of such a reference
        # cycle end late, each after a timeout of five seconds.
        places = batches(self.position, self.batch_size, self._slice, order)
        ahead = batches_ahead(workers) if workers else None
        if ahead is not None:  # One slot more, for the batch that the main process has taken last.
            spec, images = self._dataset.spec, self._slice.stop - self._slice.start
            items = [math.prod(spec.shape(domain)) * np.dtype(depth).itemsize for domain, depth in spec.depth.items()]
            self._slots = Slots([images * size for size in (*items, torch.int64.itemsize)], workers, ahead + 1)
        self._seeded = Seeded(self._dataset, seed, self.on_error, self._slots, defers=self._decoder is not None)
        loader = DataLoader(
            self._seeded,
            batch_sampler=places,
            num_workers=workers,
            prefetch_factor=ahead,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # The loader would draw from the global one.
            multiprocessing_context=queues.context(workers * ahead) if ahead is not None else None,
            collate_fn=_as_it_is,  # The data set makes batches itself.
            worker_init_fn=_ignore_signals,
        )
        before = multiprocessing.active_children()
        opened = iter(loader)
        self._workers = [process for process in multiprocessing.active_children() if process not in before]
        return opened


def _ignore_signals(worker: int) -> None:
    """Let the main process finish its step and save."""
    ignore_signals_in_worker()


def _as_it_is(batch: Any) -> Batch:
    return batch


def in_order(
    dataset: ImageDataset,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    on_error: OnError = "raise",
    left_out: set[str] | None = None,
) -> Iterator[Batch]:
    """Yield every item once, in order, with a seed of its index: for previews, metrics and tests.

    Images are not augmented. A batch ends early where the size of images changes. With ``skip``, unreadable items are
    left out, and their errors added to ``left_out``.
    """
    items: list[Batch] = []
    for item in _each(dataset.unaugmented(), on_error, set() if left_out is None else left_out):
        if items and (len(items) == batch_size or image_shapes(item) != image_shapes(items[0])):
            yield to_device(collate(items), device=device, dtype=dtype)
            items = []
        items.append(item)
    if items:
        yield to_device(collate(items), device=device, dtype=dtype)


def _each(dataset: ImageDataset, on_error: OnError, left_out: set[str]) -> Iterator[Batch]:
    failed = 0
    for index in range(len(dataset)):
        try:
            yield get_item(dataset, index, derive_seed("in order", index))
        except ConfigError as error:
            failed += 1
            if on_error == "raise" or failed == len(dataset) or isinstance(error, UnreachableConfigError):
                raise
            left_out.add(str(error))


def to_device(batch: Batch, *, device: torch.device, dtype: torch.dtype, channels_last: bool = False) -> Batch:
    """Move a stored batch to the device, with images in [-1, 1]."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    pinned = device.type == "cuda"  # By the loader. No other copy may go on while a worker writes the next batch.
    moved = {
        key: value.to(device, non_blocking=pinned) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
    for key in IMAGE_KEYS:
        if key in moved:
            moved[key] = _signed(moved[key], dtype).contiguous(memory_format=layout)
    return moved


def _signed(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``to_signed_range``; on the CPU, in parts that its cache holds from one operation to the next."""
    if images.device.type != "cpu":
        return to_signed_range(images, dtype)
    signed = torch.empty(images.shape, dtype=dtype)
    count = max(1, IN_CACHE // images.shape[1:].numel())
    for stored, part in zip(images.split(count), signed.split(count), strict=True):
        to_signed_range(stored, dtype, out=part)
    return signed
