"""What is known of a run from the small files in its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from gantrain.config.overrides import split_override
from gantrain.config.overrides import flatten
from gantrain.report.images import images_shown
from gantrain.report.lines import RATE, Line, read_lines
from gantrain.report.pages.page import PAGE, read_data, read_status
from gantrain.runtime.run_lock import is_locked
from gantrain.sweeps.sweep import LOST

_CLOCK = ("step", "epoch", "kimg", "time")
MOST_TESTED = 200  # images of a test
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
        step: The last one made, as far as is known.
        seconds: That it has trained.
        settings: The configuration, flat.
        typed: The overrides by key, where they are known.
        lines: Its log.
        images: What it has shown of its samples: ``step``, ``what``, and ``url`` from the run folder.
        tested: Addresses from the run folder of what the newest ``gantrain test`` has made, by kind, by name.
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
    images: list[dict[str, Any]] = field(default_factory=list)
    tested: dict[str, dict[str, str]] = field(default_factory=dict)


def read_run(folder: Path, job: Mapping[str, Any] | None = None) -> Run:
    """A run from its folder, and from the record of the sweep that made it, if one did."""
    status = read_status(folder)
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
        step=int(status.get("step", lines[-1]["step"] if lines else 0)),
        seconds=_seconds(read_lines(folder / "speed.jsonl"))
        or round(status.get("time", 0.0) - status.get("opened", status.get("time", 0.0)), 1),
        settings=_settings(folder / "config.yaml"),
        typed=None if job is None else dict(split_override(word) for word in job["overrides"] if word[:1] != "-"),
        lines=lines,
        images=images_shown(folder),
        tested=_tested(folder / "results"),
    )


def _settings(path: Path) -> dict[str, Any]:
    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, YAMLError, OmegaConfBaseException):
        return {}
    return flatten({str(key): value for key, value in config.items()}) if isinstance(config, dict) else {}


def _tested(folder: Path) -> dict[str, dict[str, str]]:
    pages = sorted(folder.glob(f"*/{PAGE}"), key=lambda page: page.stat().st_mtime)
    try:
        tables = read_data(pages[-1].parent, "results")["tables"] if pages else []
        above = f"{folder.name}/{quote(os.fsencode(pages[-1].parent.name))}" if pages else ""
        tested: dict[str, dict[str, str]] = {}
        for table in tables:  # one for each direction, in which names may be the same
            for name, places, *_ in table["rows"][:MOST_TESTED]:
                made = zip(table["kinds"], places, strict=True)
                tested.setdefault(name, {}).update({kind: f"{above}/{place}" for kind, place in made if place})
        return tested
    except (OSError, ValueError, KeyError, TypeError):  # of another version
        return {}


def _seconds(speeds: Sequence[Line]) -> float:
    """Spent training, by the speeds that were measured: pauses between sessions don't count."""
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
            if name in _CLOCK or name.startswith(RATE) or value != value:
                continue
            more = run.settings.get("objective.mode") == "max" if name == objective else is_better_more(name)
            kept = found.setdefault(name, {"final": value, "best": value})
            kept |= {"final": value, "best": (max if more else min)(kept["best"], value)}
    return found


def is_better_more(name: str) -> bool:
    """Whether more of a figure is better, as far as its name tells."""
    return not _MORE.isdisjoint(name.lower().split("_"))
