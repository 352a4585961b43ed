"""What a run has measured, read from its logs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gantrain.config.side_files import report_damage
from gantrain.registry import higher_is_better
from gantrain.report.log import PROTOCOL, Line, read_lines

TABLES = ("metrics", "losses")  # Models that measure themselves log into the second.


@dataclass(frozen=True)
class Measured:
    """A value of a metric, the step at which the run had it, and how it was measured."""

    value: float
    step: int
    protocol: str = ""  # Empty for what models measure themselves.


def measured(folder: Path, metric: str) -> list[Measured]:
    """What a run has measured of a metric, in order; damaged lines are skipped."""
    for table in TABLES:
        lines = [line for line in _lines(folder, table) if math.isfinite(line.get(metric, math.nan))]
        if lines:
            return [Measured(line[metric], int(line["step"]), str(line.get(PROTOCOL, ""))) for line in lines]
    return []


def best_of(values: Sequence[Measured], metric: str) -> Measured | None:
    """The best of the values of a metric; None for none, or if it is not known which end is the better one."""
    higher = higher_is_better(metric)
    return None if higher is None else (max if higher else min)(values, key=lambda each: each.value, default=None)


def _lines(folder: Path, table: str) -> list[Line]:
    path = folder / f"{table}.jsonl"
    try:
        return read_lines(path)
    except OSError as error:
        report_damage(path, error.strerror or error)
        return []
