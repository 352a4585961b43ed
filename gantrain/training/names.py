"""The names of what a run logs, and an objective that is none of them, which is refused before the first step."""

from __future__ import annotations

from gantrain.config.overrides import split_override
from gantrain.data.stand_in import StandIn
from gantrain.errors import ConfigError, nearest
from gantrain.registry import METRICS, base_name, higher_is_better
from gantrain.training.build import Parts
from gantrain.training.footprint import trial_names


def check_objective(parts: Parts) -> None:
    """Refuse an objective that this run will not log.

    One from a file that another data set or other metrics would log is left alone: the run warns of it. So is one whose
    run can't be tried, because a model of a plug-in fails in a trial step: see ``check_logged``.

    Raises:
        ConfigError: It is.
    """
    if isinstance(parts.dataset, StandIn) or not _is_unmeasured(parts):
        return
    try:
        names = trial_names(parts)
    except Exception:
        return
    _refuse(parts, names)


def check_logged(parts: Parts) -> None:
    """Refuse, once losses and held-out metrics have been logged, an objective that is none of them and not measured.

    Raises:
        ConfigError: It is.
    """
    if parts.objective.knows("losses", "metrics") and _is_unmeasured(parts):
        _refuse(parts, parts.objective.names())


def _is_unmeasured(parts: Parts) -> bool:
    """Whether the objective is to be refused unless it is a loss or a held-out metric."""
    metric = parts.objective.settings.metric
    if metric is None or metric in _measured(parts):
        return False
    typed = any(split_override(word)[0] == "objective.metric" for word in parts.context.overrides)
    return typed or is_misspelt(metric)


def _measured(parts: Parts) -> set[str]:
    return set() if parts.measurement is None else set(parts.measurement.names(parts.model))


def _refuse(parts: Parts, logged: set[str]) -> None:
    metric, names = str(parts.objective.settings.metric), logged | _measured(parts) | parts.update.rates().keys()
    if metric not in names:
        raise ConfigError(f"objective.metric={metric} is not logged by this run; {_remedy(metric, names)}")


def is_misspelt(metric: str) -> bool:
    """Whether no run of any model and metrics is known to measure a value of this name."""
    return higher_is_better(metric) is None and not metric.startswith("held_out_")


def _remedy(metric: str, names: set[str]) -> str:
    """What would work: the metric that measures this value, or a name of a value that is logged."""
    name = base_name(metric)
    able = [each for each in METRICS if name in METRICS[each].higher_is_better]
    chosen = "; ".join(f"metrics={each} measures {name}" for each in able if name not in {*map(base_name, names)})
    return f"{chosen}; {nearest(metric, names)}" if chosen else nearest(metric, names)
