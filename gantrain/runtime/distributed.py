"""ProcessCount and ranks, and nothing else: a thin layer over ``torch.distributed``.

Every function also works in a run of one process, where it does the obvious thing.
"""

from __future__ import annotations

import atexit
import itertools
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from gantrain.errors import ConfigError
from gantrain.runtime.signals import LAUNCHER

LOST = 3  # exit status of a rank whose fault it was not
TIMEOUT = timedelta(minutes=30)  # of one message
POLL = 0.1  # seconds
AGAIN = "the same command"

if TYPE_CHECKING:  # imported where it is used: it takes long
    pass


_store: Any = None  # of torch's: where ranks leave each other notes, for as long as they like
_runs = 0  # of this process: the jobs of a sweep
_turns = itertools.count()


class LostRankError(ConfigError):
    """Another rank has ended without a word; what it died of is not known here."""


def ranks_are_here() -> bool:
    """Whether somebody (gantrain, torchrun) has already started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_launched() -> bool:
    """Whether gantrain has, by ``launch``, which tells what has become of the ranks."""
    return LAUNCHER in os.environ


def rank() -> int:
    """This process's number among all, from 0."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """This process's number on its machine: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """How many processes train together on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def join(device: torch.device) -> None:
    """Join the other ranks, for good: the jobs of a sweep share the group. Nothing happens in a run of one process."""
    global _store, _runs
    _runs += 1
    if ranks_are_here() and not dist.is_initialized():
        on_gpu = device.type == "cuda"
        _store, number, count = next(rendezvous("env://", timeout=TIMEOUT))
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=_store,
            rank=number,
            world_size=count,
            timeout=TIMEOUT,
            device_id=device if on_gpu else None,
        )
        atexit.register(leave)


def leave() -> None:
    """Part from the other ranks at the end of the process."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Rank 0 goes through the block before the others enter it (a download, a cache), however long that takes."""
    turn = f"gantrain/turn/{next(_turns)}"
    with _in_touch():
        while _store is not None and rank() > 0 and not _store.check([turn]):
            time.sleep(POLL)
    try:
        yield
    finally:
        if _store is not None and rank() == 0:
            with _in_touch():
                _store.set(turn, "over")


@contextmanager
def _in_touch() -> Iterator[None]:
    """Around every message between ranks.

    Raises:
        LostRankError: It did not come through.
    """
    try:
        yield
    except RuntimeError as error:
        # out of memory, and the death of a data worker, of which Python hears wherever it is
        if isinstance(error, torch.OutOfMemoryError) or "DataLoader worker" in str(error):
            raise
        # without what gloo adds: where in its source that was, and what the cause might be
        reason = re.sub(r"^\[\S+\] | This is typically caused.*", "", str(error).strip().splitlines()[0])
        raise LostRankError(
            f"lost touch with the other processes: one has died, or can't be reached ({reason}); "
            f"{AGAIN} goes on from the newest checkpoint"
        ) from error


def average(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor, in place, by its mean over all ranks: one message for all of one dtype."""
    if not dist.is_initialized():
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        group = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in group])
        with _in_touch():
            dist.all_reduce(flat)
        flat /= world_size()
        for tensor, mean in zip(group, flat.split([tensor.numel() for tensor in group]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))


def all_gather_object(item: Any) -> list[Any]:
    """Every rank's ``item`` (its tensors on the CPU) in the order of ranks, on every rank."""
    if not dist.is_initialized():
        return [item]
    items: list[Any] = [None] * world_size()
    with _in_touch():
        dist.all_gather_object(items, item)
    return items


def all_max(number: int) -> int:
    """The highest of all ranks' numbers; every rank must ask."""
    return max(all_gather_object(number))


def say(message: str) -> None:
    """Print a line on stderr, on rank 0 alone."""
    if rank() == 0:
        print(message, file=sys.stderr)


def print_fatal_once(message: str) -> None:
    """Print to stderr, unless another rank has done so, and maybe of the same; before ranks have met, rank 0 does."""
    try:
        first = rank() == 0 if _store is None else _store.add(f"gantrain/spoken/{_runs}", 1) == 1
    except RuntimeError:  # the process that held the store is gone
        first = True
    if first:
        start = "\n" if rank() else ""  # rank 0 may be in the middle of its progress bar
        print(f"{start}{message}", file=sys.stderr)


def gather(item: Any) -> list[Any] | None:
    """Every rank's ``item`` (its tensors on the CPU) in the order of ranks, on rank 0; None on the others."""
    if not dist.is_initialized():
        return [item]
    items: list[Any] | None = [None] * world_size() if rank() == 0 else None
    with _in_touch():
        dist.gather_object(item, items)
    return items
