"""The state from which a run starts: its newest checkpoint, the networks of another run, or a rollback."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from gantrain.checkpoints.store import Checkpoints, explain_mismatch
from gantrain.config.overrides import (
    LENGTH,
    PATHS,
    RUNTIME_ONLY_KEYS,
    change_lines,
    command_line,
    flatten,
    split_override,
    without,
)
from gantrain.errors import ConfigError
from gantrain.report.removal import remove_report
from gantrain.runtime import distributed
from gantrain.runtime.atomic import write_file
from gantrain.training import failures
from gantrain.training.automatic import AUTOMATIC, use_precision, use_threads
from gantrain.training.context import RunContext
from gantrain.training.failures import DivergedError
from gantrain.training.init_from import load_networks
from gantrain.training.segments import IMAGES, changed_settings, other_settings
from gantrain.training.trainer import Trainer


def start(trainer: Trainer, context: RunContext, *, ready: Callable[[], None]) -> None:
    """Resume from the newest checkpoint of the run folder, or delete the files of the run that is started over.

    ``ready`` is called once all checks have passed, unless the run is finished.

    Raises:
        ConfigError: The run can't resume with these settings, or its files can't be read or deleted.
    """
    checkpoints = trainer.checkpoints
    is_requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
    step = None
    if context.settings.resume != "never" or is_requeued:
        with distributed.rank_zero_first():
            if fetched := checkpoints.fetch():
                distributed.print_rank_zero(fetched)
        step = _agreed_step(checkpoints)
    existing = checkpoints.paths()
    if existing and (context.settings.resume != "never" or is_requeued):
        news = _resume(trainer, context, step)
        use_threads(trainer)
        use_precision(trainer)
        if trainer.progress < 1:
            ready()
        if distributed.rank() == 0:
            checkpoints.tidy()
        for line in (f"Resuming {checkpoints.folder} at step {trainer.step}", *news):
            distributed.print_rank_zero(line)
        return
    use_threads(trainer)
    use_precision(trainer)
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
    if distributed.rank() == 0:
        checkpoints.clear_mirror()
    if distributed.rank() == 0 and (existing or (checkpoints.folder / "losses.jsonl").exists()):
        try:
            checkpoints.tidy()
            checkpoints.remove_all()
            remove_report(checkpoints.folder)
        except OSError as error:
            raise ConfigError(f"can't delete {error.filename}: {error.strerror or error}") from None


def _agreed_step(checkpoints: Checkpoints) -> int | None:
    """The newest step that all ranks have, where machines have folders of their own; None for the newest of the folder.

    Raises:
        ConfigError: Some have checkpoints, and there is none that all have.
    """
    ranks = distributed.all_gather_object(checkpoints.steps())
    if all(steps == ranks[0] for steps in ranks):
        return None
    if common := set(ranks[0]).intersection(*ranks[1:]):
        return max(common)
    found = ", ".join(f"{max(steps, default='none')} on rank {rank}" for rank, steps in enumerate(ranks))
    raise ConfigError(
        f"{checkpoints.folder}: there is no checkpoint that all ranks have (the newest: {found}): give all machines "
        "one shared folder, or the same trainer.mirror"
    )


def _load(checkpoints: Checkpoints, step: int | None) -> dict[str, Any]:
    """The checkpoint of a step, by default the newest that is not corrupt, which is the same on all ranks.

    Raises:
        ConfigError: It is not the same.
    """
    state = checkpoints.load(step)
    steps = distributed.all_gather_object(state["step"])
    if len(set(steps)) > 1:
        found = ", ".join(f"step {own} on rank {rank}" for rank, own in enumerate(steps))
        raise ConfigError(
            f"{checkpoints.folder}: the newest checkpoint that can be read is not the same on all ranks ({found}): "
            "run the command again with one folder that all machines share, or delete the later checkpoints"
        )
    return state


def _resume(trainer: Trainer, context: RunContext, step: int | None) -> list[str]:
    """Load a checkpoint, if these settings may continue it; returns lines about it to be printed."""
    checkpoints = trainer.checkpoints
    state = _load(checkpoints, step)
    with explain_mismatch(state, checkpoints.folder):
        _use_class_names(trainer, state["spec"]["class_names"])
        _check(state, trainer, context)
    news = _restore(trainer, context, state)
    if (before := len(state["ranks"])) != (now := distributed.world_size()):
        news.append(f"warning: saved by {before} processes, resumed by {now}: the result will not be bit-identical")
    return news


def _restore(trainer: Trainer, context: RunContext, state: dict[str, Any]) -> list[str]:
    """Load a checkpoint; if the settings of the run have changed since, a new segment begins there.

    Returns:
        Lines about the new segment.
    """
    changes = other_settings(state, trainer.constants)
    trainer.constants.update({key: state[key] for key in AUTOMATIC if key in state})
    with explain_mismatch(state, trainer.checkpoints.folder):
        if context.is_named:
            typed = [word for word in context.overrides if split_override(word)[0] not in RUNTIME_ONLY_KEYS - PATHS]
            keys = [split_override(word)[0] for word in typed]
            trainer.constants["overrides"] = [*without(state["overrides"], keys), *typed]
        if not changes:
            trainer.load_state_dict(state)
            return []
        trainer.begin_segment(state, changes, context.command())
    if trainer.progress >= 1:
        return []
    news = [f"New settings: {', '.join(change_lines(changes, '{0} to {1}'))}"]
    plan = trainer.plan
    if plan.end < trainer.total and trainer.update.schedule.depends_on_length:
        news.append(
            f"schedule={context.settings.schedule['name']} ends as planned, after {plan.end:g} {plan.unit}s, and the "
            "last learning rate stays; schedule.extend=true decays anew"
        )
    return news


def _check(state: Mapping[str, Any], trainer: Trainer, context: RunContext) -> None:
    """Refuse to resume from a checkpoint with settings that it does not fit, or that were not meant for it.

    Raises:
        ConfigError: There are such settings; the message lists commands that work, and the settings.
    """
    folder, is_named = context.folder, context.is_named
    changes, now = changed_settings(state, trainer.constants), trainer.constants["config"]
    longer = {key: value for key, value in other_settings(state, trainer.constants).items() if key in LENGTH}
    unfit = {key: value for key, value in changes.items() if key in state["spec"]}
    if "label" not in trainer.model.needs:
        unfit.pop("class_names", None)
    typed = [override for override in context.overrides if split_override(override)[0] != "resume"]
    other = command_line("train", typed, f"name={folder.name}_2")
    if is_named and unfit:
        raise ConfigError(
            f"{folder} was trained on images of another kind, so it can't resume with these; start a run from its "
            f"networks: init_from={folder}",
            *(f"  {line}" for line in change_lines(unfit, "{0} in the checkpoint, {1} now")),
        )
    if changes and not is_named:
        fitting = "" if unfit else _continuing(folder, state, context, changes)
        raise ConfigError(
            f"{folder} was trained with other settings; to resume with those, type:  {_own_command(folder, state)}",
            *([f"Continue with these settings:  {fitting}"] if fitting else []),
            f"Start another run:             {other}",
            f"Start this run over:           {command_line('train', context.overrides, 'resume=never')}",
            *(f"  {line}" for line in change_lines(changes, "{0} in the checkpoint, {1} now")),
        )
    extended = now["schedule"].get("extend", False)
    if longer and not is_named and not extended and trainer.update.schedule.depends_on_length:
        length = [f"{key}={value}" for key, (_, value) in longer.items() if value is not None]
        raise ConfigError(
            f"{folder} was planned for {_length(state['config'])}, on which its learning rates depend "
            f"(schedule={now['schedule']['name']}); to train longer, type:  {_resume_with(folder, *length)}",
            f"Let the learning rates decay anew:  {_resume_with(folder, *length, 'schedule.extend=true')}",
            f"Finish it as planned:               {_own_command(folder, state)}",
            f"Start another run:                  {other}",
        )


def _own_command(folder: Path, state: Mapping[str, Any]) -> str:
    """The command that resumes a run with everything as recorded."""
    plugins = state["config"].get("plugins")
    return shlex.join(["gantrain", "resume", str(folder), *([f"plugins=[{','.join(plugins)}]"] if plugins else [])])


def _resume_with(folder: Path, *overrides: str) -> str:
    return shlex.join(["gantrain", "train", f"resume={folder}", *overrides])


def _continuing(folder: Path, state: Mapping[str, Any], context: RunContext, changes: Mapping[str, Any]) -> str:
    """The command that continues a run with the settings that were typed; empty if they can't be typed for it."""
    typed = [(key, override) for override in context.overrides for key, _ in [split_override(override)]]
    useful = [override for key, override in typed if key in changes or key in LENGTH or key == "data.root"]
    known = {key for key, _ in typed} | ({IMAGES} if any(key == "data.root" for key, _ in typed) else set())
    return _resume_with(folder, *useful) if changes.keys() <= known else ""


def _length(config: Mapping[str, Any]) -> str:
    flat = flatten(config)
    return ", ".join(f"{key}={flat[key]}" for key in LENGTH if flat.get(key) is not None)


def _use_class_names(trainer: Trainer, names: Sequence[str]) -> None:
    """Number the classes as in the loaded networks, which an older version may have numbered in another order."""
    trainer.parts.use_class_names(names)
    trainer.constants["spec"] = trainer.parts.dataset.spec.to_dict()


def fit(trainer: Trainer, context: RunContext) -> bool:
    """Train to the end, rolling back after a divergence if so configured; False if the run was stopped before its end.

    Raises:
        ConfigError: The run has diverged and can't roll back, or the machine lacks memory.
    """
    while True:
        try:
            # The data workers are closed inside, as Python may report the death of one at any point.
            explained = failures.explained(context.config, context.device, trainer.stream.exit_codes)
            with explained, closing(trainer.stream):
                return trainer.fit()
        except DivergedError as divergence:
            _roll_back(trainer, context, divergence)


def _roll_back(trainer: Trainer, context: RunContext, divergence: DivergedError) -> None:
    """Restore an earlier state, with the images in another order, and add its step to those that were tried.

    Checkpoints of interruptions are passed over, so that the run ends with the same bits without them.
    """
    settings = context.trainer
    record = trainer.checkpoints.folder / "crash" / f"step_{divergence.step}.json"
    if distributed.rank() == 0:
        with suppress(OSError):
            record.parent.mkdir(parents=True, exist_ok=True)
            write_file(record, json.dumps(divergence.facts, indent=1))
    message = failures.diverged(divergence.step, divergence.facts, record)
    rollbacks = trainer.stream.rollbacks + 1
    with distributed.rank_zero_first():  # Rank 0 alone writes checkpoints, and all ranks must find the same ones.
        trainer.checkpoints.wait()
    if settings.on_divergence == "stop" or rollbacks > settings.rollbacks or not trainer.checkpoints.steps():
        raise ConfigError(f"{message} {failures.advice(context.config)}") from None
    steps = trainer.checkpoints.steps()
    chosen = _untried([step for step in steps if step not in trainer.irregular] or steps, trainer.tried)
    state = _load(trainer.checkpoints, None if chosen == steps[-1] else chosen)
    best, irregular, tried = trainer.objective.best, trainer.irregular, [*trainer.tried, state["step"]]
    _restore(trainer, context, {**state, "rollbacks": rollbacks, "irregular": irregular, "tried": tried})
    trainer.objective.best = best  # Only a better checkpoint may replace best.pt.
    action = f"Rolling back to step {trainer.step}, with the images in another order"
    trainer.report.say([f"{message} {action} (rollback {rollbacks} of {settings.rollbacks})"])


def _untried(steps: list[int], tried: list[int]) -> int:
    """The step to restore: the newest, or one before those from which the run has diverged again."""
    if not tried or steps[-1] > max(tried):
        return steps[-1]
    return max((step for step in steps if step < min(tried)), default=steps[-1])
