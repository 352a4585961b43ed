"""Checks of the tensors that users give to a model, whose errors say what is wanted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gantrain.errors import ConfigError


def check_latents(latent: Any, size: int, dtype: torch.dtype) -> None:
    """Refuse anything but (N, size) of the type ``dtype``."""
    if not isinstance(latent, Tensor) or latent.dim() != 2 or latent.size(1) != size or latent.dtype != dtype:
        raise ConfigError(
            f"sample: expected latents (N, {size}) as {dtype}, like latents(N, seed=0), got {_is(latent)}"
        )


def check_labels(labels: Any, count: int, classes: int) -> None:
    """Refuse anything but (count,) integers below ``classes``."""
    wanted = f"sample: expected labels ({count},) as torch.int64 in 0 to {classes - 1}"
    if not isinstance(labels, Tensor) or labels.shape != (count,) or labels.dtype not in (torch.int64, torch.int32):
        raise ConfigError(f"{wanted}, got {_is(labels)}")
    if count and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ConfigError(f"{wanted}, got {int(labels.min())} to {int(labels.max())}")


def check_images(images: Any, channels: int | None, dtype: torch.dtype | None) -> None:
    """Refuse anything but (N, channels, height, width) of the type ``dtype``; either may be unknown (None)."""
    fits = isinstance(images, Tensor) and images.dim() == 4 and images.size(1) == (channels or images.size(1))
    if not fits or images.dtype != (dtype or images.dtype) or 0 in images.shape[-2:]:
        wanted = f"(N, {channels or 'C'}, height, width) as {dtype or torch.float32} in [-1, 1]"
        raise ConfigError(f"translate: expected images {wanted}, got {_is(images)}")


def _is(value: Any) -> str:
    return f"{tuple(value.shape)} as {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
