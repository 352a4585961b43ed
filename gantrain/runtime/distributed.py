"""Ranks and their messages: a thin layer over ``torch.distributed`` that also works with a single process."""

from __future__ import annotations

import atexit
import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from gantrain.errors import ConfigError
from gantrain.runtime import console
from gantrain.runtime.cluster.heartbeat import Heartbeat, connect, of_this_attempt
from gantrain.runtime.signals import LAUNCHER, follow_launcher

LOST = 3  # Exit status of a rank that ends because another one did.
TIMEOUT = timedelta(minutes=30)  # For one collective operation.
PATIENCE = 15.0  # Seconds that ranks wait for each other at the start before they say so.
# What launchers set, with the least and the largest value.
VARIABLES = {
    "WORLD_SIZE": (1, 1_000_000),
    "RANK": (0, 1_000_000),
    "LOCAL_RANK": (0, 1_000_000),
    "LOCAL_WORLD_SIZE": (1, 1_000_000),
    "MASTER_PORT": (0, 65_535),
}

_store: Any = None  # torch's key-value store, through which ranks can wait for each other without a timeout.
_heartbeat: Heartbeat | None = None  # Of runs on several machines.
_runs = 0  # The number of runs that this process has started; a sweep starts several.
_turns = itertools.count()


class LostRankError(ConfigError):
    """The connection to another rank is lost; this rank does not know why that one ended."""


def rank() -> int:
    """The global rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else _variable("RANK", 0)


def world_size() -> int:
    """The number of ranks; before ``join``, as the launcher (gantrain's or torchrun) has set it."""
    return dist.get_world_size() if dist.is_initialized() else _variable("WORLD_SIZE", 1)


def local_rank() -> int:
    """The rank of this process on its machine, which is the number of its GPU."""
    return _variable("LOCAL_RANK", 0)


def local_world_size() -> int:
    """The number of ranks on this machine."""
    return _variable("LOCAL_WORLD_SIZE", 1)


def _variable(name: str, default: int) -> int:
    """A number that a launcher has set; the default if it is none, which ``check_variables`` refuses."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default


def check_variables() -> None:
    """Refuse numbers of a launcher, or set by hand, that are none.

    Raises:
        ConfigError: There is such a variable.
    """
    for name, (least, most) in VARIABLES.items() if "WORLD_SIZE" in os.environ else ():
        value = os.environ.get(name)
        if value is not None and not (value.isdecimal() and least <= int(value) <= most):
            raise ConfigError(
                f"{name}={value}: set this variable to a whole number from {least} to {most}, or unset it"
            )


def join(device: torch.device) -> None:
    """Join the process group, once per process: the jobs of a sweep share it. Does nothing in a single process."""
    global _store, _runs, _heartbeat
    _runs += 1
    if world_size() > 1 and not dist.is_initialized():
        if "TORCHELASTIC_RUN_ID" in os.environ and LAUNCHER not in os.environ:
            follow_launcher()  # torchrun started this process; gantrain's own launcher is followed from the start.
        _check_variables()
        backend, device_id = ("nccl", device) if device.type == "cuda" else ("gloo", None)
        place = f"MASTER_ADDR={os.environ['MASTER_ADDR']} MASTER_PORT={os.environ['MASTER_PORT']}"
        waiting = f"Rank {rank()} of {world_size()} (RANK, WORLD_SIZE) is waiting for the others at {place}"
        notice = threading.Timer(PATIENCE, console.err, [waiting])
        notice.daemon = True
        notice.start()
        try:
            store, number, count = next(rendezvous("env://", timeout=TIMEOUT))
            _store = of_this_attempt(store)
            dist.init_process_group(
                backend, store=_store, rank=number, world_size=count, timeout=TIMEOUT, device_id=device_id
            )
        except RuntimeError as error:
            raise ConfigError(f"the ranks did not meet at {place}: {_reason(error)}") from error
        finally:
            notice.cancel()
        if local_world_size() < count:
            _heartbeat = Heartbeat(connect(), rank=number, world_size=count, lost=_end)
            _heartbeat.start()
        atexit.register(leave)


def _check_variables() -> None:
    """Refuse variables of a launcher, or set by hand, from which no process group can be made."""
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "RANK") if name not in os.environ]
    if missing:
        raise ConfigError(f"WORLD_SIZE={os.environ['WORLD_SIZE']} is set, but not {' and '.join(missing)}")
    if not 0 <= rank() < world_size():
        raise ConfigError(f"RANK={rank()} must be from 0 to WORLD_SIZE - 1 = {world_size() - 1}")


def _end(reason: str) -> None:
    """End this rank, which may wait for another one in a collective operation."""
    console.err(*f"\ngantrain: {_lost(reason)}".split("\n"))
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(LOST)


def leave() -> None:
    """Leave the process group at the end of the process."""
    if _heartbeat is not None:
        _heartbeat.stop()
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Rank 0 runs the block (a download, a cache) before the other ranks enter it, however long that takes."""
    turn = f"gantrain/turn/{next(_turns)}"
    with _lost_rank_errors():
        while _store is not None and rank() > 0 and not _store.check([turn]):
            time.sleep(0.1)
    try:
        yield
    finally:
        if _store is not None and rank() == 0:
            with _lost_rank_errors():
                _store.set(turn, "over")


@contextmanager
def _lost_rank_errors() -> Iterator[None]:
    """Raise a failure of communication as ``LostRankError``."""
    try:
        yield
    except RuntimeError as error:
        # Neither is a failure of communication; Python may report the death of a data worker at any point.
        if isinstance(error, torch.OutOfMemoryError) or "DataLoader worker" in str(error):
            raise
        raise LostRankError(_lost(f"one of them died or is unreachable ({_reason(error)})")) from error


def _lost(why: str) -> str:
    return f"lost connection to the other ranks: {why}; run the same command to resume from the newest checkpoint"


def _reason(error: RuntimeError) -> str:
    """The first line, without the source location and the guesses about the cause that gloo adds."""
    return re.sub(r"^\[\S+\] | This is typically caused.*", "", str(error).strip().splitlines()[0])


def is_joined() -> bool:
    """Whether this process has joined the group of several ranks."""
    return dist.is_initialized()


def start_sum(tensor: Tensor) -> Callable[[], None]:
    """Start to replace a tensor, in place, by its sum over all ranks; returns what waits until it is."""
    with _lost_rank_errors():
        work = dist.all_reduce(tensor, async_op=True)

    def wait() -> None:
        with _lost_rank_errors():
            work.wait()

    return wait


def average(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor, in place, by its mean over all ranks, with one message per dtype."""
    if not dist.is_initialized():
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        group = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in group])
        with _lost_rank_errors():
            dist.all_reduce(flat)
        flat /= world_size()
        for tensor, mean in zip(group, flat.split([tensor.numel() for tensor in group]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))


def broadcast(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor, in place, by that of rank 0."""
    if dist.is_initialized():
        for tensor in tensors:
            with _lost_rank_errors():
                dist.broadcast(tensor, src=0)


def all_gather_object(item: Any) -> list[Any]:
    """The ``item`` of every rank (tensors on the CPU), by rank, on every rank."""
    if not dist.is_initialized():
        return [item]
    items: list[Any] = [None] * world_size()
    with _lost_rank_errors():
        dist.all_gather_object(items, item)
    return items


def gather_object(item: Any) -> list[Any] | None:
    """The ``item`` of every rank (tensors on the CPU), by rank, on rank 0; None on the other ranks."""
    if not dist.is_initialized():
        return [item]
    items: list[Any] | None = [None] * world_size() if rank() == 0 else None
    with _lost_rank_errors():
        dist.gather_object(item, items)
    return items


def print_rank_zero(message: str) -> None:
    """Print a line on stderr, on rank 0 only."""
    if rank() == 0:
        console.err(message)


def print_fatal_once(message: str) -> None:
    """Print an error on stderr unless another rank has printed one; before ranks have joined, only rank 0 does."""
    try:
        is_first = not 0 < rank() < world_size() if _store is None else _store.add(f"gantrain/fatal/{_runs}", 1) == 1
    except RuntimeError:  # The process that hosts the store is gone.
        is_first = True
    if is_first:
        start = "\n" if rank() and _store is not None else ""  # Rank 0 may have an unfinished progress bar on the line.
        console.err(*f"{start}{message}".split("\n"))
