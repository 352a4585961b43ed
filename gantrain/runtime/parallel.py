"""The same work on many files: several at once, results in order, a progress bar, constant memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
R = TypeVar("R")

MOST_THREADS = 16  # decoders and compressors release Python's lock; beyond, it is what they wait for


def available_cores() -> int:
    """Cores that this process may run on: under a batch system or in a container, not all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_parallel(function: Callable[[T], R], items: Iterable[T], *, total: int, label: str) -> Iterator[R]:
    """What ``function`` makes of each item, in their order; the first error ends it.

    Args:
        function: Called in threads.
        items: Taken as they are needed, from the calling thread.
        total: How many there are.
        label: Of the progress bar.
    """
    threads = min(MOST_THREADS, available_cores())
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        with tqdm(total=total, desc=label, unit="file", leave=False, disable=None) as bar:
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
