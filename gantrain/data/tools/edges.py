"""Edge images from photographs."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch.nn import functional as F

from gantrain.data.images.store import Pixels

Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

# the neighbours across an edge, (down, right), for a gradient that points right, down right, down, down left
ACROSS = ((0, 1), (1, 1), (1, 0), (1, -1))


def canny(gray: Pixels, *, sigma: float, low: float, high: float) -> Mask:
    """Where a gray image has edges, one pixel wide.

    Canny, "A Computational Approach to Edge Detection" (1986): a Gaussian blur, Sobel's gradient, its local maxima
    across the edge, and of these the strong ones with all weaker ones that hang together with them.

    Args:
        gray: (H, W) in [0, 1].
        sigma: Of the blur, in pixels.
        low: The weakest gradient of an edge: the length of the vector of Sobel's two sums, which at a sharp vertical
            step from black to white is 4.
        high: The gradient that some pixel of each edge must have.
    """
    image = torch.from_numpy(np.ascontiguousarray(gray, dtype=np.float32))[None, None]
    down, right = _sobel(_blurred(image, sigma))
    strength = torch.hypot(down, right).numpy()
    thin = _is_ridge(strength, down.numpy(), right.numpy())
    return _connected(thin & (strength >= low), thin & (strength >= high))


def _blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """(1, 1, H, W); beyond the border the image goes on as its last pixel."""
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = weights / weights.sum()
    padded = F.pad(image, (radius, radius, radius, radius), mode="replicate")
    return F.conv2d(F.conv2d(padded, weights[None, None, :, None]), weights[None, None, None, :])


def _sobel(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient downwards and to the right, (H, W) each."""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    down, right = F.conv2d(padded, torch.stack([kernel.T, kernel])[:, None])[0]
    return down, right


def _is_ridge(strength: Pixels, down: Pixels, right: Pixels) -> Mask:
    """Where no neighbour across the edge is stronger; of two equal ones, the first."""
    sector = np.round(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 4
    padded = np.pad(strength, 1)
    height, width = strength.shape
    ridge = np.zeros(strength.shape, dtype=bool)
    for number, (dy, dx) in enumerate(ACROSS):
        ahead = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        behind = padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        ridge |= (sector == number) & (strength >= ahead) & (strength > behind)
    return ridge


def _connected(weak: Mask, strong: Mask) -> Mask:
    """The pixels of ``weak`` from which a way through such pixels, corners included, leads to one of ``strong``."""
    allowed, kept = np.pad(weak, 1), np.pad(strong, 1)
    row = allowed.shape[1]
    around = np.array([dy * row + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    flat_allowed, flat_kept = allowed.reshape(-1), kept.reshape(-1)
    reached = np.flatnonzero(flat_kept)
    while reached.size:
        beside = np.unique(reached[:, None] + around)
        reached = beside[flat_allowed[beside] & ~flat_kept[beside]]
        flat_kept[reached] = True
    return kept[1:-1, 1:-1]
