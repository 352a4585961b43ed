"""The composition root of training: configuration in, objects built and wired, work done. Nothing else builds."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gantrain.data
import gantrain.models
import gantrain.networks  # noqa: F401 - these three file their classes by name
from gantrain import distributed, resume
from gantrain.checkpoint import Checkpoints
from gantrain.data.base import Batch, ImageDataset, ImageSpec, Selection, first_of_each_class
from gantrain.data.stream import BatchStream, in_order
from gantrain.models.base import COLUMNS, GAN
from gantrain.networks.common import set_precision
from gantrain.optim import Averages, Player, Updates
from gantrain.registry import (
    DATASETS,
    DISCRIMINATORS,
    GENERATORS,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
    ConfigError,
    construct,
    nearest,
)
from gantrain.report import Report
from gantrain.report.run import remove_report
from gantrain.schedules import Schedule
from gantrain.seeding import Draws
from gantrain.settings import (
    RunSettings,
    TrainerSettings,
    choose_device,
    count_processes,
    import_plugins,
    set_up_torch,
)
from gantrain.trainer import Clock, Trainer

CHECKPOINTS = Path("checkpoints")
INTERRUPTED = 130  # exit status after Ctrl-C, by convention 128 + SIGINT
EVALUATION_BATCH = 100
STREAM_KEYS = ("batch_size", "num_workers")  # under `data`, but not the data set's own
SELECTION_KEYS = ("max_size", "labelled")


def train(config: dict[str, Any], overrides: list[str]) -> int:
    """Train as configured, in this process or in several.

    Args:
        config: The composed configuration, plain values.
        overrides: As typed, for the record and for messages.

    Returns:
        Exit status: 0, or 130 after Ctrl-C (the run is saved then).

    Raises:
        ConfigError: Something in the configuration can't be had.
    """
    settings = construct(RunSettings, config, key="")
    trainer = construct(TrainerSettings, settings.trainer, key="trainer")
    processes = count_processes(trainer)
    if processes == 1 or distributed.ranks_are_here() or settings.dry_run:
        return _train_here(config, overrides, settings, trainer)
    # a mistake is told once, before there are ranks
    _Parts.build(config, settings, trainer, torch.device("cpu"), world_size=processes)
    return distributed.launch({"config": config, "overrides": overrides}, processes)


def _train_here(config: dict[str, Any], overrides: list[str], settings: RunSettings, trainer: TrainerSettings) -> int:
    """Train in this process, alone or as one of the ranks that are there."""
    device = choose_device(trainer.accelerator, distributed.local_rank())
    set_up_torch(trainer, device)
    with distributed.process_group(device), _interruptible() as interruption:
        parts = _Parts.build(config, settings, trainer, device, world_size=distributed.world_size())
        if settings.dry_run:
            from gantrain.dry_run import describe

            print(describe(parts.model, parts.update, parts.stream, trainer))
            return 0
        return _run(parts, config, overrides, settings, trainer, interruption)


def _run(
    parts: _Parts,
    config: dict[str, Any],
    overrides: list[str],
    settings: RunSettings,
    trainer_settings: TrainerSettings,
    interruption: _Interruption,
) -> int:
    folder = CHECKPOINTS / settings.name
    checkpoints = Checkpoints(folder, keep=trainer_settings.keep)
    report = Report(
        folder,
        command=resume.command(overrides),
        config=config,
        columns=COLUMNS,
        active=distributed.rank() == 0,
    )
    trainer = Trainer(
        model=parts.model,
        update=parts.update,
        stream=parts.stream,
        clock=_clock(trainer_settings, parts.stream.size),
        report=report,
        checkpoints=checkpoints,
        constants={
            "config": config,
            "overrides": overrides,
            "spec": parts.model_spec.to_dict(),
            "images": parts.stream.size,
        },
        held_out=parts.held_out,
        log_every=trainer_settings.log_every,
        image_every=trainer_settings.image_every,
        save_every=trainer_settings.save_every,
        stop=interruption.is_asked_for,
    )
    _resume(trainer, settings, config, overrides)
    if trainer.clock.progress(trainer.step, trainer.stream.images) >= 1:
        _say(f"{folder} is finished at step {trainer.step}: raise trainer.steps to go on, or give resume=never")
    elif not trainer.fit():
        _say(f"Stopped at step {trainer.step} and saved; the same command goes on: {resume.command(overrides)}")
        return INTERRUPTED
    _say(f"Page: {report.page}")
    return 0


def _resume(trainer: Trainer, settings: RunSettings, config: dict[str, Any], overrides: list[str]) -> None:
    """Go on from the folder's newest checkpoint, or make way for a new run."""
    checkpoints, schedule = trainer.checkpoints, trainer.update.schedule
    steps = checkpoints.steps()
    if settings.resume == "never":
        # every rank has looked before rank 0 deletes
        distributed.gather(None)
        if steps or (checkpoints.folder / "losses.jsonl").exists():
            _say(f"resume=never: overwriting {checkpoints.folder}, which was at step {max(steps, default=0)}")
            if distributed.rank() == 0:
                checkpoints.remove_all()
                remove_report(checkpoints.folder)
        steps = []
    if steps:
        state = checkpoints.load()
        resume.check(
            state,
            config=config,
            images=trainer.stream.size,
            overrides=overrides,
            depends_on_length=schedule.depends_on_length,
        )
        if len(state["ranks"]) != distributed.world_size():
            _say(
                f"warning: saved by {len(state['ranks'])} processes, resumed by {distributed.world_size()}: "
                "the run goes on, but not to the same bits"
            )
        trainer.load_state_dict(state)
        _say(f"Resuming {checkpoints.folder} at step {trainer.step}")
    elif settings.init_from is not None:
        _load_networks(trainer.model, Path(settings.init_from))


def _load_networks(model: GAN, run: Path) -> None:
    """Take the networks of another run, and nothing else of it."""
    state = Checkpoints(run).load()["model"]
    for name, module in model.named_children():
        own = {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(f"{name}.")}
        if not any(True for _ in module.parameters()):
            continue
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise ConfigError(f"init_from={run}: its {name} does not fit this one ({reason})") from None


@dataclass
class _Parts:
    """What a run is made of, built but not started."""

    model: GAN
    model_spec: ImageSpec
    update: Updates
    stream: BatchStream
    held_out: Callable[[], Iterable[Batch]] = field(repr=False)

    @classmethod
    def build(
        cls,
        config: dict[str, Any],
        settings: RunSettings,
        trainer: TrainerSettings,
        device: torch.device,
        *,
        world_size: int,
    ) -> _Parts:
        """Build everything, which checks everything, and write nothing."""
        import_plugins(settings.plugins)
        data = dict(settings.data)
        stream_keys: dict[str, Any] = {key: data.pop(key) for key in STREAM_KEYS if key in data}
        dataset = build_dataset(data, phase="train")
        torch.manual_seed(settings.seed)
        model = build_model(config, dataset.spec)
        missing = model.needs - dataset.keys
        if missing:
            raise ConfigError(
                f"model={config['model']['name']} needs {', '.join(sorted(missing))} and data={_data_name(config)} "
                f"has only {', '.join(sorted(dataset.keys))}"
                + ("; pictures get labels from one sub-folder per class" if "label" in missing else "")
            )
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
            generator=build_player(settings.optimizer, model.generators(), device, "lr", scaled=scaled),
            discriminator=build_player(
                settings.optimizer, model.discriminators(), device, "discriminator_lr", scaled=scaled
            ),
            schedule=schedule,
            averages=Averages(model.generators(), model.ema) if model.ema else None,
            draws=Draws(settings.seed, device, rank=rank, world_size=world_size),
        )
        held_out = _held_out(data, device, trainer.dtype)
        return cls(model=model, model_spec=dataset.spec, update=update, stream=stream, held_out=held_out)


def build_dataset(data: dict[str, Any], *, phase: str) -> ImageDataset:
    """The data set of a phase, from the keys under ``data`` without those of the stream.

    ``data.max_size`` takes the first so many items, ``data.labelled`` hides the labels of all but so many.
    """
    data = dict(data)
    max_size, labelled = (data.pop(key, None) for key in SELECTION_KEYS)
    dataset: ImageDataset = DATASETS.build(data, also=(*STREAM_KEYS, *SELECTION_KEYS), phase=phase)
    for key, value in (("max_size", max_size), ("labelled", labelled)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ConfigError(f"data.{key}: expected a whole number from 1 upward or null, got {value!r}")
    if labelled is not None and dataset.labels is None:
        raise ConfigError(f"data.labelled={labelled}: this data set has no labels")
    if max_size is None and (labelled is None or phase == "test"):
        return dataset
    indices = range(min(max_size or len(dataset), len(dataset)))
    known = None
    if labelled is not None and phase == "train":
        assert dataset.labels is not None
        known = first_of_each_class([dataset.labels[index] for index in indices], labelled)
    return Selection(dataset, indices, known)


def build_model(config: dict[str, Any], spec: ImageSpec) -> GAN:
    """The model with its networks, sized for ``spec``, on the CPU."""
    network = config["network"]
    for key in network:
        if key not in ("generator", "discriminator", "width"):
            raise ConfigError(f"network.{key}: unknown key; {nearest(key, ('generator', 'discriminator', 'width'))}")

    def make_generator(**sizes: Any) -> nn.Module:
        return GENERATORS.build(network["generator"], **sizes)

    def make_discriminator(**sizes: Any) -> nn.Module:
        return DISCRIMINATORS.build(network["discriminator"], **sizes)

    return MODELS.build(
        config["model"], spec=spec, make_generator=make_generator, make_discriminator=make_discriminator
    )


def build_player(
    config: dict[str, Any], networks: list[nn.Module], device: torch.device, rate: str, *, scaled: bool
) -> Player:
    """One side's optimizer over its networks, at the learning rate under the key ``rate``."""
    rates = {key: config[key] for key in ("lr", "discriminator_lr") if key in config}
    if rate not in rates:
        raise ConfigError(f"optimizer.{rate} is missing")
    arguments = {key: value for key, value in config.items() if key not in rates} | {"lr": rates[rate]}
    parameters = [parameter for network in networks for parameter in network.parameters()]
    fused = device.type in ("cpu", "cuda")
    return Player(OPTIMIZERS.build(arguments, params=parameters, fused=fused), device, scaled=scaled)


def _held_out(data: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Callable[[], Iterable[Batch]]:
    """Makes the batches of the test phase, in order; the data set is opened at the first call."""
    opened: list[ImageDataset] = []

    def batches() -> Iterable[Batch]:
        if not opened:
            opened.append(build_dataset(data, phase="test"))
        return in_order(opened[0], EVALUATION_BATCH, device, dtype)

    return batches


def _clock(settings: TrainerSettings, size: int) -> Clock:
    if settings.steps is not None:
        return Clock(steps=settings.steps, images=None)
    images = settings.epochs * size if settings.epochs is not None else (settings.kimg or 0) * 1000
    return Clock(steps=None, images=images)


def _data_name(config: dict[str, Any]) -> str:
    data = config["data"]
    return str(data.get("root") or data.get("mode"))


def _say(message: str) -> None:
    if distributed.rank() == 0:
        print(message, file=sys.stderr)


class _Interruption:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.asked = False

    def is_asked_for(self) -> bool:
        """For the trainer, after each step."""
        return self.asked


@contextmanager
def _interruptible() -> Iterator[_Interruption]:
    """The first Ctrl-C asks to finish the step and save; the second stops at once."""
    interruption = _Interruption()
    if distributed.ranks_are_here():  # ranks would stop at different steps and wait for each other
        yield interruption
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(signum: int, frame: Any) -> None:
        interruption.asked = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)


def worker(path: str) -> int:
    """What each process that ``distributed.launch`` starts runs: the job in a file."""
    job = json.loads(Path(path).read_text())
    try:
        return train(job["config"], job["overrides"])
    except ConfigError as error:
        _say(f"gantrain: {error}")
        return 2


if __name__ == "__main__":
    # torch's launcher waits for the processes, not for their atexit handlers
    status = worker(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
