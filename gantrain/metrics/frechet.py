"""The Fréchet distance of features: FID."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted, FeatureMetric, Features, Shape
from gantrain.registry import METRICS

EIGEN_COST = 6  # Of the moments' eigendecompositions, see ``frechet_distance``.


class Moments(NamedTuple):
    """The mean (D,) and the unbiased covariance (D, D) of features, float64."""

    mean: Tensor
    covariance: Tensor


@METRICS.register("fid")
class FrechetDistance(FeatureMetric):
    """The Fréchet distance of two normal distributions with the moments of the features.

    Heusel et al. 2017, arXiv:1706.08500. It depends on the number of images: fewer give a larger distance.
    """

    draws = False
    higher_is_better = {"fid": False}

    def check(self, features: Features | None, shape: Shape, *, generated: int, real: int) -> None:
        if min(generated, real) < 2:
            raise ConfigError(f"metrics=fid needs 2 images or more of each kind: {generated} generated, {real} real")

    def compute(self, generated: Extracted, real: Extracted, *, seed: int) -> dict[str, float]:
        return {"fid": frechet_distance(generated.features, real.features)}


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """The distance of two sets of features (N, D) and (M, D), in float64 on their device.

    |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2). With A and B the centred features, scaled so that C1 = A^T A and
    C2 = B^T B, the last trace is the sum of the singular values of A B^T, which is small for few images. Both ways are
    exact; the cheaper one is taken, by the number of operations: those of the moments' two eigendecompositions were
    measured to take as long as ``EIGEN_COST * D^3`` of the singular values.
    """
    n, m, d = len(one), len(other), one.shape[1]
    if n * m * min(n, m) >= EIGEN_COST * d**3:
        return moments_distance(moments(one), moments(other))
    return singular_distance(one, other)


def singular_distance(one: Tensor, other: Tensor) -> float:
    """The distance of two sets of features (N, D) and (M, D) by singular values of (N, M)."""
    one, other = one.double(), other.double()
    mean = (one.mean(dim=0) - other.mean(dim=0)).square().sum()
    a, b = (centred(features) for features in (one, other))
    product = a @ b.T
    return max(0.0, (mean + a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(product).sum()).item())


def moments(features: Tensor) -> Moments:
    """The moments of features (N, D), N of at least 2."""
    features = features.double()
    a = centred(features)
    return Moments(features.mean(dim=0), a.T @ a)


def moments_distance(one: Moments, other: Moments) -> float:
    """The distance by moments. The eigenvalues of S C2 S, with S the root of C1, are those of C1 C2."""
    values, vectors = torch.linalg.eigh(one.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = root @ other.covariance @ root
    trace = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    mean = (one.mean - other.mean).square().sum()
    return max(0.0, (mean + one.covariance.trace() + other.covariance.trace() - 2 * trace).item())


def centred(features: Tensor) -> Tensor:
    """Features (N, D) minus their mean, divided by the root of N - 1."""
    return (features - features.mean(dim=0)) / (len(features) - 1) ** 0.5
