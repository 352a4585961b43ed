"""Geometric operations of adaptive augmentation: exact copies of pixels, and resampling without aliasing.

Beyond its edges, an image is mirrored as often as necessary.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

# The low-pass filter of the orthogonal wavelet sym6 (Daubechies 1992, "Ten Lectures on Wavelets"), with the sum 1.
SYM6 = (
    *(0.01089235016328, 0.00246830618592, -0.08343160770584, -0.03416156079324, 0.34722898647835, 0.55694639196396),
    *(0.23895218566605, -0.0513624849309, -0.01489187564922, 0.03162528132994, 0.00124996104639, -0.00551593375469),
)
BEYOND = 5  # Samples on either side of the upsampled image that the filter also reads.


def copied(images: Tensor, flip: Tensor, quarters: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Images with their pixels at other places: mirrored, then turned, then shifted.

    Args:
        images: (N, C, H, W).
        flip: (N,), whether left and right are exchanged.
        quarters: (N,), the number of quarter turns counterclockwise; even for images that are not square.
        right: (N,), the shift in whole pixels; negative to the left.
        down: (N,).
    """
    height, width = images.shape[-2:]
    flip, quarters, right, down = (each.long()[:, None, None] for each in (flip, quarters, right, down))
    y = _mirrored(torch.arange(height, device=images.device)[:, None] - down, height)
    x = _mirrored(torch.arange(width, device=images.device) - right, width)
    rows, columns = (torch.where(quarters % 2 == 1, one, other) for one, other in ((x, y), (y, x)))
    rows = torch.where(quarters >= 2, height - 1 - rows, rows)
    is_reversed = ((quarters == 1) | (quarters == 2)) ^ (flip == 1)
    columns = torch.where(is_reversed, width - 1 - columns, columns)
    places = (rows * width + columns).flatten(1)[:, None]
    return images.flatten(2).gather(2, places.expand(-1, images.size(1), -1)).view_as(images)


def resampled(images: Tensor, linear: Tensor, offset: Tensor) -> Tensor:
    """Images that show at each place what was at ``linear @ place + offset``, in pixels from the center, x before y.

    Images are upsampled to twice their sides, interpolated bilinearly, and downsampled, with the low-pass filter of an
    orthogonal wavelet both times (Karras et al. 2020, arXiv:2006.06676, appendix B).

    Args:
        images: (N, C, H, W).
        linear: (N, 2, 2).
        offset: (N, 2).
    """
    (up_y, down_y), (up_x, down_x) = (_filters(side, images.dtype, images.device) for side in images.shape[-2:])
    fine = up_y @ images @ up_x.T
    x, y = (_samples(side, images) for side in (images.size(-1), images.size(-2)))
    columns, rows = (
        linear[:, axis, 0, None, None] * x + linear[:, axis, 1, None, None] * y[:, None] + offset[:, axis, None, None]
        for axis in (0, 1)
    )
    height, width = images.shape[-2:]
    return down_y @ _interpolated(fine, 2 * rows + height - 0.5, 2 * columns + width - 0.5) @ down_x.T


def _interpolated(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Periodic images (N, C, H, W) at rows and columns (N, H', W'): (N, C, H', W')."""
    (top, bottom, below), (left, right, beside) = (
        _neighbours(place, side) for place, side in ((rows, images.size(-2)), (columns, images.size(-1)))
    )
    corners = [row * images.size(-1) + column for row in (top, bottom) for column in (left, right)]
    shares = [row * column for row in (1 - below, below) for column in (1 - beside, beside)]
    places = torch.stack(corners, dim=1).flatten(1)[:, None].expand(-1, images.size(1), -1)
    values = images.flatten(2).gather(2, places).view(*images.shape[:2], 4, *rows.shape[1:])
    return (values * torch.stack(shares, dim=1)[:, None]).sum(dim=2)


def _neighbours(places: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """The indices of the samples before and after each place, and the share of the latter."""
    before = places.floor()
    index = before.long()
    return index % side, (index + 1) % side, places - before


def _samples(side: int, images: Tensor) -> Tensor:
    """(2 * (side + BEYOND),): where the samples of an upsampled image are, in pixels from the center."""
    count = 2 * (side + BEYOND)
    return (torch.arange(count, dtype=images.dtype, device=images.device) - (count - 1) / 2) / 2


def _mirrored(places: Tensor, side: int) -> Tensor:
    """Indices in [0, side) for any, by mirroring at the edges as often as necessary."""
    places = places % (2 * side)
    return torch.minimum(places, 2 * side - 1 - places)


@lru_cache(maxsize=16)
def _filters(side: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Matrices that upsample and downsample one side of an image.

    The first, (4 * side, side), returns a period of the samples of the mirrored image, which begins with those of the
    image. The second, (side, 2 * (side + BEYOND)), takes samples of the image and ``BEYOND`` others on either side.
    """
    taps = torch.tensor(SYM6, dtype=torch.float64)
    numbers = torch.arange(len(SYM6))
    up, down = torch.zeros(4 * side, side).double(), torch.zeros(side, 2 * (side + BEYOND)).double()
    samples = torch.arange(4 * side)[:, None]
    sources = samples + BEYOND - numbers  # Zeros between the pixels.
    values = torch.where(sources % 2 == 0, 2 * taps, 0)
    places = _mirrored(sources.div(2, rounding_mode="floor"), side)
    up.index_put_((samples.expand_as(places), places), values, accumulate=True)
    pixels = torch.arange(side)[:, None]
    down[pixels, 2 * pixels + numbers] = taps
    return up.to(device, dtype), down.to(device, dtype)
