"""Metrics: how good generated images are, in comparison with real ones."""

# These register their classes.
from gantrain.metrics import digit_features, frechet, inception_score, kid, pairs, prdc, sliced  # noqa: F401
from gantrain.metrics.features import inception  # noqa: F401
from gantrain.registry import METRICS


def higher_metrics() -> list[str]:
    """The names of all registered metrics of which higher values are better."""
    directions = {key: more for each in METRICS for key, more in METRICS[each].higher_is_better.items()}
    return ["accuracy", *(key for key, more in directions.items() if more)]


def higher_is_better(name: str) -> bool:
    """Whether higher values of a metric are better, by its name, which may be longer (``accuracy_class_3``)."""
    return any(name == key or name.startswith(f"{key}_") for key in higher_metrics())
