"""How many processes decode images, and what to change where they are too slow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gantrain.data.base import ImageDataset
from gantrain.runtime import distributed
from gantrain.runtime.parallel import available_cores

TINY_SET = 1000  # fewer items, each of no more pixels than below, are read before workers have started
TINY_IMAGE = 64 * 64
MOST_WORKERS = 8  # more mostly wait for the disk and for each other


def good_number_of_workers(dataset: ImageDataset) -> int:
    """One for each core that this process has to itself but the one it trains on, from 1 to 8.

    None for data sets in memory or in a cache, for tiny ones (fewer than 1,000 items of at most 64 x 64 pixels), and
    where there is only one core.
    """
    tiny = len(dataset) < TINY_SET and dataset.spec.height * dataset.spec.width <= TINY_IMAGE
    if dataset.in_memory or tiny:
        return 0
    cores = available_cores()
    return max(min(1, cores - 1), min(MOST_WORKERS, cores // distributed.local_world_size() - 1))


def batches_ahead(workers: int) -> int:
    """Batches that each worker prepares in advance: two, but four in all, for models that draw several at once."""
    return max(2, 4 // workers)


def advice(data: Mapping[str, Any], dataset: ImageDataset, workers: int) -> str:
    """What to change where data is waited for; empty if it is in memory already, or if there is nothing to change.

    Args:
        data: The keys under ``data``, as configured.
        dataset: What they made.
        workers: How many there are.
    """
    if dataset.in_memory:
        return ""
    cores = available_cores()
    better = min(MOST_WORKERS, cores // distributed.local_world_size())
    ways = []
    if better > workers:
        ways.append(f"data.num_workers={better} (now {workers}; this process may use {cores} cores)")
    cache = data.get("cache", "disk")
    if cache != "disk":  # auto has found no room, or too little to decode
        room = "" if cache in ("off", False) else " where there is room,"
        ways.append(f"data.cache=disk,{room} which decodes every image only once")
    if data.get("decoder") == "exact":
        ways.append("data.decoder=fast, which scales images in a third of the time")
    return ", or ".join(ways)
