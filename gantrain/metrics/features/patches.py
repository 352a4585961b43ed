"""Descriptors of images that need no weights: patches of a Laplacian pyramid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gantrain.errors import ConfigError
from gantrain.metrics.base import Features

COARSEST = 16  # Pixels of the shorter side of the last level, at least.
PRIME = 2**31 - 1


class Patches(Features):
    """Square patches of each level of the Laplacian pyramid of an image.

    Burt and Adelson 1983, doi:10.1109/TCOM.1983.1095851. A level is the difference of the image and its blurred and
    halved version, the last one is what remains. Where an image has its patches depends on its pixels alone, so equal
    images have equal patches.

    Args:
        shape: Channels, height and width of all images.
        count: The number of patches of each level of an image.
        size: Their side in pixels.
        limit: The largest number of images of each kind.
    """

    factors: Tensor  # (levels, 2, count), which make random rows and columns of a number.
    pixel_factors: Tensor  # (C, H, W), which make a number of an image.

    def __init__(self, shape: tuple[int, int, int], *, count: int, size: int, limit: int) -> None:
        super().__init__()
        self.channels, *sides = shape
        self.levels = 1
        while min(sides) // 2**self.levels >= COARSEST:
            self.levels += 1
        self.count, self.size, self.limit = count, size, limit
        self.dim = self.levels * count * self.channels * size**2
        self.identity = f"patches {count} of {size} x {size} in at most {limit} images"
        draws = torch.Generator().manual_seed(0)
        self.register_buffer("factors", torch.randint(1, PRIME, (self.levels, 2, count), generator=draws))
        self.register_buffer("pixel_factors", torch.randint(1, PRIME, shape, generator=draws))

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        if images.shape[1:] != self.pixel_factors.shape:
            sizes = " and ".join(
                f"{height} x {width}" for height, width in (images.shape[2:], self.pixel_factors.shape[1:])
            )
            raise ConfigError(f"patches are compared of images of one size, not of {sizes}: give size=N")
        hashes = (images * self.pixel_factors).flatten(1).sum(dim=1) % PRIME
        maps = images.float()
        parts: list[Tensor] = []
        for factors in self.factors:
            following = _blurred(maps)[..., ::2, ::2] if len(parts) < self.levels - 1 else None
            level = maps if following is None else maps - _enlarged(following, maps)
            parts.append(self._patches(level, hashes[:, None, None] * factors % PRIME).flatten(1))
            maps = following if following is not None else maps
        return torch.cat(parts, dim=1), None

    def _patches(self, level: Tensor, numbers: Tensor) -> Tensor:
        """Patches (N, count, C, size, size) of a level (N, C, H, W) at random ``numbers`` (N, 2, count)."""
        inside = torch.arange(self.size, device=level.device)
        rows, columns = (
            numbers[:, axis, :, None] % (level.shape[2 + axis] - self.size + 1) + inside for axis in (0, 1)
        )
        image = torch.arange(len(level), device=level.device)[:, None, None, None]
        return level.movedim(1, 3)[image, rows[..., :, None], columns[..., None, :]].movedim(4, 2)


def _blurred(maps: Tensor) -> Tensor:
    """Maps (N, C, H, W) under the binomial filter of 5 x 5, mirrored at the edges."""
    maps = F.pad(maps, (2, 2, 2, 2), mode="reflect")
    for axis in (2, 3):
        a, b, c, d, e = (maps.narrow(axis, start, maps.shape[axis] - 4) for start in range(5))
        maps = (a + e + 4 * (b + d) + 6 * c) / 16
    return maps


def _enlarged(maps: Tensor, like: Tensor) -> Tensor:
    """Maps of half the size of ``like``, enlarged to it."""
    spread = torch.zeros_like(like)
    spread[..., ::2, ::2] = maps
    return 4 * _blurred(spread)
