"""The composition root of prediction: a trained model and images in, translated images out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from gantrain.config.schema import BatchSize, NonNegativeInt, UnitFloat, construct
from gantrain.config.settings import choose_device
from gantrain.data.errors import as_config_error
from gantrain.data.images.convert import as_png, write_pixels
from gantrain.data.images.store import Pixels
from gantrain.errors import ConfigError
from gantrain.inference.image_folder import UniqueNames
from gantrain.inference.load import NetworkWeights, open_model
from gantrain.inference.memory import Memory
from gantrain.inference.model import Model
from gantrain.inference.sources import Input, find_inputs
from gantrain.models.translation import Direction, NetworkMode, Translator
from gantrain.registry import import_plugins
from gantrain.runtime import console
from gantrain.runtime.storage import storage_errors
from gantrain.test import find_run

MOST_WAITING = 1 << 27  # Values of images that wait for others of their size.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """The keys of ``gantrain predict``."""

    run: str | None  # A run folder, or the name of a run in ``checkpoints_dir``.
    checkpoints_dir: str  # The folder that contains the run folders.
    weights: str | None  # Instead of a run, a generator file of pytorch-CycleGAN-and-pix2pix.
    step: NonNegativeInt | Literal["best"] | None  # Of the checkpoint; None for the newest.
    source: str | None  # An image, a folder or a pattern.
    out: str | None  # The folder for the results.
    overwrite: bool  # Whether results that are there already are replaced.
    direction: Direction | None  # None for the first direction of the model.
    batch_size: BatchSize  # Images of one size translated at a time; it only affects rounding.
    network_mode: NetworkMode  # As in ``gantrain test``.
    dropout: UnitFloat | None  # As in ``gantrain test``.
    network_weights: NetworkWeights  # As in ``gantrain test``.
    memory: Memory  # Whether images are translated whole or in strips.
    precision: Literal["float32", "bfloat16", "float16"]  # The last two are autocast.
    accelerator: Literal["auto", "cpu", "cuda", "mps"]  # As in training.
    plugins: list[str]  # Modules that register classes.
    trust_plugins: bool  # Also import the modules that the run's checkpoint names.

    def __post_init__(self) -> None:
        if (self.run is None) == (self.weights is None):
            problem = "run is missing" if self.run is None else "run and weights exclude each other"
            raise ConfigError(f"{problem}: give run={self.checkpoints_dir}/NAME or weights=FILE.pth")
        if self.run is not None and self.dropout is not None:
            raise ConfigError(
                f"dropout={self.dropout} is for weights=FILE.pth: network_mode=eval turns off that of a run"
            )
        if self.out is None:
            raise ConfigError("out is missing: give out=FOLDER")


class _Work(NamedTuple):
    """An image that was read, and the file for its translation."""

    name: str
    pixels: Pixels
    path: Path


def predict(config: dict[str, Any]) -> int:
    """Apply a trained model to images, and write the results.

    Args:
        config: The composed configuration, plain values.

    Returns:
        Exit status: 1 if an image could not be read, else 0.

    Raises:
        ConfigError: The configuration is wrong, or a result would overwrite a file.
    """
    settings = construct(PredictSettings, config, key="")
    import_plugins(settings.plugins)
    model = _open(settings)
    if settings.source is None:
        raise ConfigError("source is missing: give source=IMAGE, a folder, or a pattern in quotation marks")
    direction = model.direction(settings.direction)
    inputs = find_inputs(settings.source)
    target = model.format_of(direction[-1])
    suffix = ".png" if as_png(target.depth, target.channels) else ".npy"
    paths = _paths(inputs, Path(settings.out or "").expanduser(), suffix)
    if not settings.overwrite:
        _refuse_existing(paths)
    unreadable: list[str] = []
    with console.bar(direction, total=len(inputs), unit="image", dynamic_ncols=True) as bar:
        for batch in _batches(_read(model, direction, inputs, paths, unreadable), settings.batch_size):
            images = [work.pixels for work in batch]
            names = [work.name for work in batch]
            results = model.translate_pixels(
                images, direction, names=names, network_mode=settings.network_mode, memory=settings.memory
            )
            for work, result in zip(batch, results, strict=True):
                with storage_errors(f"write {work.path}"):
                    write_pixels(work.path, result)
            bar.update(len(batch))
    for line in unreadable:
        console.err(f"left out: {line}")
    console.err(f"{len(inputs) - len(unreadable)} of {len(inputs)} images translated {direction}: {settings.out}")
    return 1 if unreadable else 0


def _open(settings: PredictSettings) -> Model:
    path = (
        Path(settings.weights).expanduser()
        if settings.weights
        else find_run(settings.run or "", settings.checkpoints_dir)
    )
    if settings.weights and not path.is_file():
        raise ConfigError(f"weights={settings.weights}: there is no such file")
    model = open_model(
        path,
        choose_device(settings.accelerator),
        step=settings.step,
        network_weights=settings.network_weights,
        plugins=settings.plugins,
        trust_plugins=settings.trust_plugins,
        direction=settings.direction or "a_to_b",
        dropout=settings.dropout,
        autocast=PRECISIONS[settings.precision],
    )
    if not isinstance(model.module, Translator):
        raise ConfigError(f"{path}: {type(model.module).__name__} translates no images")
    return model


def _paths(inputs: Iterable[Input], folder: Path, suffix: str) -> list[Path]:
    """The file for each result. A result never replaces one of the images."""
    names = UniqueNames()
    paths = [folder / f"{names[each.name]}{suffix}" for each in inputs]
    sources = {Path(each.location).resolve() for each in inputs}
    for path in paths:
        if path.resolve() in sources:
            raise ConfigError(f"out={folder}: the result would replace the image {path}; give another folder")
    return paths


def _refuse_existing(paths: list[Path]) -> None:
    there = [path for path in paths if path.exists()]
    if there:
        raise ConfigError(
            f"out: {len(there)} of {len(paths)} results exist already, like {there[0]}: give another out=FOLDER, or "
            "overwrite=true"
        )


def _read(
    model: Model, direction: Direction, inputs: Iterable[Input], paths: Iterable[Path], unreadable: list[str]
) -> Iterator[_Work]:
    """The images that can be read; the error messages of the others are added to ``unreadable``."""
    for each, path in zip(inputs, paths, strict=True):
        try:
            with as_config_error(f"read the image {each.location}"):
                pixels = model.read(each.content, direction, each.location)
        except ConfigError as error:
            unreadable.append(str(error))
        else:
            yield _Work(each.name, pixels, path)


def _batches(works: Iterable[_Work], size: int) -> Iterator[list[_Work]]:
    """Batches of images of the same size and type, whatever their order."""
    waiting: dict[object, list[_Work]] = {}
    values = 0
    for work in works:
        key = work.pixels.shape, work.pixels.dtype
        waiting.setdefault(key, []).append(work)
        values += work.pixels.size
        if values > MOST_WAITING:
            yield from waiting.values()
            waiting, values = {}, 0
        elif len(waiting[key]) == size:
            yield waiting.pop(key)
            values -= size * work.pixels.size
    yield from waiting.values()
