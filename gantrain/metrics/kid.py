"""The kernel distance of features: KID."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gantrain.config.schema import Range, RepeatCount
from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted, FeatureMetric, Features, Shape
from gantrain.registry import METRICS

SubsetSize: TypeAlias = Annotated[int, Range(at_least=2, at_most=1_000_000)]
CHUNK = 2**23  # Values of the kernel in memory at a time.


@METRICS.register("kid")
class KernelDistance(FeatureMetric):
    """The squared maximum mean discrepancy of features with the kernel (x.y / D + 1)^degree, unbiased.

    Binkowski et al. 2018, arXiv:1801.01401. ``kid`` is the mean over random subsets, the same as torch-fidelity's for
    the same seed; it is left out if there are fewer images than in a subset. ``kid_unbiased`` is that of all images at
    once, without any random choice, and the better estimate. Both may be slightly negative.

    Args:
        subsets: The number of subsets.
        subset_size: The number of generated images of a subset, and that of real ones.
        degree: Of the polynomial.
    """

    higher_is_better = {"kid": False, "kid_unbiased": False}

    def __init__(self, *, subsets: RepeatCount, subset_size: SubsetSize, degree: RepeatCount) -> None:
        self.subsets = subsets
        self.subset_size = subset_size
        self.degree = degree

    def check(self, features: Features | None, shape: Shape, *, generated: int, real: int) -> None:
        if min(generated, real) < 2:
            raise ConfigError(f"metrics=kid needs 2 images or more of each kind: {generated} generated, {real} real")

    def compute(self, generated: Extracted, real: Extracted, *, seed: int) -> dict[str, float]:
        sizes = len(generated), len(real)
        subsets = self.subsets if min(sizes) >= self.subset_size else 0
        chosen = [torch.zeros(size, subsets + 1, dtype=torch.float64) for size in sizes]
        draws = np.random.RandomState(seed)
        for subset in range(subsets):
            for each in chosen:
                each[draws.choice(len(each), self.subset_size, replace=False), subset] = 1
        for each in chosen:
            each[:, subsets] = 1
        *parts, whole = self.distances(generated.features, real.features, *chosen).tolist()
        return ({"kid": sum(parts) / subsets} if subsets else {}) | {"kid_unbiased": whole}

    def distances(self, one: Tensor, other: Tensor, of_one: Tensor, of_other: Tensor) -> Tensor:
        """The distances of K pairs of subsets, (K,) float64.

        Args:
            one: Features (N, D).
            other: Features (M, D).
            of_one: (N, K), 1 where a row of ``one`` belongs to a subset, else 0.
            of_other: (M, K), the same for ``other``.
        """
        one, other = one.double(), other.double()
        of_one, of_other = of_one.to(one), of_other.to(one)
        n, m = of_one.sum(dim=0), of_other.sum(dim=0)
        within = self._within(one, of_one) / (n * (n - 1)) + self._within(other, of_other) / (m * (m - 1))
        return within - 2 * self._between(one, other, of_one, of_other) / (n * m)

    def _within(self, features: Tensor, chosen: Tensor) -> Tensor:
        """The sum of the kernel over all ordered pairs of different rows of each subset (N, K)."""
        own = (features.square().sum(dim=1) / features.shape[1] + 1).pow(self.degree)
        total = -(own @ chosen)
        size = max(1, CHUNK // len(features))
        for start in range(0, len(features), size):
            rows = slice(start, start + size)
            kernel = self._kernel(features[rows], features[start:])
            kernel[:, size:] *= 2  # The kernel is symmetric: pairs with earlier rows are not computed again.
            total += (chosen[rows] * (kernel @ chosen[start:])).sum(dim=0)
        return total

    def _between(self, one: Tensor, other: Tensor, of_one: Tensor, of_other: Tensor) -> Tensor:
        """The sum of the kernel over all pairs of rows of each pair of subsets."""
        size = max(1, CHUNK // len(other))
        chunks = zip(one.split(size), of_one.split(size), strict=True)
        sums = [(chosen * (self._kernel(rows, other) @ of_other)).sum(dim=0) for rows, chosen in chunks]
        return torch.stack(sums).sum(dim=0)

    def _kernel(self, one: Tensor, other: Tensor) -> Tensor:
        return (one @ other.T).div_(one.shape[1]).add_(1).pow_(self.degree)
