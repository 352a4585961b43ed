"""Parallel work on many files, with results in order, a progress bar and constant memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from gantrain.runtime import console

T = TypeVar("T")
R = TypeVar("R")

MAX_THREADS = 16  # Decoders and compressors release the GIL, but more of them mostly wait for it.


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
