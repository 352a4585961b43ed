"""Processes and ranks, and nothing else: a thin layer over ``torch.distributed``.

Every function also works in a run of one process, where it does the obvious thing.
"""

from __future__ import annotations

import atexit
import itertools
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

TIMEOUT = timedelta(minutes=30)  # of one message
POLL = 0.1  # seconds

_store: Any = None  # of torch's: where ranks leave each other notes, for as long as they like
_runs = 0  # of this process: the jobs of a sweep
_turns = itertools.count()


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
def first_alone() -> Iterator[None]:
    """Rank 0 goes through the block before the others enter it (a download, a cache), however long that takes."""
    turn = f"gantrain/turn/{next(_turns)}"
    while _store is not None and rank() > 0 and not _store.check([turn]):
        time.sleep(POLL)
    try:
        yield
    finally:
        if _store is not None and rank() == 0:
            _store.set(turn, "over")


def say_why_it_ends(message: str) -> None:
    """Print to stderr, unless another rank has done so, and maybe of the same; before ranks have met, rank 0 does."""
    try:
        first = rank() == 0 if _store is None else _store.add(f"gantrain/spoken/{_runs}", 1) == 1
    except RuntimeError:  # the process that held the store is gone, having said why
        return
    if first:
        start = "\n" if rank() else ""  # rank 0 may be in the middle of its progress bar
        print(f"{start}{message}", file=sys.stderr)


def has_spoken() -> bool:
    """Whether a rank has said why the run ends, so that the errors of the others, who miss it, say nothing more."""
    try:
        return _store is not None and _store.check([f"gantrain/spoken/{_runs}"])
    except RuntimeError:
        return True


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


def gather(item: Any) -> list[Any] | None:
    """Every rank's ``item`` (its tensors on the CPU) in the order of ranks, on rank 0; None on the others."""
    if not dist.is_initialized():
        return [item]
    items: list[Any] | None = [None] * world_size() if rank() == 0 else None
    dist.gather_object(item, items)
    return items


def end_with_parent() -> None:
    """End this process, too, once the one that has started it is gone: killed, it can't tell anybody to stop."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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
        )
        try:
            elastic_launch(launcher, sys.executable)("-m", "gantrain.train", str(path))
        except ChildFailedError as error:
            status = error.get_first_failure()[1].exitcode
            return status if status > 0 else 128 - status
        except SignalException as stop:
            if stop.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
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
