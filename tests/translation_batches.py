"""Batches for tests of models that translate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tiny import translation_batches
from tiny_keys import IMAGES
from torch import Tensor

from gantrain.data.base import IMAGE_KEYS, Batch


def batches_for(name: str, size: int = 2, **keys: Any) -> Iterator[Batch]:
    return translation_batches(size, **({"spec": IMAGES} if name == "colorization" else {}), **keys)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def part(batch: Batch, places: Sequence[int]) -> Batch:
    return {
        key: value[list(places)] if key in IMAGE_KEYS else [value[place] for place in places]
        for key, value in batch.items()
    }
