"""The composition root of training: objects built and wired, ranks started, the run resumed and trained."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gantrain import distributed, resume
from gantrain.build import Parts
from gantrain.checkpoint import Checkpoints
from gantrain.init_from import shaped_like, take_networks
from gantrain.registry import ConfigError, construct
from gantrain.report import Report
from gantrain.report.run import remove_report
from gantrain.settings import RunSettings, TrainerSettings, choose_device, count_processes, set_up_torch
from gantrain.trainer import Clock, Trainer

CHECKPOINTS = Path("checkpoints")
INTERRUPTED = 130  # exit status after Ctrl-C, by convention 128 + SIGINT


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
    config = shaped_like(config, overrides)
    settings = construct(RunSettings, config, key="")
    trainer = construct(TrainerSettings, settings.trainer, key="trainer")
    processes = count_processes(trainer)
    if processes == 1 or distributed.ranks_are_here() or settings.dry_run:
        try:
            return _train_here(config, overrides, settings, trainer)
        except RuntimeError:
            if distributed.has_spoken():  # another rank, for which this one has waited in vain
                return 2
            raise
    # a mistake is told once, before there are ranks
    Parts.build(config, settings, trainer, torch.device("cpu"), world_size=processes)
    return distributed.launch({"config": config, "overrides": overrides}, processes)


def _train_here(config: dict[str, Any], overrides: list[str], settings: RunSettings, trainer: TrainerSettings) -> int:
    """Train in this process, alone or as one of the ranks that are there."""
    device = choose_device(trainer.accelerator, distributed.local_rank())
    set_up_torch(trainer, device)
    distributed.join(device)
    with _interruptible() as interruption:
        parts = Parts.build(config, settings, trainer, device, world_size=distributed.world_size())
        if settings.dry_run:
            from gantrain.dry_run import describe

            print(describe(parts.model, parts.update, parts.stream, trainer))
            return 0
        return _run(parts, config, overrides, settings, trainer, interruption)


def _run(
    parts: Parts,
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
        columns=parts.model.columns,
        logger=parts.logger,
        advice=parts.advice,
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
            "spec": parts.spec.to_dict(),
            "images": parts.stream.size,
            "fingerprint": parts.fingerprint,
        },
        held_out=parts.held_out,
        preview=parts.preview,
        log_every=trainer_settings.log_every,
        image_every=trainer_settings.image_every,
        save_every=trainer_settings.save_every,
        stop=interruption.is_asked_for,
    )
    _resume(trainer, settings, ready=lambda: parts.keep(interruption.is_asked_for))
    if trainer.progress >= 1:
        length = next(key for key, value in trainer_settings.length.items() if value is not None)
        _say(f"{folder} is finished at step {trainer.step}: raise {length} to go on, or give resume=never")
        _say(f"Page: {report.page}")
        return 0
    with report:
        done = trainer.fit()
    if not done:
        _say(f"Stopped at step {trainer.step} and saved; the same command goes on: {resume.command(overrides)}")
        return INTERRUPTED
    _say(f"Page: {report.page}")
    return 0


def _resume(trainer: Trainer, settings: RunSettings, *, ready: Callable[[], None]) -> None:
    """Go on from the folder's newest checkpoint, or make way for a new run; whatever can be refused, is so first.

    ``ready`` is called once only it can refuse the run, unless that is finished.
    """
    checkpoints, schedule = trainer.checkpoints, trainer.update.schedule
    steps = checkpoints.steps()
    if steps and settings.resume == "auto":
        state = checkpoints.load()
        resume.check(state, trainer.constants, depends_on_length=schedule.depends_on_length)
        if len(state["ranks"]) != distributed.world_size():
            _say(
                f"warning: saved by {len(state['ranks'])} processes, resumed by {distributed.world_size()}: "
                "the run goes on, but not to the same bits"
            )
        trainer.load_state_dict(state)
        if trainer.progress < 1:
            ready()
        _say(f"Resuming {checkpoints.folder} at step {trainer.step}")
        return
    if settings.init_from is not None:
        take_networks(trainer.model, Path(settings.init_from).expanduser(), trainer.constants["config"])
        if trainer.update.averages is not None:
            trainer.update.averages.restart()
    ready()
    distributed.gather(None)  # every rank has looked before rank 0 deletes
    if steps or (checkpoints.folder / "losses.jsonl").exists():
        if settings.resume == "never":
            _say(f"resume=never: overwriting {checkpoints.folder}, which was at step {max(steps, default=0)}")
        if distributed.rank() == 0:
            checkpoints.remove_all()
            remove_report(checkpoints.folder)


def _clock(settings: TrainerSettings, size: int) -> Clock:
    if settings.steps is not None:
        return Clock(settings.steps, "step")
    return Clock(settings.epochs * size if settings.epochs is not None else (settings.kimg or 0) * 1000, "image")


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
    distributed.end_with_parent()
    job = json.loads(Path(path).read_text())
    try:
        return train(job["config"], job["overrides"])
    except (ConfigError, OSError) as error:
        distributed.say_why_it_ends(f"gantrain: {error}")
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    # torch's launcher waits for the processes, not for their atexit handlers
    status = worker(sys.argv[1])
    distributed.leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
