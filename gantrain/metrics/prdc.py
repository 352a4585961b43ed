"""Precision, recall, density and coverage of features."""

from __future__ import annotations

import torch
from torch import Tensor

from gantrain.config.schema import RepeatCount
from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted, FeatureMetric, Features, Shape
from gantrain.registry import METRICS

CHUNK = 2**23  # Distances in memory at a time.


@METRICS.register("prdc")
class PrecisionRecall(FeatureMetric):
    """Whether generated images resemble real ones (precision, density) and real ones generated ones (recall, coverage).

    The ball of an image reaches to its k-th nearest neighbour of the same kind. Precision is the share of generated
    images within the ball of any real one, recall that of real images within the ball of any generated one
    (Kynkäänniemi et al. 2019, arXiv:1904.06991). Density is the mean number of balls of real images that contain a
    generated one, divided by k, and coverage the share of balls of real images that contain any generated one
    (Naeem et al. 2020, arXiv:2002.09797). All are between 0 and 1, except that density may be larger.

    Args:
        k: Of precision and recall.
        density_k: Of density and coverage.
    """

    draws = False
    higher_is_better = {"precision": True, "recall": True, "density": True, "coverage": True}

    def __init__(self, *, k: RepeatCount, density_k: RepeatCount) -> None:
        self.k = k
        self.density_k = density_k

    def check(self, features: Features | None, shape: Shape, *, generated: int, real: int) -> None:
        most = max(self.k, self.density_k)
        if min(generated, real) <= most:
            raise ConfigError(
                f"metrics=prdc needs {most + 1} images or more of each kind, for {most} neighbours: {generated} "
                f"generated, {real} real; give fewer (metrics.prdc.k={self.k} metrics.prdc.density_k={self.density_k})"
            )

    def compute(self, generated: Extracted, real: Extracted, *, seed: int) -> dict[str, float]:
        if min(len(generated), len(real)) <= max(self.k, self.density_k):  # Of a class.
            return {}
        fake, true = generated.features.double(), real.features.double()
        (fake_radii,), (radii, density_radii) = _radii(fake, self.k), _radii(true, self.k, self.density_k)
        size = max(1, CHUNK // len(true))
        precise = dense = torch.zeros((), dtype=torch.int64, device=true.device)
        recalled = covered = torch.zeros(len(true), dtype=torch.bool, device=true.device)
        for rows, own_radii in zip(fake.split(size), fake_radii.split(size), strict=True):
            distances = torch.cdist(rows, true)
            precise = precise + (distances <= radii).any(dim=1).sum()
            recalled = recalled | (distances <= own_radii[:, None]).any(dim=0)
            inside = distances <= density_radii
            dense = dense + inside.sum()
            covered = covered | inside.any(dim=0)
        return {
            "precision": precise.item() / len(fake),
            "recall": recalled.double().mean().item(),
            "density": dense.item() / (self.density_k * len(fake)),
            "coverage": covered.double().mean().item(),
        }


def _radii(features: Tensor, *ks: int) -> list[Tensor]:
    """The distances of features (N, D) to their k-th nearest neighbours, (N,) for each k."""
    size = max(1, CHUNK // len(features))
    nearest = [torch.cdist(rows, features).topk(max(ks) + 1, largest=False).values for rows in features.split(size)]
    found = torch.cat(nearest)  # Each is its own nearest neighbour, number 0.
    return [found[:, k] for k in ks]
