"""Streams of batches on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch

from gantrain.config.schema import construct
from gantrain.data.base import Batch, ImageDataset
from gantrain.data.stream import BatchStream


def stream(dataset: ImageDataset, **keys: Any) -> BatchStream:
    """Batches of 4, by default; keys of the configuration are checked as in a run."""
    runtime = {"seed": 3, "device": torch.device("cpu"), "dtype": torch.float32, "channels_last": False}
    keys = {"batch_size": 4, "num_workers": 0, **runtime, **keys}
    config = {key: keys.pop(key) for key in ("batch_size", "num_workers", "on_error") if key in keys}
    return construct(BatchStream, config, key="data", dataset=dataset, **keys)


def batches(dataset: ImageDataset, *, start: int = 0, count: int = 9, **keys: Any) -> Iterator[Batch]:
    """``count`` batches, of 5 by default, from number ``start`` on."""
    opened = stream(dataset, **{"batch_size": 5, **keys})
    opened.position = start
    return islice(opened, count)
