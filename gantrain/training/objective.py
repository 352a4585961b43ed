"""The objective: the logged value that decides which checkpoint is the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from gantrain.errors import listed
from gantrain.report.log import read_lines

Kind: TypeAlias = Literal["losses", "metrics"]  # Means over steps, and metrics on held-out data.


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """The keys under ``objective``."""

    metric: str | None  # The name of a logged value; None for no objective.
    mode: Literal["min", "max"]  # Whether lower or higher is better.


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

    def is_among(self, kind: Kind) -> bool:
        """Whether the metric is of this kind; True while no values of this kind are known and it is in no other."""
        metric = self.settings.metric
        if metric is None or any(metric in names for names in self._names.values()):
            return metric in self._names.get(kind, ())
        return kind not in self._names

    def is_best(self) -> bool:
        """Whether the value is new since the last call, one per checkpoint, and the best so far."""
        is_new, self._is_new = self._is_new, False
        if not is_new or self.value is None or not math.isfinite(self.value):
            return False
        sign = 1 if self.settings.mode == "min" else -1
        if self.best is not None and sign * self.value >= sign * self.best:
            return False
        self.best = self.value
        return True

    def missing_metric_warning(self) -> list[str]:
        """A warning, once, if values of both kinds have been logged, but not the metric."""
        metric = self.settings.metric
        names = set[str]().union(*self._names.values())
        if self._has_warned or metric is None or metric in names or len(self._names) < len(get_args(Kind)):
            return []
        self._has_warned = True
        logged = listed(sorted(names)) or "nothing"
        return [f"warning: objective.metric={metric} is not logged, so there is no best.pt; logged: {logged}"]

    def state_dict(self) -> dict[str, Any]:
        """The settings, the last value and the best, and the names of what is logged."""
        names = {kind: sorted(names) for kind, names in self._names.items()}
        return {**vars(self.settings), "value": self.value, "best": self.best, "fresh": self._is_new, "names": names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict``; its values only if the objective is the same."""
        # Older versions have another name for metrics.
        self._names = {
            "losses" if kind == "losses" else "metrics": set(names) for kind, names in state.get("names", {}).items()
        }
        if (state["metric"], state["mode"]) == (self.settings.metric, self.settings.mode):
            self.value, self.best, self._is_new = state["value"], state["best"], state["fresh"]


def best_logged(folder: Path, metric: str, mode: Literal["min", "max"]) -> float | None:
    """The best finite value of ``metric`` that the run in ``folder`` has logged, or None."""
    try:
        lines = read_lines(folder / "losses.jsonl")
    except OSError:
        return None
    values = [line[metric] for line in lines if math.isfinite(line.get(metric, math.nan))]
    return (min if mode == "min" else max)(values, default=None)
