"""What is known of a run from the small files in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from gantrain.lock import is_locked
from gantrain.naming import split_override
from gantrain.report.lines import Line, read_lines
from gantrain.resume import flatten
from gantrain.sweep import LOST, told

_CLOCK = ("step", "epoch", "kimg", "time")
_RATE = "lr_"  # begins the names of learning rates
# words in the names of figures of which more is better
_MORE = {"accuracy", "psnr", "ssim", "precision", "recall", "inception"}


@dataclass
class Run:
    """What is known of a run.

    Attributes:
        name: Of the run.
        folder: The run folder, which need not be there.
        status: ``running``, ``done``, ``stopped``, ``crashed``, or ``unknown`` for one of an older version.
        message: Why.
        step: The last one logged.
        seconds: That it has trained.
        settings: The configuration, flat.
        typed: The overrides by key, where they are known.
        lines: Its log.
        pictures: Addresses from the run folder, by step and name.
    """

    name: str
    folder: Path
    status: str
    message: str
    step: int = 0
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    typed: dict[str, str] | None = None
    lines: list[Line] = field(default_factory=list)
    pictures: list[Line] = field(default_factory=list)


def read_run(folder: Path, job: Mapping[str, Any] | None = None) -> Run:
    """A run from its folder, and from the record of the sweep that made it, if one did."""
    status = told(folder)
    states = [(status.get("time", 0.0), status.get("state", "unknown"), status.get("reason"))]
    if job is not None:
        states.append((job.get("time", 0.0), job["status"], job["message"]))
    _, state, message = max(states, key=lambda each: each[0])
    if state == "running" and not is_locked(folder):
        state, message = LOST["status"], LOST["message"]
    lines = read_lines(folder / "losses.jsonl")
    return Run(
        name=folder.name,
        folder=folder,
        status=str(state),
        message=str(message or ""),
        step=int(lines[-1]["step"]) if lines else 0,
        seconds=_seconds(read_lines(folder / "speed.jsonl")),
        settings=_settings(folder / "config.yaml"),
        typed=None if job is None else dict(split_override(word) for word in job["overrides"] if word[:1] != "-"),
        lines=lines,
        pictures=read_lines(folder / "pictures.jsonl"),
    )


def _settings(path: Path) -> dict[str, Any]:
    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, YAMLError, OmegaConfBaseException):
        return {}
    return flatten({str(key): value for key, value in config.items()}) if isinstance(config, dict) else {}


def _seconds(speeds: Sequence[Line]) -> float:
    """Spent training: pauses between sessions don't count, nor does what was not measured."""
    seconds, images = 0.0, 0.0
    for line in speeds:
        if line.get("images_per_second"):
            seconds += 1000 * (line["kimg"] - images) / line["images_per_second"]
        images = line["kimg"]
    return round(seconds, 1)


def figures(run: Run) -> dict[str, dict[str, float]]:
    """Of each logged value, learning rates aside: its ``final`` and its ``best``."""
    objective = run.settings.get("objective.metric")
    found: dict[str, dict[str, float]] = {}
    for line in run.lines:
        for name, value in line.items():
            if name in _CLOCK or name.startswith(_RATE) or value != value:
                continue
            more = run.settings.get("objective.mode") == "max" if name == objective else is_better_more(name)
            kept = found.setdefault(name, {"final": value, "best": value})
            kept |= {"final": value, "best": (max if more else min)(kept["best"], value)}
    return found


def is_better_more(name: str) -> bool:
    """Whether more of a figure is better, as far as its name tells."""
    return not _MORE.isdisjoint(name.lower().split("_"))
