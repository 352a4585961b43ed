"""The composition root of testing: a run in, its generator loaded, pictures and their page out."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gantrain.build import EVALUATION_BATCH, STREAM_KEYS, build_dataset, build_model
from gantrain.checkpoint import Checkpoints
from gantrain.data.base import ImageSpec
from gantrain.data.stream import in_order
from gantrain.models.base import COLUMNS, GAN, LatentGAN
from gantrain.optim import Averages
from gantrain.registry import MODELS, ConfigError, Count, Positive, construct
from gantrain.report.images import grid, to_picture
from gantrain.report.page import results_page
from gantrain.resume import command
from gantrain.settings import choose_device, import_plugins

INTERPOLATIONS = 5  # rows of the interpolation grid
BATCH = 100  # samples made at a time


@dataclass(frozen=True, kw_only=True)
class TestSettings:
    """The keys of ``gantrain test``.

    Attributes:
        run: A run folder.
        step: Which of its checkpoints; None for the newest.
        out: Folder for the results; None for ``results/test_<step>`` in the run folder.
        num: How many samples, rounded up so that every class gets as many.
        labels: Class numbers to make; None for all.
        seed: Of the noise.
        network_weights: ``average`` are the moving averages, ``last`` the trained weights; ``auto`` takes the averages
            if the run kept any.
        accelerator: As in training.
        plugins: Modules that register classes.
        data: Other data than the run's, for the figures of models that have any; None for the run's own.
    """

    __test__ = False  # not a test of pytest's

    run: str | None
    step: Count | None
    out: str | None
    num: Positive
    labels: list[Count] | None
    seed: Count
    network_weights: Literal["auto", "average", "last"]
    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    plugins: list[str]
    data: dict[str, Any] | None


def load(
    run: str | Path,
    *,
    step: int | None = None,
    device: str = "cpu",
    network_weights: Literal["auto", "average", "last"] = "auto",
    plugins: list[str] | None = None,
) -> GAN:
    """The trained model of a run, in evaluation mode, ready for ``sample``.

    >>> gan = gantrain.load("checkpoints/dcgan_digits")
    >>> images = gan.sample(gan.latents(64, seed=0))  # (64, 1, 32, 32) in [-1, 1]

    Args:
        run: A run folder.
        step: Which of its checkpoints; None for the newest.
        device: Where to put it.
        network_weights: ``average``, ``last``, or ``auto``: the averages if the run kept any.
        plugins: Modules that register classes.

    Raises:
        ConfigError: There is no such run, or it can't be rebuilt.
    """
    import_plugins(plugins or [])
    return _rebuild(_read(Path(run).expanduser(), step), choose_device(device), network_weights)


def test(config: dict[str, Any], overrides: list[str], *, data_name: str | None) -> int:
    """Make pictures with a trained model, and their page.

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
    if settings.data is not None:
        settings = replace(settings, data=_without_stream(settings.data))
    if settings.run is None:
        runs = ", ".join(sorted(str(path.parent) for path in Path("checkpoints").glob("*/config.yaml"))) or "none yet"
        raise ConfigError(f"run is missing: give run=checkpoints/NAME (there are: {runs})")
    run = Path(settings.run).expanduser()
    device = choose_device(settings.accelerator)
    import_plugins(settings.plugins)
    state = _read(run, settings.step)
    model = _rebuild(state, device, settings.network_weights)
    if not isinstance(model, LatentGAN):
        raise ConfigError(f"{run}: gantrain test can't show a {type(model).__name__} yet")
    labels = _labels(model, settings)
    figures = _figures(model, state, settings, device)

    folder = Path(settings.out).expanduser() if settings.out is not None else run / "results" / f"test_{state['step']}"
    if settings.out is None and settings.data not in (None, _own_data(state)):
        folder = folder.with_name(f"{folder.name}_{data_name}")
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    for old in (folder / "samples").glob("[0-9]*.png"):  # else those of an earlier call would count as of this one
        old.unlink()
    latent = model.latents(len(labels) if labels is not None else settings.num, seed=settings.seed).to(device)
    samples = _sample(model, latent, labels)
    for number, image in enumerate(samples):
        kind = f"_{model.spec.class_names[int(labels[number])]}" if labels is not None else ""
        to_picture(image).save(folder / "samples" / f"{number:05}{_safe(kind)}.png")
    columns = min(COLUMNS, math.isqrt(len(samples))) if labels is None else len(labels) // len(labels.unique())
    pictures = {"samples": folder / "grid.png", "interpolations": folder / "interpolations.png"}
    grid(samples, columns).save(pictures["samples"])
    grid(_interpolations(model, settings.seed, labels), COLUMNS).save(pictures["interpolations"])
    for name, images in model.visuals({}).items():
        pictures[f"{name}, from the noise of the training page"] = folder / f"training_{name}.png"
        grid(images, COLUMNS).save(folder / f"training_{name}.png")
    results_page(
        folder,
        name=f"{run.name}, step {state['step']}",
        command=command(overrides).replace("gantrain train", "gantrain test", 1),
        facts={
            "samples": f"{len(samples)}, of seed {settings.seed}",
            "weights": "moving average" if _takes_average(state, settings.network_weights) else "as trained",
            **{name: f"{value:.4f}" for name, value in figures.items()},
        },
        pictures=pictures,
    )
    print(f"Page: {folder / 'index.html'}", file=sys.stderr)
    return 0


def _read(run: Path, step: int | None) -> dict[str, Any]:
    if not run.is_dir():
        raise ConfigError(f"run={run}: there is no such folder")
    return Checkpoints(run).load(step)


def _takes_average(state: dict[str, Any], network_weights: str) -> bool:
    kept = state["updates"]["averages"] is not None
    if network_weights == "average" and not kept:
        raise ConfigError("network_weights=average: this run kept no averages (model.ema was 0); use last")
    return kept and network_weights != "last"


def _rebuild(state: dict[str, Any], device: torch.device, network_weights: str) -> GAN:
    """The model that a checkpoint describes, with its weights."""
    config = state["config"]
    if config["model"]["name"] not in MODELS and config["plugins"]:
        # never imported because a file says so, only because the user does
        raise ConfigError(f"this run was trained with plugins: give plugins=[{','.join(config['plugins'])}] again")
    model = build_model(config, model_spec(state))
    if config["trainer"]["precision"] == "float64":
        model.double()
    model.load_state_dict(state["model"])
    if _takes_average(state, network_weights):
        averages = Averages(model.generators(), decay=0.0)
        averages.load_state_dict(state["updates"]["averages"])
        averages.swap()
    return model.requires_grad_(False).eval().to(device)


def _labels(model: LatentGAN, settings: TestSettings) -> Tensor | None:
    """(N,), each wanted class as often as any other; None for models without labels."""
    if not model.uses_labels:
        if settings.labels is not None:
            raise ConfigError(f"labels={settings.labels}: this model makes images without labels")
        return None
    wanted = settings.labels if settings.labels is not None else list(range(model.spec.num_classes))
    if not wanted or max(wanted) >= model.spec.num_classes:
        raise ConfigError(f"labels={settings.labels}: name some of the classes 0 to {model.spec.num_classes - 1}")
    return torch.tensor(wanted).repeat_interleave(math.ceil(settings.num / len(wanted)))


def _sample(model: LatentGAN, latent: Tensor, labels: Tensor | None) -> Tensor:
    parts = []
    for start in range(0, len(latent), BATCH):
        of_batch = None if labels is None else labels[start : start + BATCH].to(latent.device)
        parts.append(model.sample(latent[start : start + BATCH], of_batch).cpu())
    return torch.cat(parts)


def _interpolations(model: LatentGAN, seed: int, labels: Tensor | None) -> Tensor:
    """Rows of ``COLUMNS`` images on the way from one latent vector to another, each row of one class."""
    device = next(model.parameters()).device
    ends = model.latents(2 * INTERPOLATIONS, seed=seed + 1).to(device)
    share = torch.linspace(0, 1, COLUMNS, device=device, dtype=ends.dtype)[None, :, None]
    start, end = ends[:INTERPOLATIONS, None], ends[INTERPOLATIONS:, None]
    between = start + share * (end - start)
    if model.noise == "normal":
        # keep the variance of the noise, which the midpoint of two draws would halve
        noise = slice(model.latent_dim)  # and not that of codes
        between[..., noise] /= (share.square() + (1 - share).square()).sqrt()
    rows = None
    if labels is not None:
        classes = labels.unique()
        rows = classes[torch.arange(INTERPOLATIONS) % len(classes)].repeat_interleave(COLUMNS)
    return _sample(model, between.flatten(0, 1), rows)


def _figures(model: GAN, state: dict[str, Any], settings: TestSettings, device: torch.device) -> dict[str, float]:
    """The model's own figures on held-out data: on the run's own if it is at hand, on other data if asked for."""
    own = settings.data is None
    if type(model).evaluate is GAN.evaluate:
        if not own:
            raise ConfigError(f"data: {type(model).__name__} has no figures on data, so there is nothing to do with it")
        return {}
    try:
        dataset = build_dataset(settings.data or _own_data(state), phase="test")
    except ConfigError as error:
        if not own:
            raise
        print(f"no figures on held-out data: {error}", file=sys.stderr)
        return {}
    if own and not dataset.held_out:
        return {}
    if dataset.spec != model_spec(state):
        raise ConfigError("data: its image size, channels or classes are not those that the run was trained on")
    dtype = next(model.parameters()).dtype
    return model.evaluate(in_order(dataset, EVALUATION_BATCH, device, dtype))


def _own_data(state: dict[str, Any]) -> dict[str, Any]:
    """What the run was trained on, as a data configuration names it."""
    return _without_stream(state["config"]["data"])


def _without_stream(data: dict[str, Any]) -> dict[str, Any]:
    """The keys of the data set alone."""
    return {key: value for key, value in data.items() if key not in STREAM_KEYS}


def model_spec(state: dict[str, Any]) -> ImageSpec:
    """What the training images of a checkpoint were."""
    return ImageSpec.from_dict(state["spec"])


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
