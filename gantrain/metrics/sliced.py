"""The sliced Wasserstein distance of patches: SWD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gantrain.config.schema import PositiveInt, Range, RepeatCount
from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted, FeatureMetric, Features, Shape, spaced
from gantrain.metrics.features.patches import Patches
from gantrain.registry import METRICS

PatchSize: TypeAlias = Annotated[int, Range(at_least=1, at_most=16)]
AT_ONCE = 32  # Directions.


@METRICS.register("swd")
class SlicedWasserstein(FeatureMetric):
    """The sliced Wasserstein distance of patches of images, times 1000, averaged over the levels of a pyramid.

    Karras et al. 2018, arXiv:1710.10196, section 5. Each channel of each level is normalised by its mean and standard
    deviation over all patches of its kind. It needs no weights, and images of any kind. As many generated as real
    images are compared.

    Args:
        patches: The number of patches of each level of an image.
        patch_size: Their side in pixels.
        directions: The number of random directions.
        images: The largest number of images of each kind.
    """

    higher_is_better = {"swd": False}
    needs_features = False

    def __init__(
        self, *, patches: RepeatCount, patch_size: PatchSize, directions: RepeatCount, images: PositiveInt
    ) -> None:
        self.patches = patches
        self.patch_size = patch_size
        self.directions = directions
        self.images = images

    def prepare(self, shape: Shape) -> None:
        self.own = Patches(shape, count=self.patches, size=self.patch_size, limit=self.images)

    def check(self, features: Features | None, shape: Shape, *, generated: int, real: int) -> None:
        _, height, width = shape
        if min(height, width) < max(3, self.patch_size):
            raise ConfigError(
                f"metrics.swd.patch_size={self.patch_size} needs images as large, and of 3 x 3 pixels or more, not "
                f"{height} x {width}"
            )

    def compute(self, generated: Extracted, real: Extracted, *, seed: int) -> dict[str, float]:
        assert isinstance(self.own, Patches)
        count, patch = min(len(generated), len(real)), self.own.channels * self.own.size**2
        directions = torch.from_numpy(np.random.RandomState(seed).standard_normal((patch, self.directions)))
        directions /= directions.norm(dim=0)
        fake, true = (self._levels(each, count) for each in (generated, real))
        distances = [_distance(_normalised(a), _normalised(b), directions) for a, b in zip(fake, true, strict=True)]
        return {"swd": 1000 * sum(distances) / len(distances)}

    def _levels(self, images: Extracted, count: int) -> Iterator[Tensor]:
        """The patches (P, C, size^2) of ``count`` of the images, for each level."""
        assert isinstance(self.own, Patches)
        chosen = images.features[spaced(len(images), count)].view(count, self.own.levels, -1)
        for level in range(self.own.levels):
            yield chosen[:, level].reshape(-1, self.own.channels, self.own.size**2).double().cpu()


def _normalised(patches: Tensor) -> Tensor:
    """Patches (P, C, size^2) as rows (P, C * size^2) float32, each channel with mean 0 and standard deviation 1."""
    deviation, mean = torch.std_mean(patches, dim=(0, 2), correction=0, keepdim=True)
    return ((patches - mean) / torch.where(deviation > 0, deviation, 1)).flatten(1).float()


def _distance(one: Tensor, other: Tensor, directions: Tensor) -> float:
    """The mean over directions (D, K) of the Wasserstein distance of rows (P, D) along each."""
    total = 0.0
    for chosen in directions.T.float().split(AT_ONCE):  # Sorting float64 takes several times as long.
        a, b = (np.sort((chosen @ rows.T).numpy()) for rows in (one, other))
        total += float(np.abs(a - b).mean(axis=1, dtype=np.float64).sum())
    return total / directions.shape[1]
