"""The experiments and what has become of them, from their YAML files and the folder of all runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gantrain.config.expected import Expected, expected_in
from gantrain.papers.record import Row
from gantrain.report.pages.page import read_status
from gantrain.runtime.run_lock import is_locked


@dataclass(frozen=True)
class Experiment:
    """A file of the group ``experiment``."""

    name: str
    expected: list[Expected]


def experiments(folders: Sequence[Path]) -> dict[str, Experiment]:
    """The experiments in these folders of configurations, by name; a file that can't be read expects nothing."""
    found: dict[str, Experiment] = {}
    for folder in folders:
        for path in sorted((folder / "experiment").glob("*.yaml")):
            found.setdefault(path.stem, Experiment(path.stem, expected_in(_content(path))))
    return dict(sorted(found.items()))


def _content(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, yaml.YAMLError, RecursionError):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def state_of(experiment: str, home: Path, rows: Sequence[Row]) -> str:
    """What has become of an experiment, in a few words; ``home`` is the folder of all runs."""
    if own := [row for row in rows if row.experiment == experiment and not row.changes]:
        values = dict.fromkeys(f"{row.metric} {row.measured} at step {row.step}" for row in own if row.measured)
        return "done: " + (", ".join(values) or "nothing measured")
    folder = home / experiment
    status = read_status(folder)
    if not status:
        return "not run"
    step = f"step {status.get('step', 0):,}"
    if is_locked(folder):
        return f"running, {step}"
    return f"trained to {step}, not recorded" if status.get("state") == "done" else f"stopped at {step}"
