"""The logged value by which one checkpoint is better than another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from gantrain.report.log import read_lines

Kind: TypeAlias = Literal["losses", "figures"]  # means over steps, and what a model says of held-out data


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """The keys under ``objective``.

    Attributes:
        metric: Name of a logged value; None for no objective.
        mode: Whether less or more is better.
    """

    metric: str | None
    mode: Literal["min", "max"]


class Objective:
    """Follows a logged value and tells when it is at its best.

    Args:
        settings: Which one, and which way.

    Attributes:
        value: The last one; None before there was any.
        best: The best that a checkpoint was saved with; None before there was any.
    """

    def __init__(self, settings: ObjectiveSettings) -> None:
        self.settings = settings
        self.value: float | None = None
        self.best: float | None = None
        self._fresh = False
        self._names: dict[Kind, set[str]] = {}
        self._told = False

    def see(self, kind: Kind, values: Mapping[str, float]) -> None:
        """Take in what is logged, also if it is nothing."""
        self._names.setdefault(kind, set()).update(values)
        metric = self.settings.metric
        if metric is not None and metric in values:
            self.value = values[metric]
            self._fresh = True

    def is_among(self, kind: Kind) -> bool:
        """Whether there is a value to follow that is logged among these, or may be, as nothing is known of it yet."""
        metric = self.settings.metric
        if metric is None or any(metric in names for names in self._names.values()):
            return metric in self._names.get(kind, ())
        return kind not in self._names

    def is_best(self) -> bool:
        """Asked at every save: whether the value has been logged anew since the last one, and is the best so far."""
        fresh, self._fresh = self._fresh, False
        if not fresh or self.value is None or not math.isfinite(self.value):
            return False
        sign = 1 if self.settings.mode == "min" else -1
        better = self.best is None or sign * self.value < sign * self.best
        if better:
            self.best = self.value
        return better

    def missing_metric_warning(self) -> list[str]:
        """Says, once, that the value is never logged, as soon as there have been values of both kinds."""
        metric = self.settings.metric
        names = set[str]().union(*self._names.values())
        if self._told or metric is None or metric in names or len(self._names) < len(get_args(Kind)):
            return []
        self._told = True
        return [
            f"warning: there will be no best.pt: objective.metric={metric} is not logged here, but "
            + (", ".join(sorted(names)) or "nothing")
        ]

    def state_dict(self) -> dict[str, Any]:
        """Metric, mode, the last value and the best, and what is logged."""
        names = {kind: sorted(names) for kind, names in self._names.items()}
        return {**vars(self.settings), "value": self.value, "best": self.best, "fresh": self._fresh, "names": names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``, if it is of the same objective."""
        self._names = {kind: set(names) for kind, names in state.get("names", {}).items()}
        if (state["metric"], state["mode"]) == (self.settings.metric, self.settings.mode):
            self.value, self.best, self._fresh = state["value"], state["best"], state["fresh"]


def best_logged(folder: Path, metric: str, mode: Literal["min", "max"]) -> float | None:
    """The best that a run has logged of a value; None if it never has.

    Args:
        folder: The run folder.
        metric: Name of the value.
        mode: Whether less or more is better.
    """
    try:
        lines = read_lines(folder / "losses.jsonl")
    except OSError:
        return None
    values = [line[metric] for line in lines if math.isfinite(line.get(metric, math.nan))]
    return (min if mode == "min" else max)(values, default=None)
