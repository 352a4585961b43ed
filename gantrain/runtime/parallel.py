"""Parallel work: on many files, in threads; and the number of threads that torch computes with on the CPU."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median
from typing import TypeVar

import torch
from torch.nn import functional as F

from gantrain.runtime import console

T = TypeVar("T")
R = TypeVar("R")

MAX_THREADS = 16  # Decoders and compressors release the GIL, but more of them mostly wait for it.

PROBE_ROUNDS = 5
EFFICIENCY = 0.65  # Several threads are used if they are so many times their number times as fast as one.


def available_cores() -> int:
    """Number of cores that this process may use, which a batch system or a container may restrict."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parallel(function: Callable[[T], R], items: Iterable[T], *, total: int, label: str) -> Iterator[R]:
    """Yield the results of ``function`` for all items, in their order; the first error ends it.

    The function is called in threads; items are consumed in the calling thread, as they are needed. The progress bar
    has a label and the total number of items.
    """
    threads = min(MAX_THREADS, available_cores())
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        with console.bar(label, total=total, unit="file", leave=False, disable=None) as bar:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
                    bar.update()
            while waiting:
                yield waiting.popleft().result()
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)


def faster_threads(most: int) -> int:
    """The largest number of threads, up to ``most``, that compute efficiently now; measured in about 0.2 seconds.

    On a machine that is busy with other work, several threads wait for the slowest of them: they can take several times
    as long as one. The number of torch's threads is left as it was.
    """
    candidates = [1]
    while candidates[-1] < most:
        candidates.append(min(most, 2 * candidates[-1]))
    before, images, weights = torch.get_num_threads(), torch.randn(16, 32, 32, 32), torch.randn(32, 32, 3, 3)
    weights.requires_grad_()
    seconds: dict[int, list[float]] = {count: [] for count in candidates}
    try:
        for _ in range(PROBE_ROUNDS):
            for count in candidates:
                torch.set_num_threads(count)
                start = time.perf_counter()
                for _ in range(2):
                    F.conv2d(images, weights, padding=1).sum().backward()
                seconds[count].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    speed = {count: 1 / median(times) for count, times in seconds.items()}
    return max(count for count in candidates if count == 1 or speed[count] >= EFFICIENCY * count * speed[1])
