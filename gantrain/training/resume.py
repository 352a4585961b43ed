"""The state from which a run starts: its newest checkpoint, the networks of another run, or a rollback."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from gantrain.checkpoints.store import explain_mismatch
from gantrain.config.overrides import check_compatible
from gantrain.errors import ConfigError
from gantrain.report.run import remove_report
from gantrain.runtime import distributed
from gantrain.training import failures
from gantrain.training.context import RunContext
from gantrain.training.init_from import load_networks
from gantrain.training.trainer import DivergedError, Trainer


def start(trainer: Trainer, context: RunContext, *, ready: Callable[[], None]) -> None:
    """Resume from the newest checkpoint of the run folder, or delete the files of the run that is started over.

    ``ready`` is called once all checks have passed, unless the run is finished.

    Raises:
        ConfigError: The run can't resume with these settings, or its files can't be read or deleted.
    """
    checkpoints = trainer.checkpoints
    existing = checkpoints.paths()
    is_requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
    if existing and (context.settings.resume == "auto" or is_requeued):
        _resume(trainer, context)
        if trainer.progress < 1:
            ready()
        if distributed.rank() == 0:
            checkpoints.tidy()
        distributed.print_rank_zero(f"Resuming {checkpoints.folder} at step {trainer.step}")
        return
    if context.settings.init_from is not None:
        names = load_networks(trainer.model, Path(context.settings.init_from).expanduser(), context.config)
        _use_class_names(trainer, names)
        if trainer.update.ema is not None:
            trainer.update.ema.restart()
    ready()
    distributed.gather_object(None)  # Every rank has read the folder before rank 0 deletes from it.
    if existing:
        step = max(checkpoints.steps(), default=0)
        distributed.print_rank_zero(f"resume=never: overwriting {checkpoints.folder}, which was at step {step}")
    if distributed.rank() == 0 and (existing or (checkpoints.folder / "losses.jsonl").exists()):
        try:
            checkpoints.tidy()
            checkpoints.remove_all()
            remove_report(checkpoints.folder)
        except OSError as error:
            raise ConfigError(f"can't delete {error.filename}: {error.strerror or error}") from None


def _resume(trainer: Trainer, context: RunContext) -> None:
    """Load the newest checkpoint, if these settings may continue it."""
    checkpoints = trainer.checkpoints
    state = checkpoints.load()
    with explain_mismatch(state, checkpoints.folder):
        _use_class_names(trainer, state["spec"]["class_names"])
        check_compatible(
            state,
            trainer.constants,
            folder=context.folder,
            depends_on_length=trainer.update.schedule.depends_on_length,
        )
        trainer.load_state_dict(state)
    if len(state["ranks"]) != distributed.world_size():
        distributed.print_rank_zero(
            f"warning: saved by {len(state['ranks'])} processes, resumed by {distributed.world_size()}: "
            "the result will not be bit-identical"
        )


def _use_class_names(trainer: Trainer, names: Sequence[str]) -> None:
    """Number the classes as in the loaded networks, which an older version may have numbered in another order."""
    trainer.parts.use_class_names(names)
    trainer.constants["spec"] = trainer.parts.dataset.spec.to_dict()


def fit(trainer: Trainer, context: RunContext) -> bool:
    """Train to the end, rolling back after a divergence if so configured; False if the run was stopped before its end.

    Raises:
        ConfigError: The run has diverged and can't roll back, or the machine lacks memory.
    """
    tried: list[int] = []
    while True:
        try:
            # The data workers are closed inside, as Python may report the death of one at any point.
            explained = failures.explained(context.config, context.device, trainer.stream.exit_codes)
            with explained, closing(trainer.stream):
                return trainer.fit()
        except DivergedError as divergence:
            _roll_back(trainer, context, divergence, tried)


def _roll_back(trainer: Trainer, context: RunContext, divergence: DivergedError, tried: list[int]) -> None:
    """Restore an earlier state, with the images in another order, and add its step to those ``tried``."""
    settings = context.trainer
    record = trainer.checkpoints.folder / "crash" / f"step_{divergence.step}.json"
    if distributed.rank() == 0:
        with suppress(OSError):
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps(divergence.facts, indent=1), encoding="utf-8")
    message = failures.diverged(divergence.step, divergence.facts, record)
    rollbacks = trainer.stream.rollbacks + 1
    with distributed.rank_zero_first():  # Rank 0 alone writes checkpoints, and all ranks must find the same ones.
        trainer.checkpoints.wait()
    if settings.on_divergence == "stop" or rollbacks > settings.rollbacks or not trainer.checkpoints.steps():
        raise ConfigError(f"{message} {failures.advice(context.config)}") from None
    state = trainer.checkpoints.load(_untried(trainer.checkpoints.steps(), tried))
    tried.append(state["step"])
    best = trainer.objective.best
    trainer.load_state_dict({**state, "rollbacks": rollbacks})
    trainer.objective.best = best  # Only a better checkpoint may replace best.pt.
    action = f"Rolling back to step {trainer.step}, with the images in another order"
    trainer.report.say([f"{message} {action} (rollback {rollbacks} of {settings.rollbacks})"])


def _untried(steps: list[int], tried: list[int]) -> int | None:
    """The step to restore: the newest (None), or one before those from which the run has diverged again."""
    if not tried or steps[-1] > max(tried):
        return None
    return max((step for step in steps if step < min(tried)), default=None)
