"""Reused shared memory into which workers write batches, so that none is copied or sent to the main process."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

ALIGNMENT = 64  # Bytes; of every tensor in a slot.


class Slots:
    """Slots of shared memory, each for the tensors of one batch; every worker writes to its own in turn.

    Args:
        sizes: Bytes of each tensor of a batch. Tensors that don't fit are sent as torch does, in new shared memory.
        workers: Number of worker processes.
        per_worker: Slots of each. A batch is overwritten when its worker makes the one that many later.

    Raises:
        RuntimeError: There is too little shared memory.
    """

    def __init__(self, sizes: Sequence[int], workers: int, per_worker: int) -> None:
        nbytes = sum(map(_aligned, sizes))
        self._memory = torch.empty(workers * per_worker, nbytes, dtype=torch.uint8).share_memory_()
        self._per_worker = per_worker
        self._turn = 0
        self._start = self._stop = 0  # The bytes of the current slot that are free.
        self._number = next(_numbers)
        _in_this_process[self._number] = self

    def next_slot(self) -> None:
        """In a worker: go on to its next slot."""
        info = get_worker_info()
        assert info is not None
        nbytes = self._memory.shape[1]
        self._start = (info.id * self._per_worker + self._turn) * nbytes
        self._stop = self._start + nbytes
        self._turn = (self._turn + 1) % self._per_worker

    def empty(self, dtype: torch.dtype, shape: Sequence[int]) -> Tensor | None:
        """In a worker: an uninitialized tensor in the current slot, or None if it does not fit."""
        start = self._start
        stop = start + math.prod(shape) * dtype.itemsize
        if stop > self._stop:
            return None
        self._start = _aligned(stop)
        return self.view(start, dtype, shape)

    def view(self, start: int, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
        """The tensor that starts at a byte of the memory."""
        return self._memory.view(-1)[start : start + math.prod(shape) * dtype.itemsize].view(dtype).view(*shape)

    def kept(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A batch with copies of its tensors that are in this memory."""
        return {key: value.clone() if self._holds(value) else value for key, value in batch.items()}

    def _holds(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.untyped_storage().data_ptr() == self._memory.data_ptr()

    def sent(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """In a worker: what to pickle instead of a batch, with its tensors in shared memory."""
        return {key: self._sent(value) if isinstance(value, Tensor) else value for key, value in batch.items()}

    def _sent(self, tensor: Tensor) -> Any:
        if not (self._holds(tensor) and tensor.is_contiguous()):
            placed = self.empty(tensor.dtype, tensor.shape)
            if placed is None:
                return tensor.share_memory_()  # torch would do so in a thread that reports no errors.
            tensor = placed.copy_(tensor)
        return _Placed(self._number, tensor.storage_offset() * tensor.itemsize, tensor.dtype, tuple(tensor.shape))


class _Placed:
    """Is unpickled as the tensor at this place."""

    def __init__(self, *place: Any) -> None:
        self._place = place

    def __reduce__(self) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        return _view, self._place


_numbers = itertools.count()
_in_this_process: WeakValueDictionary[int, Slots] = WeakValueDictionary()


def _view(number: int, *place: Any) -> Tensor:
    return _in_this_process[number].view(*place)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """``torch.stack``; in a worker with slots, into the slot of its batch."""
    slots: Slots | None = getattr(getattr(get_worker_info(), "dataset", None), "slots", None)
    first = tensors[0]
    if slots is None or any((each.dtype, each.shape) != (first.dtype, first.shape) for each in tensors):
        return torch.stack(list(tensors))
    return torch.stack(list(tensors), out=slots.empty(first.dtype, (len(tensors), *first.shape)))
