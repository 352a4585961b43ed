"""Made-up features of images."""

from __future__ import annotations

import torch

from gantrain.metrics.base import Extracted

DIM, CLASSES = 24, 7


def extracted(count: int, seed: int) -> Extracted:
    """Correlated features of ``count`` images, float32, around a center that depends on the seed, and logits."""
    draws = torch.Generator().manual_seed(seed)
    mixing = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(0)) / DIM**0.5
    features = torch.randn(count, DIM, generator=draws) @ mixing + 0.3 * torch.randn(DIM, generator=draws)
    return Extracted(features, logits=3 * torch.randn(count, CLASSES, generator=draws))
