"""The composition root of testing: a run or a generator file in, images and their page out."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from gantrain.config.naming import of_root
from gantrain.config.overrides import command_line
from gantrain.config.schema import construct
from gantrain.config.settings import choose_device
from gantrain.data.base import ImageSpec
from gantrain.data.errors import OnError
from gantrain.data.settings import DataSettings
from gantrain.data.stream import in_order
from gantrain.errors import ConfigError, listed, nearest
from gantrain.inference.image_folder import ImageFolder
from gantrain.inference.load import ReadPolicy, load_generator, read_run, rebuild, takes_average
from gantrain.inference.nearest import nearest_in_training
from gantrain.inference.sample import save_samples, wanted_labels
from gantrain.inference.settings import TestSettings
from gantrain.inference.translate import (
    as_input,
    build_like_run,
    check_channels,
    translate_all,
    translated_page,
)
from gantrain.models.base import GAN, LatentGAN
from gantrain.models.translation import Translator
from gantrain.registry import import_plugins
from gantrain.report.pages.page import PAGE
from gantrain.report.pages.results_page import list_results, results_page
from gantrain.report.pages.staging import staging_folder
from gantrain.runtime import console
from gantrain.runtime.directories import refuse_links
from gantrain.training.build import EVALUATION_BATCH

SAMPLES = 64  # The default number of samples.


@dataclass(frozen=True)
class _Job:
    """A test: its settings, the data, and what its page shows."""

    settings: TestSettings  # Of the command.
    other_data: DataSettings | None  # Other data than the run's; None for the run's own.
    data: DataSettings  # The data that is used.
    policy: ReadPolicy  # How its images are read.
    device: torch.device  # Of the model.
    folder: Path  # Receives the results.
    command: str  # As typed.
    name: str  # The title of the page.
    facts: dict[str, str] = field(default_factory=dict)  # Shown on the page.
    config: dict[str, Any] = field(default_factory=dict)  # That of the run.
    # The relative address of the run's page; None for results outside the run folder, which may be moved.
    run: str | None = None


def test(config: dict[str, Any], overrides: list[str], *, data_name: str | None) -> int:
    """``make_results`` as a command, which prints the path of the page and has the exit status 0."""
    console.err(f"Page: {make_results(config, overrides, data_name=data_name)}")
    return 0


def make_results(config: dict[str, Any], overrides: list[str], *, data_name: str | None) -> Path:
    """Generate images with a trained model, and their page.

    Args:
        config: The composed configuration, plain values.
        overrides: As typed, for the page.
        data_name: The name of the data set, if another than the run's was chosen.

    Returns:
        The page.

    Raises:
        ConfigError: The configuration is wrong, or the run can't be tested.
    """
    # The configuration of a data set may also contain how to train on it.
    keys = {
        "data": None,
        **{
            key: value
            for key, value in config.items()
            if key not in ("trainer", "network", "network_defaults", "model")
        },
    }
    settings = construct(TestSettings, keys, key="")
    import_plugins(settings.plugins)
    device = choose_device(settings.accelerator)
    data = DataSettings.split(settings.data) if settings.data is not None else None
    command = command_line("test", overrides)
    _check_used(settings)
    if settings.weights is not None:
        page = _test_weights(Path(settings.weights).expanduser(), settings, data, device, command)
    else:
        run = find_run(settings.run or "", settings.checkpoints_dir)
        page = _test_run(run, settings, data, data_name, device, command)
        with suppress(OSError):  # The run folder may be read-only.
            list_results(run)
    return page


def find_run(run: str, checkpoints_dir: str) -> Path:
    """The folder of a run that is given as a path, or else by its name in ``checkpoints_dir``.

    Raises:
        ConfigError: There is neither.
    """
    path, home = Path(run).expanduser(), Path(checkpoints_dir).expanduser()
    if path.exists():
        return path
    if (home / run).is_dir():
        return home / run
    known = [folder.parent.name for folder in home.glob("*/config.yaml")]
    hint = nearest(path.name, [name for name in known if name.startswith(path.name)] or known)
    raise ConfigError(f"run={run}: no such folder, and no such run in {home}; {hint}")


def _check_used(settings: TestSettings) -> None:
    """Refuse settings that are missing, or that would have no effect."""
    if (settings.run is None) == (settings.weights is None):
        folder = Path(settings.checkpoints_dir).expanduser()
        runs = listed(sorted(str(path.parent) for path in folder.glob("*/config.yaml"))) or "none yet"
        problem = "run is missing" if settings.run is None else "run and weights exclude each other"
        raise ConfigError(f"{problem}: give run={folder / 'NAME'} (available: {runs}) or weights=FILE.pth")
    if settings.run is not None and settings.dropout is not None:
        raise ConfigError(
            f"dropout={settings.dropout} is for weights=FILE.pth: a run has its own, and network_mode=eval turns it off"
        )
    of_runs = {"step": settings.step, "network_weights": settings.network_weights}
    for key, value in of_runs.items() if settings.weights is not None else ():
        if value not in (None, "auto"):
            raise ConfigError(f"{key}={value} is for run=checkpoints/NAME, but weights={settings.weights} was given")


def _test_weights(
    path: Path, settings: TestSettings, data: DataSettings | None, device: torch.device, command: str
) -> Path:
    generator = load_generator(path, settings.direction or "a_to_b", device, dropout=settings.dropout)
    if data is None:
        raise ConfigError("data is missing: weights=FILE.pth comes without any; give data=single data.root=FOLDER")
    folder = Path(settings.out).expanduser() if settings.out is not None else Path("results") / path.stem
    policy = ReadPolicy(0, data.stream.get("on_error") or "raise")
    return _translate(generator, None, _Job(settings, data, data, policy, device, folder, command, path.name))


def _test_run(
    run: Path,
    settings: TestSettings,
    data: DataSettings | None,
    data_name: str | None,
    device: torch.device,
    command: str,
) -> Path:
    state = read_run(run, settings.step, plugins=settings.plugins, trust_plugins=settings.trust_plugins)
    model = rebuild(run, state, device, settings.network_weights)
    own, spec = DataSettings.split(state["config"]["data"]), ImageSpec.from_dict(state["spec"])
    if settings.out is not None:
        folder = Path(settings.out).expanduser()
    else:
        refuse_links(run)
        folder = run / "results" / f"{settings.phase}_{state['step']}"
        if data is not None and replace(data, stream={}) != replace(own, stream={}):
            folder = folder.with_name(f"{folder.name}_{data_name}{of_root(settings.data, data_name)}")
    on_error: OnError = (data or own).stream.get("on_error") or own.stream.get("on_error") or "raise"
    inside = folder.resolve().is_relative_to(run.resolve())
    job = _Job(
        settings,
        data,
        data or own,
        ReadPolicy(state["config"]["seed"], on_error),
        device,
        folder,
        command,
        name=f"{run.name}, step {state['step']}",
        config=state["config"],
        facts={"weights": "moving average" if takes_average(state, settings.network_weights) else "as trained"},
        run=os.path.relpath(run.resolve() / PAGE, folder.resolve()).replace(os.sep, "/") if inside else None,
    )
    if isinstance(model, Translator):
        return _translate(model, spec, job)
    if not isinstance(model, LatentGAN):
        raise ConfigError(f"{run}: {type(model).__name__} has neither `sample` nor `translate`, so it shows no images")
    return _sample(model, spec, job)


def _sample(model: LatentGAN, spec: ImageSpec, job: _Job) -> Path:
    """Save samples and write the page; ``spec`` describes the training images of the run."""
    settings = job.settings
    if settings.direction is not None:
        raise ConfigError(f"direction={settings.direction}: {type(model).__name__} generates images from noise")
    labels = wanted_labels(model, settings.labels, settings.num or SAMPLES)
    metrics = _held_out_metrics(model, spec, job)
    find_nearest, reason = None, ""
    try:
        find_nearest = nearest_in_training(job.config, model, spec)
    except ConfigError as error:  # The data may be elsewhere.
        reason = str(error)
    with staging_folder(job.folder, command=job.command) as part:
        samples = save_samples(
            model, part, num=settings.num or SAMPLES, labels=labels, seed=settings.seed, find_nearest=find_nearest
        )
        results_page(
            part,
            name=job.name,
            command=job.command,
            facts={
                "samples": f"{len(samples.rows)}, of seed {settings.seed}",
                **job.facts,
                **({"nearest training images": reason} if reason else {}),
                **{name: f"{value:.4f}" for name, value in metrics.items()},
            },
            tables={"samples": samples.rows},
            interpolation=samples.interpolation,
            images=samples.images,
            run=job.run,
        )
    return job.folder / PAGE


def _translate(translator: Translator, spec: ImageSpec | None, job: _Job) -> Path:
    """Translate a data set and write the page; ``spec`` describes the training images of the run."""
    settings = job.settings
    if settings.labels is not None:
        raise ConfigError(f"labels={settings.labels}: this model translates images and has no classes")
    if settings.direction not in (None, *translator.directions):
        available = " and ".join(translator.directions)
        raise ConfigError(f"direction={settings.direction}: this model only translates {available}")
    data = as_input(job.data, translator.channels, settings.direction)
    dataset = build_like_run(data, spec, settings.direction, phase=settings.phase, seed=job.policy.seed)
    directions = (settings.direction,) if settings.direction is not None else translator.directions
    if "image" in dataset.spec.channels:  # Images without a domain are translated in one direction only.
        directions = directions[:1]
    for direction in directions:
        check_channels(dataset, direction, translator)
    with staging_folder(job.folder, command=job.command) as part:
        images = ImageFolder(part, run=spec, data=dataset.spec)
        done = {
            direction: translate_all(
                translator,
                dataset,
                direction,
                images,
                num=settings.num,
                batch_size=settings.batch_size,
                network_mode=settings.network_mode,
                policy=job.policy,
            )
            for direction in directions
        }
        facts = job.facts | job.policy.report()
        translated_page(part, done, settings.network_mode, name=job.name, command=job.command, facts=facts, run=job.run)
    return job.folder / PAGE


def _held_out_metrics(model: GAN, spec: ImageSpec, job: _Job) -> dict[str, float]:
    """The model's own metrics on held-out data: the run's if it is available, other data if requested."""
    own = job.other_data is None
    if type(model).evaluate is GAN.evaluate:
        if not own:
            raise ConfigError(f"data: {type(model).__name__} has no metrics on data, so data has no effect")
        return {}
    try:
        dataset = job.data.build(phase="test", seed=job.policy.seed)
    except ConfigError as error:
        if not own:
            raise
        console.err(f"no metrics on held-out data: {error}")
        return {}
    if own and not dataset.held_out:
        return {}
    dataset.use_class_names(spec.class_names)
    if dataset.spec != spec:
        raise ConfigError(
            "data: its image size, channels, depth, range or classes differ from those that the run was trained on"
        )
    dtype, policy = next(model.parameters()).dtype, job.policy
    batches = in_order(dataset, EVALUATION_BATCH, job.device, dtype, on_error=policy.on_error, left_out=policy.left_out)
    metrics = model.evaluate(batches)
    policy.report()
    return metrics
