"""Similarity of pairs of images. All metrics take (N, C, H, W) in [0, 1] and return (N,) in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 11  # Pixels.
SIGMA = 1.5


def l1_distance(one: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (one.double() - other.double()).abs().flatten(1).mean(1)


def psnr(one: Tensor, other: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, infinite for equal images."""
    return -10 * (one.double() - other.double()).square().flatten(1).mean(1).log10()


def ssim(one: Tensor, other: Tensor) -> Tensor | None:
    """Structural similarity, at most 1, averaged over positions and channels; None for images smaller than its window.

    Wang et al. 2004 ("Image quality assessment: from error visibility to structural similarity"), section III: Gaussian
    windows of 11 pixels and a standard deviation of 1.5, at the positions where they are entirely inside the image.
    """
    if min(one.shape[-2:]) < WINDOW:
        return None
    x, y = one.double(), other.double()
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x.square()
    variance_y = _blur(y * y) - mean_y.square()
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2  # The squares of K1 and K2 in the paper.
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    ratio = numerator / ((mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2))
    return ratio.flatten(1).mean(1)


def _blur(images: Tensor) -> Tensor:
    """Each channel filtered with the Gaussian window, without padding."""
    offsets = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * SIGMA**2))
    weights = weights / weights.sum()
    rows = F.conv2d(images.flatten(0, 1)[:, None], weights.view(1, 1, 1, -1))
    return F.conv2d(rows, weights.view(1, 1, -1, 1)).unflatten(0, images.shape[:2]).squeeze(2)
