"""The Inception score: IS."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gantrain.config.schema import RepeatCount
from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted, FeatureMetric, Features, Shape
from gantrain.registry import METRICS


@METRICS.register("is")
class InceptionScore(FeatureMetric):
    """exp(E KL(p(y|x) || p(y))) of generated images: large if each has a clear class, and the classes are many.

    Salimans et al. 2016, arXiv:1606.03498. ``is`` is the mean over parts of the images in random order, ``is_std`` the
    standard deviation, the same as torch-fidelity's for the same seed. Real images play no role.

    Args:
        splits: The number of parts.
    """

    higher_is_better = {"is": True, "is_std": False}

    def __init__(self, *, splits: RepeatCount) -> None:
        self.splits = splits

    def check(self, features: Features | None, shape: Shape, *, generated: int, real: int) -> None:
        if features is not None and not features.num_classes:
            name = features.identity.split()[0]
            raise ConfigError(
                f"metrics=is needs the logits of a classifier, which metrics.features={name} is not: "
                "give metrics.features=inception"
            )
        if generated < max(2, self.splits):
            raise ConfigError(
                f"metrics.is.splits={self.splits} needs as many images, and 2 or more: {generated} generated; "
                "give a larger metrics.samples or fewer splits"
            )

    def compute(self, generated: Extracted, real: Extracted, *, seed: int) -> dict[str, float]:
        assert generated.logits is not None
        count = len(generated)
        if count < self.splits:  # Of a class.
            return {}
        logits = generated.logits[torch.from_numpy(np.random.RandomState(seed).permutation(count))].double()
        borders = [number * count // self.splits for number in range(1, self.splits)]
        scores = torch.stack([_score(part) for part in logits.tensor_split(borders)])
        return {"is": scores.mean().item(), "is_std": scores.std(correction=0).item()}


def _score(logits: Tensor) -> Tensor:
    """exp of the mean divergence of the classes of each image (N, K) from those of all."""
    log_p = logits.log_softmax(dim=1)
    p = log_p.exp()
    return (p * (log_p - p.mean(dim=0).log())).sum(dim=1).mean().exp()
