"""The objective: the logged value that decides which checkpoint is the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from gantrain.config.schema import PositiveInt
from gantrain.errors import ConfigError, listed
from gantrain.registry import higher_is_better
from gantrain.report.log import read_lines

# Means over steps, values of ``GAN.evaluate`` on held-out data, and the chosen metrics of generated images.
Kind: TypeAlias = Literal["losses", "metrics", "measured"]


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """The keys under ``objective``."""

    metric: str | None  # The name of a logged value; None for no objective.
    mode: Literal["min", "max"] | None  # Whether lower or higher is better; None for what suits the metric.
    patience: PositiveInt | None = None  # The run stops after so many values in a row that are no better.

    def __post_init__(self) -> None:
        if self.patience is not None and self.metric is None:
            raise ConfigError(f"objective.patience={self.patience} has no effect without objective.metric=NAME")

    @property
    def sign(self) -> int:
        """1 if lower is better, -1 if higher is."""
        return -1 if mode_of(self.metric, self.mode) == "max" else 1


class Objective:
    """Tracks a logged value and its best.

    Attributes:
        value: The last one, or None.
        best: The best that a checkpoint was saved with, or None.
    """

    def __init__(self, settings: ObjectiveSettings) -> None:
        self.settings = settings
        self.value: float | None = None
        self.best: float | None = None
        self.best_at = 0  # The step of the best value.
        self.stale = 0  # The number of values since the best one.
        self.protocol = ""  # How the values were measured, if they were.
        self._is_new = False
        self._names: dict[Kind, set[str]] = {}
        self._has_warned = False

    def record(self, kind: Kind, values: Mapping[str, float]) -> None:
        """Record the values that are logged, which may be none."""
        self._names.setdefault(kind, set()).update(values)
        metric = self.settings.metric
        if metric is not None and metric in values:
            self.value = values[metric]
            self._is_new = True

    def use_protocol(self, protocol: str) -> list[str]:
        """Forget values that were measured in another way than from now on; returns a line about that."""
        before, self.protocol = self.protocol, protocol
        if before in ("", protocol) or self.best is None:
            return []
        self.value = self.best = None
        self.stale, self._is_new = 0, False
        return [f"{self.settings.metric} was measured in another way before ({before}): its best value starts anew"]

    def is_among(self, kind: Kind) -> bool:
        """Whether the metric is of this kind; True while no values of this kind are known and it is in no other."""
        metric = self.settings.metric
        if metric is None or any(metric in names for names in self._names.values()):
            return metric in self._names.get(kind, ())
        return kind not in self._names

    def knows(self, *kinds: Kind) -> bool:
        """Whether values of all these kinds have been logged."""
        return set(kinds) <= self._names.keys()

    def names(self) -> set[str]:
        """The names of all values that have been logged."""
        return set[str]().union(*self._names.values())

    def improves(self) -> bool:
        """Whether the value is new since the last call of ``is_best``, and the best so far."""
        if not self._is_new or self.value is None or not math.isfinite(self.value):
            return False
        return self.best is None or self.settings.sign * self.value < self.settings.sign * self.best

    def is_best(self, step: int = 0) -> bool:
        """The same, and the value, of this step, is the best, or counts as one that is not, from now on."""
        improves = self.improves()
        if improves:
            self.best, self.best_at, self.stale = self.value, step, 0
        elif self._is_new:
            self.stale += 1
        self._is_new = False
        return improves

    def is_last(self) -> bool:
        """Whether the value, if it is no better, will exhaust the patience."""
        patience = self.settings.patience
        return self._is_new and patience is not None and not self.improves() and self.stale + 1 >= patience

    def is_exhausted(self) -> bool:
        """Whether the run is to stop, because the metric has been no better for ``patience`` values."""
        return self.settings.patience is not None and self.stale >= self.settings.patience

    def verdict(self) -> str:
        """Why the run stops: ``no better fid for 10 measurements``."""
        return f"no better {self.settings.metric} for {self.stale} measurements"

    def missing_metric_warning(self, *, measures: bool = False) -> list[str]:
        """A warning, once, if values of all kinds have been logged, but not the metric.

        ``measures`` is whether generated images are measured in this run.
        """
        metric = self.settings.metric
        kinds: tuple[Kind, ...] = ("losses", "metrics", "measured") if measures else ("losses", "metrics")
        names = self.names()
        if self._has_warned or metric is None or metric in names or not self.knows(*kinds):
            return []
        self._has_warned = True
        logged = listed(sorted(names)) or "nothing"
        return [f"warning: objective.metric={metric} is not logged, so there is no best.pt; logged: {logged}"]

    def state_dict(self) -> dict[str, Any]:
        """The settings, the last value and the best, and the names of what is logged."""
        names = {kind: sorted(names) for kind, names in self._names.items()}
        settings = {"metric": self.settings.metric, "mode": mode_of(self.settings.metric, self.settings.mode)}
        values = {
            "value": self.value,
            "best": self.best,
            "best_at": self.best_at,
            "stale": self.stale,
            "protocol": self.protocol,
            "fresh": self._is_new,
        }
        return {**settings, **values, "names": names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict``; its values only if the objective is the same."""
        # Older versions have another name for metrics.
        kinds = get_args(Kind)
        self._names = {
            kind if kind in kinds else "metrics": set(names) for kind, names in state.get("names", {}).items()
        }
        own = self.state_dict()
        if (state["metric"], state["mode"]) == (own["metric"], own["mode"]):
            self.value, self.best, self._is_new = state["value"], state["best"], state["fresh"]
            self.best_at, self.stale, self.protocol = state["best_at"], state["stale"], state["protocol"]


def mode_of(metric: str | None, mode: Literal["min", "max"] | None) -> Literal["min", "max"]:
    """Whether lower or higher values of a metric are better, where ``mode`` does not say."""
    return mode or ("max" if metric is not None and higher_is_better(metric) else "min")


def best_logged(folder: Path, metric: str, mode: Literal["min", "max"]) -> float | None:
    """The best finite value of ``metric`` that the run in ``folder`` has logged, or None."""
    try:
        lines = [*read_lines(folder / "losses.jsonl"), *read_lines(folder / "metrics.jsonl")]
    except OSError:
        return None
    values = [line[metric] for line in lines if math.isfinite(line.get(metric, math.nan))]
    return (min if mode == "min" else max)(values, default=None)
