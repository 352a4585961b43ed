"""How many processes decode images, and what to change where they are too slow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gantrain.data.base import ImageDataset
from gantrain.runtime import distributed
from gantrain.runtime.parallel import available_cores

TINY_SET = 1000  # Fewer items, of at most as many pixels as below, are read before workers have started.
TINY_IMAGE = 64 * 64
MAX_WORKERS = 8  # More of them mostly wait for the disk and for each other.


def good_number_of_workers(dataset: ImageDataset) -> int:
    """One for each core of this process except the one that trains, from 1 to 8.

    None for data sets in memory or in a cache, for tiny ones (fewer than 1,000 items of at most 64 x 64 pixels), and
    where there is only one core.
    """
    tiny = len(dataset) < TINY_SET and dataset.spec.height * dataset.spec.width <= TINY_IMAGE
    if dataset.in_memory or tiny:
        return 0
    cores = available_cores()
    return max(min(1, cores - 1), min(MAX_WORKERS, cores // distributed.local_world_size() - 1))


def batches_ahead(workers: int) -> int:
    """Batches that each worker prefetches: two, but four in all for models that draw several at once."""
    return max(2, 4 // workers)


def advice(data: Mapping[str, Any], dataset: ImageDataset, workers: int) -> str:
    """What to change when training waits for data; empty if the data is in memory or nothing would help.

    Args:
        data: The keys under ``data``, as configured.
        dataset: The data set built from them.
        workers: Number of worker processes.
    """
    if dataset.in_memory:
        return ""
    cores = available_cores()
    better = min(MAX_WORKERS, cores // distributed.local_world_size())
    ways = []
    if better > workers:
        ways.append(f"data.num_workers={better} (now {workers}; this process may use {cores} cores)")
    if data.get("decode_device") == "cuda":  # Of the keys below, none applies.
        return ", or ".join(ways)
    cache = data.get("cache", "disk")
    if cache != "disk":  # With auto, there was too little space or too little to decode.
        space = "" if cache in ("off", False) else " if there is space,"
        ways.append(f"data.cache=disk,{space} which decodes every image only once")
    if data.get("decoder") == "exact":
        ways.append("data.decoder=fast, which scales images in a third of the time")
    return ", or ".join(ways)
