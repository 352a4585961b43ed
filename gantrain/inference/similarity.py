"""How alike two images are, in figures that papers report. All take (N, C, H, W) in [0, 1] and give (N,) in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 11  # pixels, of SSIM
SIGMA = 1.5
K1, K2 = 0.01, 0.03


def l1_distance(one: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (one.double() - other.double()).abs().flatten(1).mean(1)


def psnr(one: Tensor, other: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, infinite for equal images."""
    error = (one.double() - other.double()).square().flatten(1).mean(1)
    return -10 * torch.log10(error)


def ssim(one: Tensor, other: Tensor) -> Tensor | None:
    """Structural similarity, at most 1, the mean over places and channels; None for images smaller than its window.

    Wang et al. 2004 ("Image quality assessment: from error visibility to structural similarity"), section III: Gaussian
    windows of 11 pixels and a standard deviation of 1.5, which lie wholly inside the image.
    """
    if min(one.shape[-2:]) < WINDOW:
        return None
    x, y = one.double(), other.double()
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x.square()
    variance_y = _blurred(y * y) - mean_y.square()
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    alike = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    found = alike / ((mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2))
    return found.flatten(1).mean(1)


def _blurred(images: Tensor) -> Tensor:
    """Means under the window, wherever it fits, of each channel."""
    offsets = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * SIGMA**2))
    weights = weights / weights.sum()
    channels = images.flatten(0, 1)[:, None]
    rows = F.conv2d(channels, weights.view(1, 1, 1, -1))
    return F.conv2d(rows, weights.view(1, 1, -1, 1)).view(
        *images.shape[:2], *(side - WINDOW + 1 for side in images.shape[2:])
    )
