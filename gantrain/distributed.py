"""Processes and ranks, and nothing else: a thin layer over ``torch.distributed``.

Every function also works in a run of one process, where it does the obvious thing.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gantrain.interruption import SIGNALS

SAVING = 600  # seconds that ranks have to save and end, once they are told to stop


def ranks_are_here() -> bool:
    """Whether somebody (gantrain, torchrun) has already started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


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
    if ranks_are_here() and not dist.is_initialized():
        on_gpu = device.type == "cuda"
        backend = "nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=30), device_id=device if on_gpu else None)
        atexit.register(leave)


def leave() -> None:
    """Part from the other ranks at the end of the process."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def first_alone() -> Iterator[None]:
    """Rank 0 goes through the block before the others enter it (a download, an unpacking)."""
    if dist.is_initialized() and rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if dist.is_initialized() and rank() == 0:
            dist.barrier()


def average(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor, in place, by its mean over all ranks: one message for all of one dtype."""
    if not dist.is_initialized():
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        group = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in group])
        dist.all_reduce(flat)
        flat /= world_size()
        for tensor, mean in zip(group, flat.split([tensor.numel() for tensor in group]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))


def highest(number: int) -> int:
    """The highest of all ranks' numbers; every rank must ask."""
    if not dist.is_initialized():
        return number
    numbers: list[int] = [0] * world_size()
    dist.all_gather_object(numbers, number)
    return max(numbers)


def say(message: str) -> None:
    """Print a line on stderr, on rank 0 alone."""
    if rank() == 0:
        print(message, file=sys.stderr)


def gather(item: Any) -> list[Any] | None:
    """Every rank's ``item`` (its tensors on the CPU) in the order of ranks, on rank 0; None on the others."""
    if not dist.is_initialized():
        return [item]
    items: list[Any] | None = [None] * world_size() if rank() == 0 else None
    dist.gather_object(item, items)
    return items


def launch(job: dict[str, Any], processes: int) -> int:
    """Run ``job`` on several processes of this machine with torch's elastic launcher (what ``torchrun`` runs).

    The workers read the composed configuration from a file, so that no worker parses a command line again.

    Args:
        job: What ``gantrain.train.worker`` expects, as plain values.
        processes: How many to start.

    Returns:
        The first non-zero exit status of a worker, or 0.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # a worker has said what went wrong, and torch's table of failures would bury its line
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)), **os.environ}
    with tempfile.TemporaryDirectory(prefix="gantrain-") as folder, _environment(environment):
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job))
        launcher = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="gantrain",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            signals_to_handle=",".join(number.name for number in SIGNALS),
            shutdown_timeout=SAVING,
        )
        try:
            elastic_launch(launcher, sys.executable)("-m", "gantrain.train", str(path))
        except ChildFailedError as error:
            status = error.get_first_failure()[1].exitcode
            return status if status > 0 else 128 - status
        except SignalException as stop:
            return 128 + stop.sigval
    return 0


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
