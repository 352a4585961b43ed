"""The composition root of training: objects built and wired, ranks started, the run resumed and trained."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch

from gantrain.checkpoints.store import Checkpoints, explain_mismatch
from gantrain.config import overrides as resume
from gantrain.config.schema import construct
from gantrain.config.settings import (
    CHECKPOINTS,
    RunSettings,
    TrainerSettings,
    choose_device,
    count_processes,
    set_up_torch,
)
from gantrain.errors import ConfigError
from gantrain.models.base import network_sizes
from gantrain.report import Report
from gantrain.report.provenance import provenance
from gantrain.report.run import remove_report
from gantrain.runtime import distributed
from gantrain.runtime.launch import launch
from gantrain.runtime.run_lock import RunLock
from gantrain.runtime.signals import Interruption, is_requeued, requeue, restore_sigint, safe_stderr
from gantrain.training import failures as crash
from gantrain.training.build import Parts
from gantrain.training.init_from import adopt_architecture, load_networks
from gantrain.training.trainer import Clock, DivergedError, Trainer


def train(config: dict[str, Any], overrides: list[str], defaults: dict[str, Any] | None = None) -> int:
    """Train as configured, in this process or in several.

    Args:
        config: The composed configuration, plain values.
        overrides: As typed, for the record and for messages.
        defaults: What the model and the data would be configured as alone, for the page; None if that is not known.

    Returns:
        Exit status: 0, or 128 + the number of the signal that came, with which the run is saved, or even done.

    Raises:
        ConfigError: Something in the configuration can't be had.
    """
    config = adopt_architecture(config, overrides)
    settings = construct(RunSettings, config, key="")
    trainer = construct(TrainerSettings, settings.trainer, key="trainer")
    processes = count_processes(trainer)
    if processes == 1 or distributed.world_size() > 1 or settings.dry_run:
        return _train_here(config, overrides, defaults, settings, trainer)
    # a mistake is told once, before there are ranks
    Parts.build(config, settings, trainer, torch.device("cpu"), world_size=processes)
    restore_sigint()
    return launch("gantrain.train", {"config": config, "overrides": overrides, "defaults": defaults}, processes)


def _train_here(
    config: dict[str, Any],
    overrides: list[str],
    defaults: dict[str, Any] | None,
    settings: RunSettings,
    trainer: TrainerSettings,
) -> int:
    """Train in this process, alone or as one of the ranks that are there."""
    interruption = Interruption(trainer.max_minutes)
    device = choose_device(trainer.accelerator, distributed.local_rank())
    set_up_torch(trainer, device)
    distributed.join(device)
    with crash.explained(config, device):
        parts = Parts.build(config, settings, trainer, device, world_size=distributed.world_size())
        if settings.dry_run:
            from gantrain.training.dry_run import describe

            print(describe(parts.model, parts.update, parts.stream, trainer))
            return 0
        restore_sigint()  # all that is imported by now
        # rank 0 writes for all
        lock = RunLock(CHECKPOINTS / settings.name) if distributed.rank() == 0 else None
        with safe_stderr(), lock or nullcontext(), interruption, closing(parts.stream):
            return _run(parts, config, overrides, defaults, settings, trainer, interruption, lock)


def _run(
    parts: Parts,
    config: dict[str, Any],
    overrides: list[str],
    defaults: dict[str, Any] | None,
    settings: RunSettings,
    trainer_settings: TrainerSettings,
    interruption: Interruption,
    lock: RunLock | None,
) -> int:
    folder = CHECKPOINTS / settings.name
    report = Report(
        folder,
        command=resume.command(overrides),
        config=config,
        columns=parts.model.columns,
        loggers=parts.loggers,
        advice=parts.advice,
        active=distributed.rank() == 0,
        home=CHECKPOINTS,
        defaults=defaults,
        facts={"seed": str(settings.seed), **provenance(parts.update.sides[0].device)},
        networks=network_sizes(parts.model),
    )
    trainer = Trainer(
        model=parts.model,
        update=parts.update,
        stream=parts.stream,
        clock=_clock(trainer_settings, parts.stream.size),
        report=report,
        checkpoints=Checkpoints(
            folder,
            keep=trainer_settings.keep,
            keep_every=trainer_settings.keep_every,
            claim=lock.renew if lock is not None else lambda: None,
        ),
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
        save_minutes=trainer_settings.save_minutes,
        objective=parts.objective,
    )
    parts.update.monitor.wants_stop = interruption.is_asked_for
    starts_over = settings.resume == "never"
    again = resume.command(overrides, *(["resume=auto"] if starts_over else []))
    try:
        _resume(trainer, settings, ready=lambda: parts.keep(interruption.is_asked_for))
    except KeyboardInterrupt:  # while images were decoded for the cache
        distributed.print_rank_zero(
            f"Stopped before the first step ({interruption.reason(interruption.signal)}); again: {again}"
        )
        return 128 + interruption.signal if interruption.signal else 0
    if trainer.progress >= 1:
        clock = trainer.clock
        report.finish(trainer.step, done=trainer.done, total=clock.amount, unit=clock.unit)
        length = next(key for key, value in trainer_settings.length.items() if value is not None)
        distributed.print_rank_zero(
            f"{folder} is finished at step {trainer.step}: raise {length} to go on, or give resume=never"
        )
        distributed.print_rank_zero(f"Page: {report.page}")
        return 0
    with closing(trainer.checkpoints), report:
        done = _fit(trainer, trainer_settings, config, parts.update.sides[0].device)
        number = max(distributed.all_gather_object(interruption.signal))  # all ranks' is the same, and rank 0 has saved
        if done:
            report.close("done", trainer.step)
            distributed.print_rank_zero(f"Page: {report.page}")
            return 128 + number if number else 0  # what else was to be done is not wanted any more
        report.close(f"stopped: {interruption.reason(number)}", trainer.step)
    goes_on = "this goes on" if starts_over else "the same command goes on"
    distributed.print_rank_zero(
        f"Stopped at step {trainer.step} and saved ({interruption.reason(number)}); {goes_on}: {again}"
    )
    if number == getattr(signal, "SIGUSR1", None) and distributed.rank() == 0 and (told := requeue()):
        distributed.print_rank_zero(told)
    return 128 + number if number else 0


def _fit(trainer: Trainer, settings: TrainerSettings, config: dict[str, Any], device: torch.device) -> bool:
    """Train, going back where the run diverges, if it is to; False if it was stopped before its end.

    Raises:
        ConfigError: It has diverged, for good, or the machine could not go on.
    """
    tried: list[int] = []
    while True:
        try:
            # what reads images ends before anything else is done: Python hears of one's death wherever it is
            explained = crash.explained(config, device, trainer.stream.exit_codes)
            with explained, closing(trainer.stream):
                return trainer.fit()
        except DivergedError as diverged:
            record = trainer.checkpoints.folder / "crash" / f"step_{diverged.step}.json"
            if distributed.rank() == 0:
                crash.write_record(record, diverged.facts)
            told = crash.diverged(diverged.step, diverged.facts, record)
            rollbacks = trainer.stream.rollbacks + 1
            with distributed.rank_zero_first():  # rank 0 alone writes checkpoints, and all are to find the same
                trainer.checkpoints.wait()
            if settings.on_divergence == "stop" or rollbacks > settings.rollbacks or not trainer.checkpoints.steps():
                raise ConfigError(f"{told} {crash.advice(config)}") from None
            state = trainer.checkpoints.load(_untried(trainer.checkpoints.steps(), tried))
            tried.append(state["step"])
            best = trainer.objective.best
            trainer.load_state_dict({**state, "rollbacks": rollbacks})
            trainer.objective.best = best  # best.pt stays, and only what is better may take its place
            going = f"Going back to step {trainer.step}, with the images in another order"
            trainer.report.say([f"{told} {going} ({rollbacks} of {settings.rollbacks} times)"])


def _untried(steps: list[int], tried: list[int]) -> int | None:
    """The step to go back to: the newest, but one before that from which the run has diverged again, if there is one.

    Its weights may be finite and yet beyond help.
    """
    if not tried or steps[-1] > max(tried):
        return None  # the newest that is whole
    return max((step for step in steps if step < min(tried)), default=None)


def _resume(trainer: Trainer, settings: RunSettings, *, ready: Callable[[], None]) -> None:
    """Go on from the folder's newest checkpoint, or make way for a new run; whatever can be refused, is so first.

    ``ready`` is called once only it can refuse the run, unless that is finished.
    """
    checkpoints, schedule = trainer.checkpoints, trainer.update.schedule
    there = checkpoints.paths()
    if there and (settings.resume == "auto" or is_requeued()):
        state = checkpoints.load()
        with explain_mismatch(state, checkpoints.folder):
            resume.check(state, trainer.constants, depends_on_length=schedule.depends_on_length)
            trainer.load_state_dict(state)
        if len(state["ranks"]) != distributed.world_size():
            distributed.print_rank_zero(
                f"warning: saved by {len(state['ranks'])} processes, resumed by {distributed.world_size()}: "
                "the run goes on, but not to the same bits"
            )
        if trainer.progress < 1:
            ready()
        if distributed.rank() == 0:
            checkpoints.tidy()
        distributed.print_rank_zero(f"Resuming {checkpoints.folder} at step {trainer.step}")
        return
    if settings.init_from is not None:
        load_networks(trainer.model, Path(settings.init_from).expanduser(), trainer.constants["config"])
        if trainer.update.ema is not None:
            trainer.update.ema.restart()
    ready()
    distributed.gather_object(None)  # every rank has looked before rank 0 deletes
    if there:
        step = max(checkpoints.steps(), default=0)
        distributed.print_rank_zero(f"resume=never: overwriting {checkpoints.folder}, which was at step {step}")
    if distributed.rank() == 0 and (there or (checkpoints.folder / "losses.jsonl").exists()):
        try:
            checkpoints.tidy()
            checkpoints.remove_all()
            remove_report(checkpoints.folder)
        except OSError as error:
            raise ConfigError(f"can't delete {error.filename}: {error.strerror or error}") from None


def _clock(settings: TrainerSettings, size: int) -> Clock:
    if settings.steps is not None:
        return Clock(settings.steps, "step")
    return Clock(settings.epochs * size if settings.epochs is not None else (settings.kimg or 0) * 1000, "image")


def worker(path: str) -> int:
    """What each process that ``distributed.launch`` starts runs: the job in a file."""
    job = json.loads(Path(path).read_text())
    Path(path).with_name(f"{os.getpid()}.rank").touch()
    try:
        return train(job["config"], job["overrides"], job["defaults"])
    except distributed.LostRankError:
        return distributed.LOST
    except (ConfigError, OSError) as error:
        distributed.print_fatal_once(f"gantrain: {error}")
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    try:
        status = worker(sys.argv[1])
    except BaseException:
        traceback.print_exc()
        status = 1
    # torch's launcher waits for the processes, not for their atexit handlers, and after an error a rank may wait there
    # for the others for ever
    if status == 0:
        distributed.leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
