"""Summarizes a run from the small files in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gantrain.metrics  # noqa: F401 - registers them
from gantrain import registry
from gantrain.config.overrides import flatten, split_override
from gantrain.config.schema import checked
from gantrain.config.side_files import report_damage
from gantrain.errors import ConfigError
from gantrain.report.images import image_entries
from gantrain.report.log import CLOCK, LR_PREFIX, PROTOCOL, Line, readable_lines
from gantrain.report.pages.page import DATA, PAGE, address, read_data, read_status, seconds_of
from gantrain.runtime.run_lock import is_locked
from gantrain.sweeps.sweep import LOST, read_config

URLS = list[str | None]
MAX_TESTED = 200  # Test images in each direction.
# Words in the names of metrics for which higher values are better.
_HIGHER = {"accuracy", "psnr", "ssim", "precision", "recall", "inception"}


@dataclass
class Run:
    """The results and settings of a run."""

    name: str
    folder: Path  # The run folder, which may not exist.
    status: str  # ``running``, ``done``, ``stopped``, ``crashed``, or ``unknown`` for a run of an older version.
    message: str  # The reason of the status.
    step: int = 0  # The last completed step that is known.
    seconds: float = 0.0  # Training time.
    settings: dict[str, Any] = field(default_factory=dict)  # The configuration, flat.
    typed: dict[str, str] | None = None  # The overrides by key, if they are known.
    lines: list[Line] = field(default_factory=list)  # The log of losses.
    measured: list[Line] = field(default_factory=list)  # The metrics of generated images.
    images: list[dict[str, Any]] = field(default_factory=list)  # The ``image_entries`` of the samples.
    # URLs, relative to the run folder, of the images of the newest ``gantrain test``, by name and kind.
    tested: dict[str, dict[str, str]] = field(default_factory=dict)


def read_run(folder: Path, job: Mapping[str, Any] | None = None) -> Run:
    """A run from its folder, and from the record of the sweep that trained it, if any."""
    status = read_status(folder)
    written = status.get("time", 0.0)
    states = [(written, status.get("state", "unknown"), status.get("reason"))]
    if job is not None:
        states.append((job["time"], job["status"], job["message"]))
    _, state, message = max(states, key=lambda each: each[0])
    if state == "running" and not is_locked(folder):
        state, message = LOST["status"], LOST["message"]
    lines, speeds = (readable_lines(folder / f"{table}.jsonl") for table in ("losses", "speed"))
    seconds = _training_seconds(speeds)
    return Run(
        name=folder.name,
        folder=folder,
        status=str(state),
        message=str(message or ""),
        step=int(status.get("step") or (lines[-1]["step"] if lines else 0)),
        seconds=seconds or round(seconds_of(status), 1),
        settings=flatten(read_config(folder)),
        typed=None if job is None else dict(split_override(word) for word in job["overrides"] if word[:1] != "-"),
        lines=lines,
        measured=readable_lines(folder / "metrics.jsonl"),
        images=image_entries(folder),
        tested=_tested(folder),
    )


def _tested(run: Path) -> dict[str, dict[str, str]]:
    pages = sorted(run.glob(f"results/*/{PAGE}"), key=lambda page: page.stat().st_mtime)
    if not pages:
        return {}
    folder = pages[-1].parent
    tested: dict[str, dict[str, str]] = {}
    tables = read_data(folder, "results", {"tables": list[dict[str, Any]]}).get("tables", [])
    try:
        for table in tables:  # One for each direction; both may have the same names.
            for name, urls, *_ in checked(table["rows"], list[list[Any]], "rows")[:MAX_TESTED]:
                images = zip(checked(table["kinds"], list[str], "kinds"), checked(urls, URLS, "rows"), strict=True)
                found = {kind: f"{address(folder, run)}/{url}" for kind, url in images if url}
                tested.setdefault(checked(name, str, "rows"), {}).update(found)
    except (ConfigError, ValueError, KeyError) as error:
        report_damage(folder / DATA / "results.js", error)
        return {}
    return tested


def _training_seconds(speeds: Sequence[Line]) -> float:
    """Training time from the measured speeds, without the pauses between sessions."""
    seconds, kimg = 0.0, 0.0
    for line in speeds:
        if "kimg" not in line:
            continue
        if line.get("images_per_second"):
            seconds += 1000 * (line["kimg"] - kimg) / line["images_per_second"]
        kimg = line["kimg"]
    return round(seconds, 1)


def metrics(run: Run) -> dict[str, dict[str, float]]:
    """The ``final`` value of every logged loss and metric, and the ``best`` one of metrics and of the objective.

    A loss has no best value: a low one of the generator may mean a weak critic.
    """
    objective = run.settings.get("objective.metric")
    found: dict[str, dict[str, float]] = {}
    better: dict[str, Callable[[float, float], float]] = {}  # Which of two values, by name.
    for line in (*run.measured, *run.lines):
        for name, value in line.items():
            if name in (*CLOCK, "time", PROTOCOL) or name.startswith(LR_PREFIX) or value != value:
                continue
            if name not in found:
                mode = run.settings.get("objective.mode") if name == objective else None
                better[name] = max if (mode == "max" if mode else higher_is_better(name)) else min
                found[name] = {"final": value, "best": value}
            found[name] = {"final": value, "best": better[name](found[name]["best"], value)}
    metrics = {name for line in run.measured for name in line} | {objective}
    for name, values in found.items():
        if name not in metrics and not name.startswith("held_out_"):
            del values["best"]
    return found


def higher_is_better(name: str) -> bool:
    """Whether higher values of a metric are better, judged by its name."""
    return registry.higher_is_better(name) or not _HIGHER.isdisjoint(name.lower().split("_"))
