"""The composition root of prediction: a trained model, and images or noise, in; images out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gantrain.config.schema import construct
from gantrain.config.settings import choose_device
from gantrain.data.errors import as_config_error
from gantrain.data.images.convert import as_png, stored_pixels, write_pixels
from gantrain.data.images.store import Pixels
from gantrain.errors import ConfigError
from gantrain.inference.load import open_model
from gantrain.inference.model import Model
from gantrain.inference.results import Results, results_of
from gantrain.inference.sample import sample_name, sampled, truncated, walks_between, wanted_labels
from gantrain.inference.settings import PredictSettings
from gantrain.inference.sources import Input, Source, find_source
from gantrain.inference.video import import_av, write_animation
from gantrain.models.base import LatentGAN
from gantrain.models.translation import Direction, Translator
from gantrain.registry import import_plugins
from gantrain.report.images import to_image
from gantrain.runtime import console
from gantrain.runtime.storage import storage_errors
from gantrain.test import SAMPLES, find_run

MOST_WAITING = 1 << 27  # Values of images that wait for others of their size.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
FPS = 20  # Of animations.


class _Work(NamedTuple):
    """An image that was read."""

    number: int
    name: str
    pixels: Pixels


def predict(config: dict[str, Any]) -> int:
    """Apply a trained model to images or noise, and write the results.

    Args:
        config: The composed configuration, plain values.

    Returns:
        Exit status: 1 if an image could not be read, else 0.

    Raises:
        ConfigError: The configuration is wrong, or a result would overwrite a file.
    """
    settings = construct(PredictSettings, config, key="")
    import_plugins(settings.plugins)
    devices = _devices(settings)
    model = _open(settings, devices[0])
    if isinstance(model.module, Translator):
        settings.refuse(
            ["num", "labels", "truncation", "interpolate"], "this model translates images: give source=IMAGES"
        )
        return _translate([model, *(_open(settings, device) for device in devices[1:])], settings)
    if not isinstance(model.module, LatentGAN):
        raise ConfigError(f"{type(model.module).__name__} has neither `sample` nor `translate`, so it makes no images")
    settings.refuse(["source", "direction"], f"{type(model.module).__name__} generates images from noise: give num=64")
    return _generate(model, model.module, settings)


def _open(settings: PredictSettings, device: torch.device) -> Model:
    if settings.weights is not None:
        path = Path(settings.weights).expanduser()
        if not path.exists():
            raise ConfigError(f"weights={settings.weights}: there is no such file")
    else:
        path = find_run(settings.run or "", settings.checkpoints_dir)
    return open_model(
        path,
        device,
        step=settings.step,
        network_weights=settings.network_weights,
        plugins=settings.plugins,
        trust_plugins=settings.trust_plugins,
        direction=settings.direction or "a_to_b",
        dropout=settings.dropout,
        autocast=PRECISIONS[settings.precision],
    )


def _devices(settings: PredictSettings) -> list[torch.device]:
    first = choose_device(settings.accelerator)
    there = torch.cuda.device_count() if first.type == "cuda" else 1
    number = there if settings.devices == "auto" else settings.devices
    if number > there:
        raise ConfigError(
            f"devices={number}: give at most {there}, the number of devices with accelerator={first.type}"
        )
    return [choose_device(first.type, index) for index in range(number)]


def _refuse_existing(paths: Sequence[Path], settings: PredictSettings) -> None:
    there = [path for path in paths if path.exists()]
    if there and not settings.overwrite:
        raise ConfigError(
            f"out={settings.out}: {len(there)} of {len(paths)} results exist already, like {there[0]}: give another "
            "folder, or overwrite=true"
        )


# ---- images


def _translate(models: Sequence[Model], settings: PredictSettings) -> int:
    """Translate the source with models on several devices."""
    model = models[0]
    if settings.source is None:
        raise ConfigError("source is missing: give source=IMAGE, a folder, or a pattern in quotation marks")
    direction = model.direction(settings.direction)
    source = find_source(settings.source)
    results = results_of(source, str(settings.out), model.format_of(direction[-1]))
    _refuse_replacing(source, results, str(settings.out))
    _refuse_existing(results.paths, settings)
    unreadable: list[str] = []
    done = 0
    with results.writing(), console.bar(direction, total=source.total, unit="image", dynamic_ncols=True) as bar:
        works = _read(model, direction, source.inputs, unreadable)
        for batch, made in _translated(models, direction, _batches(works, settings.batch_size), settings):
            for work, result in zip(batch, made, strict=True):
                results.write(work.number, result)
            done += len(batch)
            bar.update(len(batch))
    for line in unreadable:
        console.err(f"left out: {line}")
    console.err(f"{done} of {done + len(unreadable)} images translated {direction}: {settings.out}")
    return 1 if unreadable else 0


def _translated(
    models: Sequence[Model], direction: Direction, batches: Iterable[list[_Work]], settings: PredictSettings
) -> Iterator[tuple[list[_Work], list[Pixels]]]:
    """The batches in their order, with their translations; the models take turns, and meanwhile images are read."""

    def translate(model: Model, batch: list[_Work]) -> list[Pixels]:
        return model.translate_pixels(
            [work.pixels for work in batch],
            direction,
            names=[work.name for work in batch],
            network_mode=settings.network_mode,
            memory=settings.memory,
        )

    waiting: deque[tuple[list[_Work], Future[list[Pixels]]]] = deque()
    with ThreadPoolExecutor(len(models)) as pool:
        for model, batch in zip(cycle(models), batches, strict=False):
            waiting.append((batch, pool.submit(translate, model, batch)))
            if len(waiting) > len(models):
                done, made = waiting.popleft()
                yield done, made.result()
        for done, made in waiting:
            yield done, made.result()


def _refuse_replacing(source: Source, results: Results, out: str) -> None:
    """Refuse results that would replace what they are made of."""
    files = [source.path] if source.path is not None else [Path(each.location) for each in source.inputs]
    read = {file.resolve() for file in files}
    for path in results.paths:
        if path.resolve() in read:
            raise ConfigError(f"out={out}: a result would replace the image {path}; give another folder")


def _read(model: Model, direction: Direction, inputs: Iterable[Input], unreadable: list[str]) -> Iterator[_Work]:
    """The images that can be read; the error messages of the others are added to ``unreadable``."""
    for number, each in enumerate(inputs):
        try:
            with as_config_error(f"read the image {each.location}"):
                pixels = model.read(each.content, direction, each.location)
        except ConfigError as error:
            unreadable.append(str(error))
        else:
            yield _Work(number, each.name, pixels)


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


# ---- noise


def _generate(model: Model, module: LatentGAN, settings: PredictSettings) -> int:
    labels = wanted_labels(module, settings.labels, settings.num or SAMPLES)
    number = settings.num or SAMPLES if labels is None else len(labels)
    latents = truncated(module, model.latents(number, seed=settings.seed), settings.truncation)
    folder, target = Path(str(settings.out)).expanduser(), model.format_of("image")
    suffix = ".png" if as_png(target.depth, target.channels) else ".npy"
    classes = [None] * number if labels is None else [module.spec.class_names[label] for label in labels.tolist()]
    paths = [folder / f"{sample_name(place, name)}{suffix}" for place, name in enumerate(classes)]
    walks = {} if settings.interpolate is None else walks_between(module, latents, labels, settings.interpolate)
    animations = {name: folder / f"{name}.{settings.animation}" for name in walks}
    if folder.suffix in (".gif", ".mp4"):
        if len(walks) != 1:
            remedy = "interpolate=20" if not walks else f"labels=[{classes[0]}]"
            raise ConfigError(f"out={settings.out} is one animation, and there would be {len(walks)}: give {remedy}")
        paths, animations = [], dict.fromkeys(walks, folder)
    elif folder.suffix == suffix:
        if walks or number > 1:
            raise ConfigError(f"out={settings.out} is one image, and there would be {number}: give num=1, or a folder")
        paths = [folder]
    if any(path.suffix == ".mp4" for path in animations.values()):
        import_av("animation=mp4")  # A missing package is reported before the samples are made.
    _refuse_existing([*paths, *animations.values()], settings)
    with storage_errors(f"write to {folder}"):
        with console.bar("samples", total=len(paths), unit="image", dynamic_ncols=True) as bar:
            left = iter(paths)
            for samples in sampled(model, latents, labels) if paths else ():
                for sample in samples:
                    pixels = stored_pixels(sample, depth=target.depth, value_range=target.value_range)
                    write_pixels(next(left), pixels)
                bar.update(len(samples))
        for name, (walk, label) in walks.items():
            frames = (to_image(image) for images in sampled(model, walk, label) for image in images)
            write_animation(animations[name], frames, FPS)
    console.err(f"{number} samples of seed {settings.seed}: {settings.out}")
    return 0
