"""The composition root of training: a configuration in, a trained run in its folder out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch

import gantrain
from gantrain.checkpoints.mirror import Mirror
from gantrain.checkpoints.store import Checkpoints
from gantrain.config.overrides import command_line, differences, other_length
from gantrain.config.settings import count_processes, set_up_torch
from gantrain.data.order import class_counts
from gantrain.data.stand_in import StandIn
from gantrain.errors import ConfigError
from gantrain.models.base import network_sizes
from gantrain.registry import higher_metrics
from gantrain.report import Report
from gantrain.report.provenance import provenance
from gantrain.runtime import console, distributed
from gantrain.runtime.cluster.slurm import adopt_slurm_step
from gantrain.runtime.launch import launch
from gantrain.runtime.parallel import available_cores
from gantrain.runtime.run_lock import RunLock
from gantrain.runtime.signals import Interruption, follow_launcher, is_orphaned, requeue, restore_sigint, safe_stderr
from gantrain.training import failures, resume
from gantrain.training.build import Parts
from gantrain.training.context import Defaults, RunContext
from gantrain.training.expectations import mirroring, repetition
from gantrain.training.footprint import check_memory, describe
from gantrain.training.graphs import choice as graphs
from gantrain.training.names import check_objective
from gantrain.training.trainer import Trainer


def train(config: dict[str, Any], overrides: list[str] | None = None, defaults: Defaults = lambda: None) -> int:
    """Train as configured, in this process or in several; ``RunContext`` describes the arguments.

    Returns:
        Exit status: 0, or 128 + the number of the signal that stopped the run, which is saved then.

    Raises:
        ConfigError: The configuration is wrong, or the run can't continue.
    """
    adopt_slurm_step(os.environ)
    distributed.check_variables()
    context = RunContext.create(config, overrides, defaults)
    processes = count_processes(context.trainer)
    if processes == 1 or distributed.world_size() > 1 or context.settings.dry_run:
        return _train_here(context)
    # A wrong configuration is reported once, before any rank starts.
    check_objective(Parts.build(replace(context, device=torch.device("cpu")), world_size=processes))
    restore_sigint()
    job = {"config": context.config, "overrides": context.overrides, "defaults": context.defaults()}
    return launch("gantrain.train", job, processes)


def _train_here(context: RunContext) -> int:
    """Train in this process, alone or as one of several ranks."""
    interruption = Interruption(context.trainer.max_minutes)
    context = replace(context, wants_stop=interruption.is_asked_for)
    set_up_torch(context.trainer, context.device)
    distributed.join(context.device)
    with failures.explained(context.config, context.device):
        parts = Parts.build(context, world_size=distributed.world_size())
        check_objective(parts)
        if context.settings.dry_run:
            with closing(parts.stream):
                missing = str(context.settings.data["root"]) if isinstance(parts.dataset, StandIn) else None
                console.out(*describe(parts, missing=missing))
                if not missing:
                    console.out(*(f"usual       {line}" for line in parts.expectations()))
                    console.out(*parts.recommendations())
            return 0
        check_ranks(parts, context)
        check_memory(parts)
        restore_sigint()  # Every library is imported by now.
        lock = RunLock(context.folder) if distributed.rank() == 0 else None  # Rank 0 writes for all.
        with safe_stderr(), interruption, lock or nullcontext(), closing(parts.stream):
            trainer = build_trainer(parts, context, lock)
            with trainer.checkpoints.claimed():
                return _run(trainer, parts, context, interruption)


def _run(trainer: Trainer, parts: Parts, context: RunContext, interruption: Interruption) -> int:
    """Resume or start the run, train, and report how it ended."""
    report, checkpoints = trainer.report, trainer.checkpoints
    restarts = context.settings.resume == "never"
    again = context.command(*(["resume=auto"] if restarts else []))
    try:
        resume.start(trainer, context, ready=parts.cache_images)
    except KeyboardInterrupt:  # While images were decoded into the cache.
        reason = interruption.reason(interruption.signal)
        distributed.print_rank_zero(f"Stopped before the first step ({reason}); run again: {again}")
        return 128 + interruption.signal if interruption.signal else 0
    if trainer.is_exhausted:
        checkpoints.complete_mirror()
        distributed.print_rank_zero(f"{checkpoints.folder}: {_no_better(trainer)}, or pass resume=never to start over")
        distributed.print_rank_zero(f"Page: {report.page}")
        return 0
    if trainer.progress >= 1:
        report.finish(trainer.step, **trainer.extent)
        checkpoints.complete_mirror()
        key, length = next((key, value) for key, value in context.trainer.length.items() if value is not None)
        longer = command_line("train", [f"resume={checkpoints.folder}", f"{key}={2 * length:g}"])
        distributed.print_rank_zero(
            f"{checkpoints.folder} is finished at step {trainer.step}; to train longer: {longer} "
            "(or pass resume=never to start over)"
        )
        distributed.print_rank_zero(f"Page: {report.page}")
        return 0
    for line in (*introduction(parts, context), f"Page: {report.page}"):
        distributed.print_rank_zero(line)
    with closing(checkpoints), report:
        done = resume.fit(trainer, context)
        number = max(distributed.all_gather_object(interruption.signal))  # The same on all ranks, and rank 0 has saved.
        if done:
            exhausted = trainer.is_exhausted and trainer.progress < 1
            report.close(f"stopped: {trainer.objective.verdict()}" if exhausted else "done", trainer.step)
            if exhausted:
                distributed.print_rank_zero(_no_better(trainer))
            distributed.print_rank_zero(f"Page: {report.page}")
            return 128 + number if number else 0  # Later commands of a script are not wanted any more.
        report.close(f"stopped: {interruption.reason(number)}", trainer.step)
    command = "resume with" if restarts else "the same command resumes"
    distributed.print_rank_zero(
        f"Stopped at step {trainer.step} and saved ({interruption.reason(number)}); {command}: {again}"
    )
    distributed.print_rank_zero(f"Page: {report.page}")
    if number == getattr(signal, "SIGUSR1", None) and distributed.rank() == 0 and (message := requeue()):
        distributed.print_rank_zero(message)
    return 128 + number if number else 0


def _no_better(trainer: Trainer) -> str:
    """Why a run has stopped by ``objective.patience``, and how to continue it."""
    patience = trainer.objective.settings.patience or 0
    return (
        f"Stopped at step {trainer.step}: {trainer.objective.verdict()}; to train longer, give "
        f"objective.patience={2 * patience}"
    )


def check_ranks(parts: Parts, context: RunContext) -> None:
    """Refuse ranks, which torchrun may start on several machines, whose data, length or settings differ."""
    data = {"images": parts.stream.size, "names of images": parts.dataset.fingerprint}
    ranks = distributed.all_gather_object({**data, "config": context.config})
    for number, other in enumerate(ranks):
        changes = {key: [ranks[0][key], other[key]] for key in data if ranks[0][key] != other[key]}
        for compare in (other_length, differences):
            changes |= compare(ranks[0]["config"], other["config"])
        if changes:
            key, (first, second) = next(iter(changes.items()))
            raise ConfigError(
                f"{key} is {first} on rank 0, but {second} on rank {number}: "
                "start all ranks with the same command and data"
            )


def introduction(parts: Parts, context: RunContext) -> list[str]:
    """What is about to be trained, on what and where, in a few lines."""
    data, spec, device, ranks = context.settings.data, parts.dataset.spec, context.device, distributed.world_size()
    channels = " and ".join(dict.fromkeys(f"{n} channel{'s' * (n > 1)}" for n in spec.channels.values()))
    classes = f", {spec.num_classes} classes" if spec.num_classes else ""
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    if torch.get_num_threads() < available_cores() and ranks == 1 and device.type == "cpu":
        threads += f" of {available_cores()} (trainer.threads)"
    count = f"{parts.stream.size:,} image{'s' * (parts.stream.size > 1)}"
    images = f"{count} of {spec.height} x {spec.width} pixels, {channels}{classes}"
    return [
        f"Data: {data.get('root') or data['mode']}: {images}",
        f"Device: {device}{name}, {threads}" + (f" in each of {ranks} processes" if ranks > 1 else ""),
        *repetition(parts.stream.size, parts.stream.batch_size),
        *mirroring(parts.model, flip=context.settings.data.get("flip", True)),
        *(f"Note: {line}" for line in (*parts.expectations(), *graphs.advice(parts))),
        f"Run folder: {context.folder}",
    ]


def build_trainer(parts: Parts, context: RunContext, lock: RunLock | None) -> Trainer:
    """The trainer with its report and checkpoints, which claim the run folder by ``lock``."""
    settings, whole = context.trainer, parts.dataset.distinct()
    report = Report(
        context.folder,
        command=context.command(),
        config=context.config,
        columns=parts.model.columns,
        loggers=parts.loggers,
        advice=parts.advice,
        active=distributed.rank() == 0,
        home=context.settings.home,
        defaults=context.defaults,
        facts={
            "seed": str(context.settings.seed),
            **provenance(context.device),
            **({"classes": class_counts(whole.labels, whole.spec.class_names)} if whole.labels is not None else {}),
            **({"length": "; ".join(notes)} if (notes := parts.expectations()) else {}),
        },
        networks=network_sizes(parts.model),
        higher=higher_metrics(),
    )
    claim = lock.renew if lock is not None else lambda: None
    mirror = None
    if settings.mirror is not None:
        home = context.settings.home or context.settings.runs_folder  # Sweeps may have runs of the same name.
        name = context.folder.relative_to(home).as_posix()
        mirror = Mirror(settings.mirror, context.folder, name=name, warn=distributed.print_rank_zero)
    checkpoints = Checkpoints(
        context.folder, keep=settings.keep, keep_every=settings.keep_every, claim=claim, mirror=mirror
    )
    constants = {
        "config": context.config,
        "overrides": context.overrides,
        "working_folder": os.getcwd(),
        "spec": parts.dataset.spec.to_dict(),
        "images": parts.stream.size,
        "fingerprint": parts.dataset.fingerprint,
    }
    return Trainer(parts, settings, report=report, checkpoints=checkpoints, constants=constants)


def worker(path: str) -> int:
    """Train as one of the ranks that ``launch`` starts; ``path`` is a JSON file with the arguments of ``train``."""
    follow_launcher()
    job = json.loads(Path(path).read_text())
    try:
        return train(job["config"], job["overrides"], lambda: job["defaults"])
    except distributed.LostRankError:
        return distributed.LOST
    except (ConfigError, OSError) as error:
        distributed.print_fatal_once(f"gantrain: {error}")
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def end_as_rank(path: str) -> NoReturn:
    """``worker`` as a process, which ends with its exit status."""
    try:
        status = worker(path)
    except BaseException:
        console.err(*traceback.format_exc().splitlines())
        status = 1
    # After an error the atexit handlers of a rank might wait for the other ranks forever, so they are skipped.
    if status == 0:
        distributed.leave()
    if is_orphaned():
        shutil.rmtree(Path(path).parent, ignore_errors=True)
    with suppress(OSError):  # They are closed if the launcher was killed.
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


class _CallableModule(ModuleType):
    """``gantrain.train(...)`` is ``gantrain.api.train``, also where the name has become that of this module."""

    def __call__(self, *overrides: Any, **settings: Any) -> Any:
        return gantrain.__getattr__("train")(*overrides, **settings)


sys.modules[__name__].__class__ = _CallableModule
