"""Metrics: how good generated images are, in comparison with real ones."""

from gantrain.metrics import digit_features, frechet  # noqa: F401 - these register their classes
