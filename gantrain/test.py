"""The composition root of testing: a run or a generator file in, images and their page out."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from gantrain.config.naming import of_root
from gantrain.config.overrides import command_line
from gantrain.config.schema import NonNegativeInt, PositiveInt, UnitFloat, construct
from gantrain.config.settings import choose_device
from gantrain.data.base import ImageDataset, ImageSpec
from gantrain.data.errors import OnError
from gantrain.data.settings import DataSettings
from gantrain.data.stream import in_order
from gantrain.errors import ConfigError
from gantrain.inference.load import (
    NetworkWeights,
    ReadPolicy,
    load_generator,
    own_data,
    read_run,
    rebuild,
    takes_average,
    trained_on,
)
from gantrain.inference.sample import save_samples, wanted_labels
from gantrain.inference.translate import (
    ImageFolder,
    Translated,
    as_input,
    check_channels,
    translate_all,
    translated_page,
)
from gantrain.models.base import GAN, LatentGAN
from gantrain.models.translation import Direction, NetworkMode, Translator
from gantrain.registry import import_plugins
from gantrain.report.pages.page import PAGE
from gantrain.report.pages.results_page import list_results, results_page
from gantrain.report.pages.staging import staging_folder
from gantrain.training.build import EVALUATION_BATCH

SAMPLES = 64  # The default number of samples.


@dataclass(frozen=True, kw_only=True)
class TestSettings:
    """The keys of ``gantrain test``.

    Attributes:
        run: A run folder, or the name of a run in ``checkpoints_dir``.
        checkpoints_dir: The folder that holds the run folders.
        weights: Instead of a run, a generator file of pytorch-CycleGAN-and-pix2pix.
        step: The step of one of the run's checkpoints, or ``best``; None for the newest.
        out: Folder for the results; None for ``results/<phase>_<step>`` in the run folder, or ``results/<file stem>``.
            Results of an earlier call are replaced once the new ones are complete.
        num: How many samples, rounded up so that every class gets as many; or how many images to translate, None for
            all.
        labels: The class numbers to generate; None for all.
        seed: Of the noise.
        direction: In which to translate; None for every direction of the model.
        phase: The phase of the data that is translated.
        batch_size: Images translated at a time in ``network_mode=eval``, where results depend on it by rounding only;
            with ``train`` they are translated one by one.
        network_mode: ``train`` keeps dropout and takes batch norm's statistics from each image, as pix2pix does.
        dropout: Of a U-Net given as ``weights``, whose file does not contain it; None for that of pix2pix.
        network_weights: ``average`` are the moving averages, ``last`` the trained weights; ``auto`` takes the averages
            if the run has any.
        accelerator: As in training.
        plugins: Modules that register classes.
        trust_plugins: Also import those that the run's checkpoint names.
        data: Other data than the run's; None for the run's own.
    """

    __test__ = False  # pytest must not collect it.

    run: str | None
    checkpoints_dir: str
    weights: str | None
    step: NonNegativeInt | Literal["best"] | None
    out: str | None
    num: PositiveInt | None
    labels: list[NonNegativeInt] | None
    seed: NonNegativeInt
    direction: Direction | None
    phase: str
    batch_size: PositiveInt
    network_mode: NetworkMode
    dropout: UnitFloat | None
    network_weights: NetworkWeights
    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    plugins: list[str]
    trust_plugins: bool
    data: dict[str, Any] | None


@dataclass(frozen=True)
class _Test:
    """What all kinds of tests share: the settings, other data than the run's if given, the device and the command."""

    settings: TestSettings
    data: DataSettings | None
    data_name: str | None
    device: torch.device
    command: str


def test(config: dict[str, Any], overrides: list[str], *, data_name: str | None) -> int:
    """Generate images with a trained model, and their page.

    Args:
        config: The composed configuration, plain values.
        overrides: As typed, for the page.
        data_name: The name of the data set, if another than the run's was chosen.

    Returns:
        Exit status 0.

    Raises:
        ConfigError: The configuration is wrong, or the run can't be tested.
    """
    # The configuration of a data set may also contain how to train on it.
    keys = {"data": None, **{key: value for key, value in config.items() if key not in ("trainer", "network", "model")}}
    settings = construct(TestSettings, keys, key="")
    import_plugins(settings.plugins)
    shared = _Test(
        settings=settings,
        data=DataSettings.split(settings.data) if settings.data is not None else None,
        data_name=data_name,
        device=choose_device(settings.accelerator),
        command=command_line("test", overrides),
    )
    _check_used(settings)
    if settings.weights is not None:
        page = _test_weights(Path(settings.weights).expanduser(), shared)
    else:
        run = find_run(settings.run or "", settings.checkpoints_dir)
        page = _test_run(run, shared)
        with suppress(OSError):  # The run folder may be read-only.
            list_results(run)
    print(f"Page: {page}", file=sys.stderr)
    return 0


def find_run(run: str, checkpoints_dir: str) -> Path:
    """The folder of a run that is given as a path, or else by its name in ``checkpoints_dir``."""
    path, named = Path(run).expanduser(), Path(checkpoints_dir).expanduser() / run
    return named if not path.exists() and named.is_dir() else path


def _check_used(settings: TestSettings) -> None:
    """Refuse settings that are missing, or that would have no effect."""
    if (settings.run is None) == (settings.weights is None):
        folder = Path(settings.checkpoints_dir).expanduser()
        runs = ", ".join(sorted(str(path.parent) for path in folder.glob("*/config.yaml"))) or "none yet"
        problem = "run is missing" if settings.run is None else "run and weights exclude each other"
        raise ConfigError(f"{problem}: give run={folder / 'NAME'} (available: {runs}) or weights=FILE.pth")
    if settings.run is not None and settings.dropout is not None:
        raise ConfigError(
            f"dropout={settings.dropout} is for weights=FILE.pth: a run has its own, and network_mode=eval turns it off"
        )
    of_runs = {"step": settings.step, "network_weights": settings.network_weights}
    for key, value in of_runs.items() if settings.weights is not None else ():
        if value not in (None, "auto"):
            raise ConfigError(
                f"{key}={value} is for run=checkpoints/NAME: weights={settings.weights} holds a single network"
            )


def _test_weights(path: Path, shared: _Test) -> Path:
    settings, data = shared.settings, shared.data
    generator = load_generator(path, settings.direction or "a_to_b", shared.device, dropout=settings.dropout)
    if data is None:
        raise ConfigError("data is missing: weights=FILE.pth comes without any; give data=single data.root=FOLDER")
    folder = Path(settings.out).expanduser() if settings.out is not None else Path("results") / path.stem
    policy = ReadPolicy(0, data.stream.get("on_error") or "raise")
    page = _PageFacts(name=path.name, facts={}, run=None)
    return _translate(generator, None, folder, shared, data, policy, page)


def _test_run(run: Path, shared: _Test) -> Path:
    settings = shared.settings
    state = read_run(run, settings.step, plugins=settings.plugins, trust_plugins=settings.trust_plugins)
    model = rebuild(run, state, shared.device, settings.network_weights)
    own = own_data(state)
    data = shared.data or own
    if settings.out is not None:
        folder = Path(settings.out).expanduser()
    else:
        folder = run / "results" / f"{settings.phase}_{state['step']}"
        if replace(data, stream={}) != replace(own, stream={}):
            folder = folder.with_name(f"{folder.name}_{shared.data_name}{of_root(settings.data, shared.data_name)}")
    on_error: OnError = data.stream.get("on_error") or own.stream.get("on_error") or "raise"
    policy = ReadPolicy(state["config"]["seed"], on_error)
    weights = "moving average" if takes_average(state, settings.network_weights) else "as trained"
    page = _PageFacts(
        name=f"{run.name}, step {state['step']}", facts={"weights": weights}, run=_link_to_run(run, folder)
    )
    if isinstance(model, Translator):
        return _translate(model, trained_on(state), folder, shared, data, policy, page)
    if not isinstance(model, LatentGAN):
        raise ConfigError(f"{run}: {type(model).__name__} has neither `sample` nor `translate`, so it shows no images")
    return _sample(model, state, folder, shared, policy, page)


@dataclass(frozen=True)
class _PageFacts:
    """Name, facts and link to the run for the page of results."""

    name: str
    facts: dict[str, str]
    run: str | None


def _link_to_run(run: Path, folder: Path) -> str | None:
    """The relative address of the run's page for results inside the run folder; others may be moved away from it."""
    inside = folder.resolve().is_relative_to(run.resolve())
    return "/".join([".."] * len(folder.resolve().relative_to(run.resolve()).parts) + [PAGE]) if inside else None


def _sample(
    model: LatentGAN, state: dict[str, Any], folder: Path, shared: _Test, policy: ReadPolicy, page: _PageFacts
) -> Path:
    """Save samples and write the page."""
    settings = shared.settings
    if settings.direction is not None:
        raise ConfigError(f"direction={settings.direction}: {type(model).__name__} generates images from noise")
    labels = wanted_labels(model, settings.labels, settings.num or SAMPLES)
    metrics = _held_out_metrics(model, state, shared, policy)
    with staging_folder(folder, command=shared.command) as part:
        samples = save_samples(model, part, num=settings.num or SAMPLES, labels=labels, seed=settings.seed)
        facts = {
            "samples": f"{len(samples.rows)}, of seed {settings.seed}",
            **page.facts,
            **{name: f"{value:.4f}" for name, value in metrics.items()},
        }
        results_page(
            part,
            name=page.name,
            command=shared.command,
            facts=facts,
            tables={"samples": samples.rows},
            interpolation=samples.interpolation,
            images=samples.images,
            run=page.run,
        )
    return folder / PAGE


def _translate(
    translator: Translator,
    spec: ImageSpec | None,
    folder: Path,
    shared: _Test,
    data: DataSettings,
    policy: ReadPolicy,
    page: _PageFacts,
) -> Path:
    """Translate a data set and write the page; ``spec`` describes the training images of the run."""
    settings = shared.settings
    if settings.labels is not None:
        raise ConfigError(f"labels={settings.labels}: this model translates images and has no classes")
    if settings.direction not in (None, *translator.directions):
        available = " and ".join(translator.directions)
        raise ConfigError(f"direction={settings.direction}: this model only translates {available}")
    data = as_input(data, translator.channels, settings.direction)
    dataset = data.build(phase=settings.phase, seed=policy.seed)
    done: dict[Direction, Translated] = {}
    with staging_folder(folder, command=shared.command) as part:
        images = ImageFolder(part, run=spec, data=dataset.spec)
        for direction in _directions(translator, dataset, settings.direction):
            done[direction] = translate_all(
                translator,
                dataset,
                direction,
                images,
                num=settings.num,
                batch_size=settings.batch_size,
                network_mode=settings.network_mode,
                policy=policy,
            )
        facts = page.facts | policy.report()
        translated_page(
            part, done, settings.network_mode, name=page.name, command=shared.command, facts=facts, run=page.run
        )
    return folder / PAGE


def _directions(translator: Translator, dataset: ImageDataset, wanted: Direction | None) -> tuple[Direction, ...]:
    """The directions to translate in; images without a domain are translated in one only."""
    directions = (wanted,) if wanted is not None else translator.directions
    if "image" in dataset.spec.channels:
        directions = directions[:1]
    for direction in directions:
        check_channels(dataset, direction, translator)
    return directions


def _held_out_metrics(model: GAN, state: dict[str, Any], shared: _Test, policy: ReadPolicy) -> dict[str, float]:
    """The model's own metrics on held-out data: the run's if it is available, other data if requested."""
    own = shared.data is None
    if type(model).evaluate is GAN.evaluate:
        if not own:
            raise ConfigError(f"data: {type(model).__name__} has no metrics on data, so data has no effect")
        return {}
    try:
        dataset = (shared.data or own_data(state)).build(phase="test", seed=policy.seed)
    except ConfigError as error:
        if not own:
            raise
        print(f"no metrics on held-out data: {error}", file=sys.stderr)
        return {}
    if own and not dataset.held_out:
        return {}
    if dataset.spec != trained_on(state):
        raise ConfigError("data: its image size, channels or classes differ from those that the run was trained on")
    dtype = next(model.parameters()).dtype
    batches = in_order(
        dataset, EVALUATION_BATCH, shared.device, dtype, on_error=policy.on_error, left_out=policy.left_out
    )
    metrics = model.evaluate(batches)
    policy.report()
    return metrics
