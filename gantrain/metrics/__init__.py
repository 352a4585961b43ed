"""Metrics: how good generated images are, in comparison with real ones."""

# These register their classes.
from gantrain.metrics import cityscapes, frechet, inception_score, kid, pairs, prdc, sliced  # noqa: F401
from gantrain.metrics.features import digits, inception  # noqa: F401
