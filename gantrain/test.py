"""The composition root of testing: a run or a bare generator in, images and their page out."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from gantrain.config.naming import of_root
from gantrain.config.overrides import command
from gantrain.config.schema import NonNegativeInt, PositiveInt, UnitFloat, checked, construct
from gantrain.config.settings import choose_device
from gantrain.data.base import ImageSpec
from gantrain.data.errors import OnError
from gantrain.data.stream import in_order
from gantrain.errors import ConfigError
from gantrain.inference.load import (
    NetworkWeights,
    Reading,
    load_generator,
    own_data,
    read_run,
    rebuild,
    takes_average,
    trained_on,
    without_stream,
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
from gantrain.training.build import EVALUATION_BATCH, build_dataset

SAMPLES = 64  # where nobody says how many


@dataclass(frozen=True, kw_only=True)
class TestSettings:
    """The keys of ``gantrain test``.

    Attributes:
        run: A run folder.
        weights: Instead of a run, a bare generator of pytorch-CycleGAN-and-pix2pix.
        step: Which of the run's checkpoints, or ``best``; None for the newest.
        out: Folder for the results; None for ``results/<phase>_<step>`` in the run folder, or ``results/<file stem>``.
            Those of an earlier call are replaced when the new ones are complete.
        num: How many samples, rounded up so that every class gets as many; or how many images to translate, None for
            all.
        labels: Class numbers to make; None for all.
        seed: Of the noise.
        direction: Which generator translates; None for every one there is.
        phase: Which part of the data is translated.
        batch_size: Images translated at a time in ``network_mode=eval``, where results depend on it by rounding alone;
            ``train`` translates one by one.
        network_mode: ``train`` leaves dropout on and takes batch norm's statistics from each image, as pix2pix does.
        dropout: Of a U-Net given as ``weights``, whose file does not show it; None for pix2pix's.
        network_weights: ``average`` are the moving averages, ``last`` the trained weights; ``auto`` takes the averages
            if the run kept any.
        accelerator: As in training.
        plugins: Modules that register classes.
        trust_plugins: Import those too that the run's checkpoint names.
        data: Other data than the run's; None for the run's own.
    """

    __test__ = False  # not a test of pytest's

    run: str | None
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


def test(config: dict[str, Any], overrides: list[str], *, data_name: str | None) -> int:
    """Make images with a trained model, and their page.

    Args:
        config: The composed configuration, plain values.
        overrides: As typed, for the page.
        data_name: The data set's name, if another than the run's was chosen.

    Returns:
        Exit status 0.

    Raises:
        ConfigError: Something in the configuration can't be had.
    """
    # a data set's configuration may also say how to train on it
    keys = {"data": None, **{key: value for key, value in config.items() if key not in ("trainer", "network", "model")}}
    settings = construct(TestSettings, keys, key="")
    on_error = checked((settings.data or {}).get("on_error"), OnError | None, "data.on_error")
    if settings.data is not None:
        settings = replace(settings, data=without_stream(settings.data))
    typed = command(overrides).replace("gantrain train", "gantrain test", 1)
    import_plugins(settings.plugins)
    device = choose_device(settings.accelerator)
    if (settings.run is None) == (settings.weights is None):
        runs = ", ".join(sorted(str(path.parent) for path in Path("checkpoints").glob("*/config.yaml"))) or "none yet"
        missing = "run is missing" if settings.run is None else "run and weights exclude each other"
        raise ConfigError(f"{missing}: give run=checkpoints/NAME (there are: {runs}) or weights=FILE.pth")
    _check_used(settings)
    if settings.weights is not None:
        page = _test_weights(Path(settings.weights).expanduser(), settings, device, typed, on_error)
    else:
        page = _test_run(Path(settings.run or "").expanduser(), settings, device, typed, data_name, on_error)
    if settings.run is not None:
        with suppress(OSError):  # it may be for reading only
            list_results(Path(settings.run).expanduser())
    print(f"Page: {page}", file=sys.stderr)
    return 0


def _check_used(settings: TestSettings) -> None:
    """Refuse what would change nothing."""
    if settings.run is not None and settings.dropout is not None:
        raise ConfigError(
            f"dropout={settings.dropout} is for weights=FILE.pth: a run has its own, and network_mode=eval turns it off"
        )
    of_runs = {"step": settings.step, "network_weights": settings.network_weights}
    for key, value in of_runs.items() if settings.weights is not None else ():
        if value not in (None, "auto"):
            raise ConfigError(f"{key}={value} is for run=checkpoints/NAME: weights={settings.weights} is one network")


def _test_weights(
    path: Path, settings: TestSettings, device: torch.device, typed: str, on_error: OnError | None
) -> Path:
    generator = load_generator(path, settings.direction or "a_to_b", device, dropout=settings.dropout)
    if settings.data is None:
        raise ConfigError(
            "data is missing: a bare generator knows of none; give data=single data.root=FOLDER, or others"
        )
    folder = Path(settings.out).expanduser() if settings.out is not None else Path("results") / path.stem
    data, reading = settings.data, Reading(0, on_error or "raise")
    return _translate(generator, None, folder, settings, data, reading, name=path.name, typed=typed, facts={})


def _test_run(
    run: Path,
    settings: TestSettings,
    device: torch.device,
    typed: str,
    data_name: str | None,
    on_error: OnError | None,
) -> Path:
    state = read_run(run, settings.step, plugins=settings.plugins, trust_plugins=settings.trust_plugins)
    model = rebuild(run, state, device, settings.network_weights)
    folder = Path(settings.out).expanduser() if settings.out is not None else None
    if folder is None:
        folder = run / "results" / f"{settings.phase}_{state['step']}"
        if settings.data not in (None, own_data(state)):
            folder = folder.with_name(f"{folder.name}_{data_name}{of_root(settings.data, data_name)}")
    name = f"{run.name}, step {state['step']}"
    reading = Reading(state["config"]["seed"], on_error or state["config"]["data"].get("on_error", "raise"))
    weights = "moving average" if takes_average(state, settings.network_weights) else "as trained"
    if isinstance(model, Translator):
        spec = trained_on(state)
        data = settings.data or own_data(state)
        facts = {"weights": weights}
        return _translate(model, spec, folder, settings, data, reading, name=name, typed=typed, facts=facts)
    if not isinstance(model, LatentGAN):
        raise ConfigError(f"{run}: a {type(model).__name__} has neither `sample` nor `translate`, so it shows nothing")
    if settings.direction is not None:
        raise ConfigError(f"direction={settings.direction}: {type(model).__name__} makes images from noise")
    labels = wanted_labels(model, settings.labels, settings.num or SAMPLES)
    figures = _figures(model, state, settings, device, reading)
    with staging_folder(folder, command=typed) as part:
        made = save_samples(model, part, num=settings.num or SAMPLES, labels=labels, seed=settings.seed)
        facts = {
            "samples": f"{len(made.rows)}, of seed {settings.seed}",
            "weights": weights,
            **{figure: f"{value:.4f}" for figure, value in figures.items()},
        }
        results_page(
            part,
            name=name,
            command=typed,
            facts=facts,
            tables={"samples": made.rows},
            interpolation=made.walk,
            images=made.images,
            run=_way_to(run, folder),
        )
    return folder / "index.html"


def _way_to(run: Path, folder: Path) -> str | None:
    """The address of a run's page, seen from results that lie in its folder; others may be moved apart from it."""
    inside = folder.resolve().is_relative_to(run.resolve())
    return "/".join([".."] * len(folder.resolve().relative_to(run.resolve()).parts) + [PAGE]) if inside else None


def _translate(
    translator: Translator,
    spec: ImageSpec | None,
    folder: Path,
    settings: TestSettings,
    data: dict[str, Any],
    reading: Reading,
    *,
    name: str,
    typed: str,
    facts: dict[str, str],
) -> Path:
    """Translate a data set and write the page; ``spec`` is of the images that the run was trained on."""
    if settings.labels is not None:
        raise ConfigError(f"labels={settings.labels}: this model translates images, which have none")
    if settings.direction not in (None, *translator.directions):
        knows = " and ".join(translator.directions)
        raise ConfigError(f"direction={settings.direction}: this model knows only {knows}")
    directions = (settings.direction,) if settings.direction is not None else translator.directions
    data = as_input(data, translator.channels, settings.direction)
    dataset = build_dataset(data, phase=settings.phase, seed=reading.seed)
    plain = "image" in dataset.spec.channels  # of no domain, so it goes one way
    directions = directions[:1] if plain else directions
    for direction in directions:
        check_channels(dataset, direction, translator)
    done: dict[Direction, Translated] = {}
    with staging_folder(folder, command=typed) as part:
        images = ImageFolder(part, run=spec, data=dataset.spec)
        for direction in directions:
            done[direction] = translate_all(
                translator,
                dataset,
                direction,
                images,
                num=settings.num,
                batch_size=settings.batch_size,
                network_mode=settings.network_mode,
                reading=reading,
            )
        facts = facts | reading.told()
        way = _way_to(Path(settings.run).expanduser(), folder) if settings.run is not None else None
        translated_page(part, done, settings.network_mode, name=name, typed=typed, facts=facts, run=way)
    return folder / "index.html"


def _figures(
    model: GAN, state: dict[str, Any], settings: TestSettings, device: torch.device, reading: Reading
) -> dict[str, float]:
    """The model's own figures on held-out data: on the run's own if it is at hand, on other data if asked for."""
    own = settings.data is None
    if type(model).evaluate is GAN.evaluate:
        if not own:
            raise ConfigError(f"data: {type(model).__name__} has no figures on data, so there is nothing to do with it")
        return {}
    try:
        dataset = build_dataset(settings.data or own_data(state), phase="test", seed=reading.seed)
    except ConfigError as error:
        if not own:
            raise
        print(f"no figures on held-out data: {error}", file=sys.stderr)
        return {}
    if own and not dataset.held_out:
        return {}
    if dataset.spec != trained_on(state):
        raise ConfigError("data: its image size, channels or classes are not those that the run was trained on")
    dtype = next(model.parameters()).dtype
    batches = in_order(dataset, EVALUATION_BATCH, device, dtype, on_error=reading.on_error, left_out=reading.left_out)
    figures = model.evaluate(batches)
    reading.told()
    return figures
