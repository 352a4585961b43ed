"""Configuration in, objects out: what `gantrain train` and `gantrain test` are made of. Nothing is written here."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

import gantrain.data.sets
import gantrain.models
import gantrain.networks
import gantrain.optim  # noqa: F401 - these four register their classes
from gantrain.config.schema import Fraction, NonNegativeFloat, PositiveInt, checked, construct
from gantrain.config.settings import CHECKPOINTS, NetworkSettings, RunSettings, TrainerSettings
from gantrain.data.base import Batch, ImageDataset, ImageSpec, Selection, first_of_each_class
from gantrain.data.images.cache import Cache
from gantrain.data.stream import BatchStream, in_order
from gantrain.data.workers import advice
from gantrain.errors import ConfigError
from gantrain.models.base import GAN
from gantrain.networks.common import set_precision
from gantrain.optim.ema import EMA
from gantrain.optim.schedules import Schedule
from gantrain.optim.updates import SideOptimizer, Updates
from gantrain.registry import DATASETS, DISCRIMINATORS, GENERATORS, MODELS, OPTIMIZERS, SCHEDULES, import_plugins
from gantrain.report.loggers import Logger, build_loggers
from gantrain.runtime import distributed
from gantrain.runtime.seeding import StepRandom
from gantrain.training.objective import Objective, ObjectiveSettings

EVALUATION_BATCH = 100
STREAM_KEYS = ("batch_size", "num_workers", "on_error")  # under `data`, but not the data set's own
SELECTION_KEYS = ("fraction", "max_size", "labelled")
CACHE_KEYS = ("cache", "cache_limit")
MISSING = {  # what to do about a key that the data lacks
    "label": "; images get labels from one sub-folder per class, those of shards from a .cls beside each",
    "image": "; plain images come with data=single data.root=FOLDER",
    "a": "; two domains come with data=edges2digits and data=digits2stripes, and with data=aligned or data=unaligned "
    "and data.root=FOLDER",
}


@dataclass
class Parts:
    """What a run is made of, built but not started.

    Attributes:
        model: On its device.
        spec: Of the training images.
        fingerprint: Theirs.
        update: The model's updates.
        objective: Tells the best checkpoint.
        loggers: Where losses and images go besides the run folder, by what they are called.
        stream: Its batches, from the first on.
        advice: Says what to change should they come too slowly; may say nothing.
        held_out: Makes the batches of the test phase, in order; none if its images are those of training.
        keep: Has the images of training decoded into the cache, if they are to be; asks its argument whether to stop.
        preview: Makes the batch that the model's visuals are of: the first images of the test phase, or else of
            training.
    """

    model: GAN
    spec: ImageSpec
    fingerprint: str
    update: Updates
    objective: Objective
    loggers: dict[str, Logger]
    stream: BatchStream
    advice: Callable[[], str] = field(repr=False)
    held_out: Callable[[], Iterable[Batch]] = field(repr=False)
    keep: Callable[[Callable[[], bool]], None] = field(repr=False)
    preview: Callable[[], Batch] = field(repr=False)

    @classmethod
    def build(
        cls,
        config: dict[str, Any],
        settings: RunSettings,
        trainer: TrainerSettings,
        device: torch.device,
        *,
        world_size: int,
    ) -> Parts:
        """Build everything, which checks everything, and write nothing."""
        import_plugins(settings.plugins)
        if device.type == "mps" and trainer.dtype == torch.float64:
            raise ConfigError("trainer.precision=float64: mps has no such numbers; give trainer.accelerator=cpu")
        data = dict(settings.data)
        stream_keys: dict[str, Any] = {key: data.pop(key) for key in STREAM_KEYS if key in data}
        dataset = build_dataset(data, phase="train", seed=settings.seed)
        _check_needs(config, dataset)
        torch.manual_seed(settings.seed)
        model = build_model(config, dataset.spec)
        layout = torch.channels_last if trainer.channels_last else torch.contiguous_format
        model.to(device=device, dtype=trainer.dtype).to(memory_format=layout)
        for network in (*model.generators(), *model.discriminators()):
            set_precision(network, device=device, autocast=trainer.autocast, compiled=trainer.compile)
        rank = distributed.rank()
        stream = construct(
            BatchStream,
            stream_keys,
            key="data",
            dataset=dataset,
            seed=settings.seed,
            device=device,
            dtype=trainer.dtype,
            channels_last=trainer.channels_last,
            rank=rank,
            world_size=world_size,
        )
        schedule: Schedule = SCHEDULES.build(settings.schedule)
        scaled = trainer.precision == "float16"
        update = Updates(
            generator=build_optimizer(settings.optimizer, model.generators(), device, "lr", scaled=scaled),
            discriminator=build_optimizer(
                settings.optimizer, model.discriminators(), device, "discriminator_lr", scaled=scaled
            ),
            schedule=schedule,
            ema=EMA(model.generators(), model.ema) if model.ema else None,
            draws=StepRandom(settings.seed, device, rank=rank, world_size=world_size),
        )
        loggers = build_loggers(settings.logger, run=settings.name, folder=CHECKPOINTS / settings.name)
        cache = construct(Cache, _cache_keys(data), key="data", skips=stream.on_error == "skip", stop=lambda: False)
        test_set = build_dataset(data, phase="test", seed=settings.seed) if dataset.held_out else None

        def held_out() -> Iterable[Batch]:
            if test_set is None:
                return ()
            return in_order(test_set, EVALUATION_BATCH, device, trainer.dtype, on_error=stream.on_error)

        def keep(stop: Callable[[], bool]) -> None:
            dataset.use_cache(replace(cache, stop=stop))

        def preview() -> Batch:
            if not model.previews:
                return {}
            shown = dataset if test_set is None else test_set
            return next(in_order(shown, model.previews, device, trainer.dtype, on_error=stream.on_error))

        return cls(
            model=model,
            spec=dataset.spec,
            fingerprint=dataset.fingerprint,
            update=update,
            objective=Objective(construct(ObjectiveSettings, settings.objective, key="objective")),
            loggers=loggers,
            stream=stream,
            advice=lambda: advice(data, dataset, stream.num_workers),
            held_out=held_out,
            keep=keep,
            preview=preview,
        )


def _cache_keys(data: dict[str, Any]) -> dict[str, Any]:
    """Those that are there; YAML reads ``off`` as false."""
    return {key: "off" if data[key] is False else data[key] for key in CACHE_KEYS if key in data}


def check_keys(data: dict[str, Any]) -> None:
    """Refuse what training would under those keys of ``data`` that are not the data set's own."""
    construct(Cache, _cache_keys(data), key="data")
    hints = typing.get_type_hints(BatchStream.__init__, include_extras=True)
    for key in STREAM_KEYS:
        if key in data:
            checked(data[key], hints[key], f"data.{key}")


def selected(data: dict[str, Any]) -> tuple[float | None, int | None, int | None]:
    """``data.fraction``, ``data.max_size`` and ``data.labelled``."""
    kinds = zip(SELECTION_KEYS, (Fraction | None, PositiveInt | None, PositiveInt | None), strict=True)
    fraction, max_size, labelled = (checked(data.get(key), kind, f"data.{key}") for key, kind in kinds)
    return fraction, max_size, labelled


def _check_needs(config: dict[str, Any], dataset: ImageDataset) -> None:
    """Refuse a model that reads what the data does not hold."""
    name = config["model"].get("name")
    missing = MODELS[name].needs - dataset.keys
    if missing:
        raise ConfigError(
            f"model={name} needs {', '.join(sorted(missing))}, and data={_data_name(config)} has only "
            + ", ".join(sorted(dataset.keys))
            + "".join(hint for key, hint in MISSING.items() if key in missing)
        )
    if MODELS[name].needs_pairs and not dataset.paired:
        raise ConfigError(
            f"model={name} learns from pairs, and data={_data_name(config)} has none: give data=aligned, or another "
            "model, like cyclegan (or data.serial=true if images of the same number do belong together)"
        )
    labelled = config["data"].get("labelled")
    if labelled is not None and not MODELS[name].reads_unknown_labels:
        can = ", ".join(model for model in MODELS if MODELS[model].reads_unknown_labels)
        raise ConfigError(f"data.labelled={labelled}: model={name} has no use for unknown labels; these have: {can}")


def build_dataset(data: dict[str, Any], *, phase: str, seed: int = 0) -> ImageDataset:
    """The data set of a phase, from the keys under ``data`` without those of the stream.

    ``data.fraction`` is the part of the items that the seed draws, of which ``data.max_size`` takes the first so many;
    ``data.labelled`` hides the labels of all but so many.
    """
    fraction, max_size, labelled = selected(data)
    data = {key: value for key, value in data.items() if key not in (*CACHE_KEYS, *SELECTION_KEYS)}
    dataset: ImageDataset = DATASETS.build(data, also=(*STREAM_KEYS, *SELECTION_KEYS, *CACHE_KEYS), phase=phase)
    if labelled is not None and dataset.labels is None:
        raise ConfigError(f"data.labelled={labelled}: this data set has no labels")
    if fraction is not None:
        dataset = dataset.sample(fraction, seed)
    if max_size is not None:
        dataset = dataset.first(max_size)
    if labelled is not None and phase == "train":
        assert dataset.labels is not None
        dataset = Selection(dataset, range(len(dataset)), first_of_each_class(dataset.labels, labelled))
    return dataset


def build_model(config: dict[str, Any], spec: ImageSpec) -> GAN:
    """The model with its networks, sized for ``spec``, on the CPU.

    Raises:
        ConfigError: A key does not fit, a network lacks an argument that the model needs, or a side nothing to train.
    """
    network = construct(NetworkSettings, config["network"], key="network")
    needed_by = f"model={config['model'].get('name')}"

    def make_generator(**sizes: Any) -> nn.Module:
        return GENERATORS.build(network.generator, needed_by=needed_by, **sizes)

    def make_discriminator(**sizes: Any) -> nn.Module:
        return DISCRIMINATORS.build(network.discriminator, needed_by=needed_by, **sizes)

    model: GAN = MODELS.build(
        config["model"], spec=spec, make_generator=make_generator, make_discriminator=make_discriminator
    )
    for side in ("generators", "discriminators"):
        if not any(True for network in getattr(model, side)() for _ in network.parameters()):
            raise ConfigError(
                f"{needed_by}: no parameters to train in {side}(): assign a network to self.{side[:-1]}, or override it"
            )
    return model


def build_optimizer(
    config: dict[str, Any], networks: list[nn.Module], device: torch.device, rate: str, *, scaled: bool
) -> SideOptimizer:
    """One side's optimizer over its networks, at the learning rate under the key ``rate``, or else under ``lr``.

    Raises:
        ConfigError: There is no learning rate, or a key does not fit.
    """
    rates = {key: config[key] for key in ("lr", "discriminator_lr") if key in config}
    rate = rate if rate in rates else "lr"
    if rate not in rates:
        raise ConfigError("optimizer.lr is missing")
    lr = checked(rates[rate], NonNegativeFloat, f"optimizer.{rate}")
    arguments = {key: value for key, value in config.items() if key not in rates} | {"lr": lr}
    parameters = [parameter for network in networks for parameter in network.parameters()]
    statistics = [buffer for network in networks for buffer in network.buffers() if buffer.is_floating_point()]
    fused = device.type in ("cpu", "cuda")
    optimizer = OPTIMIZERS.build(arguments, params=parameters, fused=fused)
    return SideOptimizer(optimizer, device, scaled=scaled, statistics=statistics)


def _data_name(config: dict[str, Any]) -> str:
    data = config["data"]
    return str(data.get("root") or data.get("mode"))
