"""``hydra.main``, for Hydra's own flags, completion, and the runs of a sweep."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gantrain.cli.arguments import process, split
from gantrain.cli.compose import Composed, add_resolvers, config_folders
from gantrain.cli.config_files import TRUSTED, only_safe_files, refuse_shadowed
from gantrain.cli.errors import fail, report_errors
from gantrain.cli.help import completed
from gantrain.cli.hydra_errors import in_one_line, is_of_hydra
from gantrain.config.keys import COMMANDS
from gantrain.config.overrides import flatten
from gantrain.errors import ConfigError
from gantrain.runtime import console
from gantrain.runtime.scratch import scratch_folder
from gantrain.runtime.signals import SCRATCH

if TYPE_CHECKING:
    from gantrain.sweeps.sweep import Sweep

Job: TypeAlias = Callable[[Composed], int]


def _prepare(flags: list[str], typed: list[str]) -> None:
    """Refuse files that Hydra would not read, and with ``--info``, print where gantrain's own are."""
    add_resolvers()  # The files refer to them.
    values = " ".join(word.partition("=")[2] for word in typed if word.startswith("hydra.searchpath="))
    searched = re.findall(r"(?:file://)?([^][,'\" ]+)", values)
    refuse_shadowed([*config_folders(flags), *map(Path, searched)])
    if any(flag.startswith(("--info", "-i")) for flag in flags):
        console.out(f"gantrain's own configuration files: {TRUSTED[-1]}")


def run_hydra(command: str, arguments: list[str], job: Job, sweep: Sweep | None = None) -> int:
    """Compose ``configs/<command>.yaml`` by ``hydra.main``, which handles its own flags, and run the job on it.

    Args:
        job: Called with every composed configuration; returns an exit status.
        sweep: The sweep that the runs belong to; None for a single run.

    Returns:
        The highest exit status.
    """
    flags, typed = split(arguments)
    _prepare(flags, typed)
    statuses: list[int] = []
    errors: list[Exception] = []  # Of jobs, in this process.

    def task(config: DictConfig) -> float | None:
        runtime = HydraConfig.get()
        os.chdir(runtime.runtime.cwd)  # Paths are relative to it, also with hydra.job.chdir=true or in other processes.
        if sweep and not sweep.prepare(runtime.job.num, judged="optuna" in str(runtime.sweeper.get("_target_"))):
            return None
        try:
            composed = _resolved(config, runtime, command, typed)
        except ConfigError as error:
            statuses.append(fail(error))
            if sweep is not None:
                overrides = cast(list[str], OmegaConf.to_container(runtime.overrides.task, resolve=False))
                sweep.record_failure(overrides, dict(runtime.runtime.choices), str(error))
            return None
        try:
            with report_errors() as outcome:
                outcome.status = job(composed)
        except Exception as error:
            errors.append(error)
            raise
        statuses.append(outcome.status)
        if sweep and (sweep.setup_failed or (outcome.status > 128 and not sweep.is_elsewhere)):
            raise SystemExit(outcome.status)  # After an interruption the remaining runs are not wanted either.
        return sweep.value if sweep else None

    wants_trace = os.environ.get("HYDRA_FULL_ERROR") == "1"
    with (
        scratch_folder() as scratch,  # For Hydra's own records of a sweep.
        console.escaped_stdout(),
        process(["gantrain", *flags, *typed], HYDRA_FULL_ERROR="1", **{SCRATCH: str(scratch)}),
        only_safe_files(),
    ):
        try:
            hydra.main(config_path="pkg://gantrain.configs", config_name=command, version_base="1.3")(task)()
        except ConfigError as error:
            statuses.append(fail(error))
        except SystemExit as stop:
            statuses.append(stop.code if isinstance(stop.code, int) else 0)
        except Exception as error:
            if error in errors or wants_trace:
                raise
            is_composition = sweep is None or is_of_hydra(error)  # Otherwise the launcher or sweeper has failed.
            message = in_one_line(error, command, typed) if is_composition else f"the sweep has ended early: {error!r}"
            statuses.append(fail(message))
    return max(statuses, default=0)


def _resolved(config: DictConfig, runtime: Any, command: str, typed: list[str]) -> Composed:
    """The composed configuration; ``runtime`` is Hydra's own.

    Raises:
        ConfigError: A value can't be resolved, or it names the temporary folder, which is deleted with its content.
    """
    try:
        composed = Composed.of(config, runtime)
    except (OmegaConfBaseException, RecursionError) as error:
        raise ConfigError(in_one_line(error, command, typed)) from None
    if runtime.job.chdir and (OmegaConf.is_missing(runtime.job, "num") or runtime.job.num == 0):
        console.err("hydra.job.chdir=true has no effect: paths stay relative; checkpoints_dir=FOLDER moves the runs")
    scratch = os.environ.get(SCRATCH)  # Not on another machine.
    for key, value in flatten(composed.config).items():
        if scratch and scratch in str(value):
            raise ConfigError(f"{key}={value} is in a temporary folder of this command: give a folder of your own")
    return composed


def complete_words(arguments: list[str], commands: list[str]) -> int:
    """Answer Hydra's completion protocol, which has no sub-commands: gantrain's are removed from ``COMP_LINE``."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    rest = [word for word in arguments if word not in commands]
    if "query" not in " ".join(rest):
        return run_hydra("train", rest, lambda _: 0)
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        console.out(" ".join(command for command in commands if command.startswith(words[1] if len(words) > 1 else "")))
        return 0
    program, command, *typed = words
    is_value = bool(typed) and "=" in typed[-1] and not line.endswith(" ")
    if (is_value or command == "help") and (found := completed(command, typed, line)):
        console.out(*found if "query=fish" in rest else [" ".join(found)])
        return 0
    if command == "benchmark":  # Nearly all of its keys are those of training.
        command = "train"
    if command not in ("train", *COMMANDS):
        return 0
    for place, word in enumerate(typed[:-1]):
        if word.startswith("--config-dir="):
            rest.append(typed.pop(place))
            break
        if word in ("--config-dir", "-cd"):  # Hydra completes from there only if it is among its arguments.
            rest += typed[place : place + 2]
            del typed[place : place + 2]
            break
    tail = " " if line.endswith(" ") else ""
    with process(sys.argv, COMP_LINE=shlex.join([program, *typed]).replace("'", "") + tail):
        return run_hydra(command, rest, lambda _: 0)
