"""Metrics: how good generated images are, in comparison with real ones. Importing this registers them."""

from gantrain.metrics import cityscapes, frechet, inception_score, kid, pairs, prdc, sliced
from gantrain.metrics.features import digits, inception

__all__ = ["cityscapes", "digits", "frechet", "inception", "inception_score", "kid", "pairs", "prdc", "sliced"]
