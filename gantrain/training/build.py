"""Objects built from a configuration, for training and testing. Nothing is written here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

import gantrain.data.sets
import gantrain.models
import gantrain.networks
import gantrain.optim  # noqa: F401 - these four register their classes
from gantrain.checkpoints.save_timer import SaveTimer
from gantrain.checkpoints.store import Checkpoints
from gantrain.config.overrides import refuse_idle, split_override
from gantrain.config.schema import NonNegativeFloat, checked, construct
from gantrain.config.settings import NetworkSettings, TrainerSettings
from gantrain.data.base import Batch, ImageDataset, ImageSpec
from gantrain.data.settings import DataSettings, because
from gantrain.data.stand_in import StandIn, is_missing
from gantrain.data.stream import BatchStream, in_order
from gantrain.data.tools.recommend import lines, sampled
from gantrain.data.workers import advice
from gantrain.errors import ConfigError
from gantrain.metrics.build import build_measurement
from gantrain.metrics.features.perceptual import attach_perceptual
from gantrain.metrics.measure import Measurement
from gantrain.models.base import GAN
from gantrain.models.critics import check_batch_norm, check_compile, check_critic, check_micro_batch
from gantrain.models.translation import Translator
from gantrain.networks.common import set_precision
from gantrain.optim.ema import EMA
from gantrain.optim.monitor import RunMonitor
from gantrain.optim.updates import SideOptimizer, Updates
from gantrain.registry import DISCRIMINATORS, GENERATORS, MODELS, OPTIMIZERS, SCHEDULES, import_plugins
from gantrain.report.loggers import Logger, build_loggers
from gantrain.runtime import distributed
from gantrain.runtime.seeding import StepRandom
from gantrain.training.context import RunContext
from gantrain.training.effects import refuse_without_effect
from gantrain.training.expectations import expectations
from gantrain.training.objective import Objective, ObjectiveSettings

EVALUATION_BATCH = 100
MISSING = {  # How to get data that has a key.
    "label": "; images get labels from two or more sub-folders, one per class, those of shards from a .cls beside each",
    "image": "; plain images come with data=single data.root=FOLDER; two domains are for models such as cyclegan",
    "a": "; two domains come with data=edges2digits and data=digits2stripes, and with data=aligned or data=unaligned "
    "and data.root=FOLDER",
}


@dataclass
class Parts:
    """The objects of a run, built but not started."""

    context: RunContext
    model: GAN  # On its device.
    dataset: ImageDataset  # The training images.
    test_set: ImageDataset | None  # The images of the test phase; None if they are those of training.
    update: Updates  # The model's updates.
    objective: Objective  # Selects the best checkpoint.
    loggers: dict[str, Logger]  # Where losses and images go besides the run folder, by name.
    stream: BatchStream  # The batches of training, from the first on.
    measurement: Measurement | None  # Metrics of generated images; None if none are chosen.
    save_timer: SaveTimer  # Whether a checkpoint is due by the clock.

    @classmethod
    def build(cls, context: RunContext, *, world_size: int) -> Parts:
        """Build everything, which checks the whole configuration, and write nothing."""
        settings, device, dtype = context.settings, context.device, context.trainer.dtype
        import_plugins(settings.plugins)
        if device.type == "mps" and dtype == torch.float64:
            raise ConfigError("trainer.precision=float64: mps does not support it; give trainer.accelerator=cpu")
        dataset = _build_data(context)
        _check_needs(context.config, dataset)
        torch.manual_seed(settings.seed)
        model = build_model(context.config, dataset.spec)
        prepare_model(model, context.trainer, device)
        attach_perceptual(model, device, dtype)
        stream = construct(
            BatchStream,
            context.data.stream,
            key="data",
            dataset=dataset,
            seed=settings.seed,
            device=device,
            dtype=dtype,
            channels_last=context.trainer.channels_last,
            rank=distributed.rank(),
            world_size=world_size,
        )
        if settings.resume == "never" or not Checkpoints(context.folder).steps():  # Runs of earlier versions resume.
            refuse_without_effect(context.overrides, model, dataset)
            for warning in check_critic(
                model,
                loss=settings.model.get("loss"),
                batch_size=stream.batch_size // world_size,
                world_size=world_size,
            ):
                distributed.print_rank_zero(warning)
        micro_batch, share = context.trainer.micro_batch, stream.batch_size // world_size
        warnings = check_micro_batch(model, micro_batch, share)
        check_batch_norm(model, images=micro_batch or share, world_size=world_size)
        for warning in [*warnings, *(check_compile(model) if context.trainer.compile else [])]:
            distributed.print_rank_zero(warning)
        test_set = context.data.build_test_set(dataset, seed=settings.seed)
        measurement = (  # Black images are not measured, so a dry run without data downloads no weights either.
            build_measurement(settings.metrics, settings.data, model, dataset, test_set, device, stream.on_error)
            if not isinstance(dataset, StandIn)
            else None
        )
        save_timer = SaveTimer(context.folder, context.trainer.save_minutes)
        monitor = RunMonitor(wants_stop=context.wants_stop, wants_save=save_timer.is_due)
        return cls(
            context=context,
            model=model,
            dataset=dataset,
            update=build_updates(context, model, monitor, world_size=world_size),
            loggers=build_loggers(settings.logger, run=settings.name, folder=context.folder),
            test_set=test_set,
            objective=Objective(_objective_settings(context, measurement)),
            measurement=measurement,
            stream=stream,
            save_timer=save_timer,
        )

    @property
    def images_at_once(self) -> int:
        """The images of a batch, or of a micro-batch, of all ranks together."""
        micro_batch = self.context.trainer.micro_batch
        return self.stream.batch_size if micro_batch is None else micro_batch * distributed.world_size()

    def advice(self) -> str:
        """What to change if training waits for data; may be empty."""
        return advice(self.context.settings.data, self.dataset, self.stream.num_workers)

    def expectations(self) -> list[str]:
        """What this run lacks in comparison with usual ones."""
        context = self.context
        return expectations(self.model, self.stream, context.trainer, mode=context.settings.data["mode"])

    def recommendations(self) -> list[str]:
        """Settings that suit the images, with the command that has them."""
        context = self.context
        data = DataSettings.split(context.settings.data).dataset
        return lines(sampled(context.config, data, self.dataset, images=self.stream.size), context.overrides)

    def cache_images(self) -> None:
        """Decode the training images into the cache, if there is one."""
        context, skips = self.context, self.stream.on_error == "skip"
        self.dataset.use_cache(replace(context.data.cache, skips=skips, stop=context.wants_stop))

    def use_class_names(self, names: Sequence[str]) -> None:
        """Number the classes of the data in the order of ``names``, those of a run, if they are the same classes."""
        for dataset in (self.dataset, self.test_set):
            if dataset is not None:
                dataset.use_class_names(names)
        if self.measurement is not None:
            self.measurement.use_class_names(names, self.dataset.spec)

    def held_out(self) -> Iterable[Batch]:
        """The batches of the test phase, in order; none if its images are those of training."""
        return self._in_order(self.test_set, EVALUATION_BATCH) if self.test_set is not None else ()

    def preview(self) -> Batch:
        """The batch for the model's visuals: the first images of the test phase, or else of training."""
        if not self.model.previews:
            return {}
        return self.real_batch(self.model.previews)

    def real_batch(self, size: int) -> Batch:
        """The first images of the test phase, or else of training."""
        return next(iter(self._in_order(self.test_set or self.dataset, size)))

    def _in_order(self, dataset: ImageDataset, size: int) -> Iterable[Batch]:
        device, dtype = self.context.device, self.context.trainer.dtype
        return in_order(dataset, size, device, dtype, on_error=self.stream.on_error)


def _build_data(context: RunContext) -> ImageDataset:
    """The training images; in a dry run, black ones in place of data that is missing."""
    settings = context.settings
    if not (settings.dry_run and is_missing(settings.data)):
        return context.data.build(phase="train", seed=settings.seed)
    return StandIn.of(settings.data, MODELS[str(settings.model.get("name"))].needs)


def _objective_settings(context: RunContext, measurement: Measurement | None) -> ObjectiveSettings:
    """The objective; none if it is a metric of the default ones, which this model or data does not allow.

    Raises:
        ConfigError: It is a metric that is not measured, or metrics are set up that have not been chosen.
    """
    config = context.settings.metrics
    objective = construct(ObjectiveSettings, context.settings.objective, key="objective")
    typed = dict(map(split_override, context.overrides))
    if objective.metric is None and objective.mode is not None and "objective.mode" in typed:
        raise ConfigError(f"objective.mode={objective.mode} has no effect without objective.metric=NAME")
    if measurement is not None:
        refuse_idle(context.overrides, "metrics", measurement.without_effect)
        return objective
    idle = [f"{key}={value}" for key, value in typed.items() if key.startswith("metrics.")]
    if idle and not config.get("optional") and not context.settings.dry_run:
        raise ConfigError(f"{idle[0]} has no effect: no metrics are chosen; give metrics=fid or another")
    chosen = [key for key, value in config.items() if isinstance(value, Mapping)]
    dropped = objective.metric in chosen and "objective.metric" not in typed
    return replace(objective, metric=None, patience=None) if dropped else objective


def prepare_model(model: GAN, settings: TrainerSettings, device: torch.device) -> None:
    """Move the model to its device, in the configured dtype, layout and precision; ``auto`` is set once it is known."""
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    model.to(device=device, dtype=settings.dtype).to(memory_format=layout)
    if settings.precision != "auto":
        set_precisions(model, device, autocast=settings.autocast, compiled=settings.compile)


def set_precisions(model: GAN, device: torch.device, *, autocast: torch.dtype | None, compiled: bool) -> None:
    """Set the precision of all networks, and compile them; see ``set_precision``."""
    for network in (*model.generators(), *model.discriminators()):
        set_precision(network, device=device, autocast=autocast, compiled=compiled)


def build_updates(context: RunContext, model: GAN, monitor: RunMonitor, *, world_size: int) -> Updates:
    """The model's updates, with an optimizer for each side."""
    config, device = context.settings.optimizer, context.device
    scaled = context.trainer.precision == "float16"
    return Updates(
        sides=(
            build_optimizer(config, model.generators(), device, "lr", scaled=scaled),
            build_optimizer(config, model.discriminators(), device, "discriminator_lr", scaled=scaled),
        ),
        schedule=SCHEDULES.build(context.settings.schedule),
        ema=EMA(model.generators(), model.ema, rampup=model.ema_rampup) if model.ema else None,
        draws=StepRandom(context.settings.seed, device, rank=distributed.rank(), world_size=world_size),
        monitor=monitor,
    )


def _check_needs(config: dict[str, Any], dataset: ImageDataset) -> None:
    """Refuse a model that needs something the data lacks."""
    name, data = config["model"].get("name"), config["data"]
    model, source = MODELS[name], f"data.root={data['root']}" if data.get("root") else f"data={data.get('mode')}"
    if missing := model.needs - dataset.keys:
        raise ConfigError(
            f"model={name} needs {', '.join(sorted(missing))}, and {source} only has "
            + ", ".join(sorted(dataset.keys))
            + "".join(hint for key, hint in MISSING.items() if key in missing)
            + because(dataset)
        )
    if model.needs_pairs and not dataset.paired:
        raise ConfigError(
            f"model={name} needs pairs, and {source} has none: give data=aligned, or a model without "
            "this need, such as cyclegan (or data.serial=true if images of the same number belong together)"
        )
    labelled = data.get("labelled")
    if labelled is not None and not model.reads_unknown_labels:
        can = ", ".join(other for other in MODELS if MODELS[other].reads_unknown_labels)
        raise ConfigError(f"data.labelled={labelled}: model={name} can't use unknown labels; these models can: {can}")


def build_model(config: dict[str, Any], spec: ImageSpec) -> GAN:
    """The model with its networks, sized for ``spec``, on the CPU."""
    network = construct(NetworkSettings, config["network"], key="network")
    needed_by = f"model={config['model'].get('name')}"
    model: GAN = MODELS.build(
        config["model"],
        spec=spec,
        make_generator=partial(GENERATORS.build, network.generator, needed_by=needed_by),
        make_discriminator=partial(DISCRIMINATORS.build, network.discriminator, needed_by=needed_by),
    )
    if isinstance(model, Translator):
        model.image_statistics = config.get("data", {}).get("batch_size", 1) == 1
    for side in ("generators", "discriminators"):
        if not any(True for network in getattr(model, side)() for _ in network.parameters()):
            raise ConfigError(
                f"{needed_by}: no parameters to train in {side}(): assign a network to self.{side[:-1]}, or override it"
            )
    return model


def build_optimizer(
    config: dict[str, Any], networks: list[nn.Module], device: torch.device, rate: str, *, scaled: bool
) -> SideOptimizer:
    """One side's optimizer over its networks, at the learning rate under the key ``rate``, or else under ``lr``."""
    rates = {key: config[key] for key in ("lr", "discriminator_lr") if key in config}
    rate = rate if rate in rates else "lr"
    if rate not in rates:
        raise ConfigError("optimizer.lr is missing")
    lr = checked(rates[rate], NonNegativeFloat, f"optimizer.{rate}")
    arguments = {key: value for key, value in config.items() if key not in rates} | {"lr": lr}
    parameters = [parameter for network in networks for parameter in network.parameters()]
    statistics = [buffer for network in networks for buffer in network.buffers() if buffer.is_floating_point()]
    optimizer = OPTIMIZERS.build(arguments, params=parameters, fused=device.type in ("cpu", "cuda"))
    return SideOptimizer(optimizer, device, scaled=scaled, statistics=statistics)
