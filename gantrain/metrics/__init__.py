"""Metrics: how good generated images are, in comparison with real ones."""

from gantrain.metrics import digit_features, frechet  # noqa: F401 - these register their classes
from gantrain.registry import METRICS


def higher_is_better(name: str) -> bool:
    """Whether higher values of a number are better, by its name: that of a metric, or longer (``fid_a_to_b``)."""
    known = {"accuracy": True} | {key: more for each in METRICS for key, more in METRICS[each].higher_is_better.items()}
    found = [key for key in known if name == key or name.startswith(f"{key}_")]
    return bool(found) and known[max(found, key=len)]
