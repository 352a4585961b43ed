"""Streams of batches on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch

from gantrain.data.base import Batch, ImageDataset
from gantrain.data.stream import BatchStream

ON_CPU = {"device": torch.device("cpu"), "dtype": torch.float32, "channels_last": False}


def stream(dataset: ImageDataset, **keys: Any) -> BatchStream:
    """Batches of 5, by default."""
    return BatchStream(dataset, **{"batch_size": 5, "seed": 3, "num_workers": 0, **ON_CPU, **keys})


def batches(dataset: ImageDataset, num_workers: int, *, start: int = 0, count: int = 9, **keys: Any) -> Iterator[Batch]:
    """``count`` batches from number ``start`` on."""
    opened = stream(dataset, num_workers=num_workers, **keys)
    opened.position = start
    return islice(opened, count)
