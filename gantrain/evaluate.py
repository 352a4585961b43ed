"""The composition root of evaluation: runs, or folders of images, in; metrics with their protocols out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from gantrain.checkpoints.store import Checkpoints, Step
from gantrain.config.overrides import refuse_idle, split_override
from gantrain.config.schema import NonNegativeInt, PositiveInt, construct
from gantrain.config.settings import choose_device
from gantrain.data.base import ImageSpec
from gantrain.data.errors import OnError
from gantrain.data.settings import DataSettings
from gantrain.errors import ConfigError
from gantrain.inference.load import NetworkWeights, read_run, rebuild, takes_average
from gantrain.metrics.base import MeasurementError
from gantrain.metrics.build import build_measurement
from gantrain.metrics.folders import measure_folders
from gantrain.metrics.settings import OF_TRAINING
from gantrain.registry import import_plugins
from gantrain.report.log import EVALUATIONS, PROTOCOL, read_lines
from gantrain.report.pages.page import DATA
from gantrain.report.pages.training_page import list_evaluations
from gantrain.runtime import console
from gantrain.runtime.atomic import write_file
from gantrain.test import find_run


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """The keys of ``gantrain evaluate``."""

    # Run folders, or the names of runs in ``checkpoints_dir``: one, or several as [RUN,RUN].
    run: str | list[str] | None
    checkpoints_dir: str  # The folder that contains the run folders.
    # The step of the checkpoint, ``best``, or ``all`` for every checkpoint; null for the newest.
    step: NonNegativeInt | Literal["best", "all"] | None
    network_weights: NetworkWeights  # ``average`` (EMA), ``last``, or ``auto``: the average if the run has one.
    fake: str | None  # Instead of a run, a folder of generated images.
    real: str | None  # For ``fake``, a folder of real images, or a ``.npz`` with ``mu`` and ``sigma``.
    size: PositiveInt | None  # Side in pixels to which images of folders are scaled first; null for none.
    accelerator: Literal["auto", "cpu", "cuda", "mps"]  # The device; ``auto`` is the first available.
    plugins: list[str]  # Modules that register classes; required again for a run that was trained with plugins.
    trust_plugins: bool  # true imports every module that the run's checkpoint names, and so runs its code.
    metrics: dict[str, Any]  # What is measured, and how, as in training.

    def __post_init__(self) -> None:
        if (self.run is None) == (self.fake is None):
            problem = "run is missing" if self.run is None else "run and fake exclude each other"
            raise ConfigError(f"{problem}: give run={self.checkpoints_dir}/NAME, or fake=FOLDER real=FOLDER")
        if (self.fake is None) != (self.real is None):
            raise ConfigError("fake and real belong together: give fake=FOLDER real=FOLDER, or real=statistics.npz")
        if self.run is not None and self.size is not None:
            raise ConfigError(f"size={self.size} is for fake=FOLDER: the images of a run have a size")
        if self.fake is not None and self.step is not None:
            raise ConfigError(f"step={self.step} is for run=checkpoints/NAME, but fake={self.fake} was given")
        if self.fake is not None and self.network_weights != "auto":
            raise ConfigError(
                f"network_weights={self.network_weights} is for run=checkpoints/NAME, not for fake=FOLDER"
            )


def evaluate(config: dict[str, Any], overrides: list[str]) -> int:
    """Measure runs or folders of images, and print the numbers.

    Args:
        config: The composed configuration, plain values.
        overrides: As typed.

    Returns:
        Exit status 0.

    Raises:
        ConfigError: The configuration is wrong, or there is nothing to measure.
    """
    settings = construct(EvaluateSettings, config, key="")
    import_plugins(settings.plugins)
    device = choose_device(settings.accelerator)
    try:
        if settings.fake is not None and settings.real is not None:
            fake, real = Path(settings.fake).expanduser(), Path(settings.real).expanduser()
            numbers, protocol = measure_folders(
                settings.metrics, fake, real, size=settings.size, device=device, overrides=overrides
            )
            _print(f"{settings.fake} against {settings.real}", numbers, protocol)
            return 0
        for name in [settings.run] if isinstance(settings.run, str) else settings.run or []:
            run = find_run(name, settings.checkpoints_dir)
            for step, numbers, protocol in evaluate_run(run, settings, overrides, device):
                _print(f"{run}, step {step}", numbers, protocol)
                _store(run, {"step": step, **numbers, PROTOCOL: protocol})
    except MeasurementError as error:
        raise ConfigError(str(error)) from None
    return 0


def evaluate_run(
    run: Path, settings: EvaluateSettings, overrides: list[str], device: torch.device
) -> Iterator[tuple[int, dict[str, float], str]]:
    """The step, the numbers and the protocol of each checkpoint that is to be measured."""
    steps: list[Step | None] = [*Checkpoints(run).steps()] if settings.step == "all" else [settings.step]
    if not steps:
        raise ConfigError(f"run={run}: no checkpoints in this folder")
    measurement = None
    for chosen in steps:
        state = read_run(run, chosen, plugins=settings.plugins, trust_plugins=settings.trust_plugins)
        model = rebuild(run, state, device, settings.network_weights)
        if measurement is None:  # It is the same for all checkpoints of a run.
            own, spec = state["config"], ImageSpec.from_dict(state["spec"])
            data = DataSettings.split(own["data"])
            train_set = data.build(phase="train", seed=own["seed"])
            test_set = data.build_test_set(train_set, seed=own["seed"])
            for dataset in (train_set, test_set):
                if dataset is not None:
                    dataset.use_class_names(spec.class_names)
            on_error: OnError = data.stream.get("on_error") or "raise"
            chosen_metrics = _metrics_of(settings.metrics, own.get("metrics") or {}, overrides)
            measurement = build_measurement(
                chosen_metrics, own["data"], model, train_set, test_set, device, on_error=on_error
            )
        if measurement is None:
            raise ConfigError("no metrics are chosen: give metrics=fid, or several as metrics=[fid,kid]")
        refuse_idle(overrides, "metrics", OF_TRAINING | measurement.without_effect)
        protocol = measurement.protocol(averaged=takes_average(state, settings.network_weights))
        yield state["step"], measurement(model), f"{protocol}, step {state['step']}"


def _metrics_of(composed: Mapping[str, Any], of_run: Mapping[str, Any], overrides: list[str]) -> dict[str, Any]:
    """The metrics that were typed or else those of the run, in either case with the keys that were typed."""
    typed = [key for key, _ in map(split_override, overrides)]
    if "metrics" in typed or not any(isinstance(value, Mapping) for value in of_run.values()):
        return dict(composed)
    chosen = {key: value for key, value in composed.items() if not isinstance(value, Mapping)} | dict(of_run)
    for key in typed:
        group, *parts = key.split(".")
        if group == "metrics" and parts:
            chosen[parts[0]] = composed[parts[0]]
    return chosen


def _print(what: str, numbers: Mapping[str, float], protocol: str) -> None:
    width = max(map(len, numbers), default=0)
    console.out(f"{what} ({protocol})", *(f"  {name:<{width}}  {value:.6g}" for name, value in numbers.items()))


def _store(run: Path, line: dict[str, Any]) -> None:
    """Add a line to the log of the run's evaluations, and to its page."""
    path = run / EVALUATIONS
    try:
        lines = [*read_lines(path), line]
        write_file(path, "".join(f"{json.dumps(each)}\n" for each in lines))
        if (run / DATA).is_dir():
            list_evaluations(run)
    except OSError as error:  # The run may belong to somebody else.
        console.err(f"warning: the numbers are not stored in {path}: {error.strerror or error}")
