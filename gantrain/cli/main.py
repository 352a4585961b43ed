"""The ``gantrain`` command: one sub-command, one function. With ``cli_hydra``, the only module that knows Hydra.

Nothing heavy is imported before it is needed: help and completion do without torch.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from gantrain.cli.arguments import config_flags, is_sweep, process, split
from gantrain.cli.errors import fail, report_errors
from gantrain.errors import ConfigError
from gantrain.runtime.signals import SCRATCH, exit_on_sigint, restore_sigint

if TYPE_CHECKING:
    from gantrain.sweeps.sweep import Sweep

HELP = """\
gantrain trains the classic GANs from a configuration.

  gantrain train [KEY=VALUE ...]      train a model: gantrain train model=wgan_gp data=single data.root=images
  gantrain test run=checkpoints/NAME  make images with a trained model
  gantrain compare RUN RUN ...        runs side by side on one page, or all of a folder or a sweep
  gantrain list                       the models, networks, data modes, optimizers and schedules there are
  gantrain data download NAME         fetch a data set of the papers: gantrain data download horse2zebra
  gantrain data                       everything else that is done with images

  gantrain train --help               every key that can be set, and its value now
  gantrain train -m KEY=A,B           one run for every combination
  gantrain --version

Tab completion for bash: eval "$(gantrain -sc install=bash)"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: What follows ``gantrain`` on the command line; by default this process's own.

    Returns:
        Exit status: 0, 1 or 2 for mistakes, 128 + signal after an interruption.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "-sc" in arguments or "--shell-completion" in arguments:
        return report_errors(lambda: _complete(arguments))
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"gantrain {version('gantrain')}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(COMMANDS)}"
        return fail(f"no command '{command}'; {hint}")
    goes_on = command == "train" and "resume=never" not in rest
    try:
        with exit_on_sigint() if command in ("train", "test") else nullcontext():
            return report_errors(lambda: COMMANDS[command](rest))
    except KeyboardInterrupt:
        then = "; the same command goes on from the newest checkpoint, if there was one yet"
        fail(f"interrupted{then if goes_on else ''}")
        return 130


def _train(arguments: list[str]) -> int:
    flags, typed = split(arguments)
    sweep: Sweep | None = None
    sweep_folder: list[str] = []
    if is_sweep(flags, typed):
        from gantrain.cli.sweep import plan

        sweep, sweep_folder = plan(arguments, typed)

    def job(config: dict[str, Any], overrides: list[str], choices: dict[str, Any]) -> int:
        from gantrain.cli.compose import defaults_of
        from gantrain.config.naming import name_of_run, split_override
        from gantrain.config.overrides import LENGTH
        from gantrain.train import train

        config.pop("demo", None)  # has done its work
        skip_done = config.pop("sweep", {}).get("skip_done", True)
        name = name_of_run(overrides, choices)
        config["name"] = name if config["name"] is None else config["name"]
        defaults = defaults_of(choices, name)
        keys = {split_override(override)[0] for override in overrides}
        if keys.intersection(LENGTH):  # the length that was typed replaces the data set's, whatever its unit
            config["trainer"] |= {key.split(".")[1]: None for key in LENGTH if key not in keys}
        whole = [*config_flags(flags), *overrides]
        if sweep is None:
            return train(config, whole, defaults)
        return sweep.run_job(config, whole, skip_done=skip_done, train=lambda: train(config, whole, defaults))

    return _hydra("train", [*_demo(flags, typed), *sweep_folder, *arguments], job, sweep)


def _demo(flags: list[str], typed: list[str]) -> list[str]:
    from gantrain.cli.compose import demo_data

    return demo_data(typed, config_flags(flags))


def _test(arguments: list[str]) -> int:
    flags, _ = split(arguments)

    def job(config: dict[str, Any], overrides: list[str], choices: dict[str, Any]) -> int:
        from gantrain.test import test

        restore_sigint()
        return test(config, [*config_flags(flags), *overrides], data_name=choices.get("data"))

    return _hydra("test", arguments, job)


def _list(arguments: list[str]) -> int:
    import gantrain.training.build  # noqa: F401 - files every class
    from gantrain.registry import REGISTRIES, import_plugins

    if any(word.startswith("-") for word in arguments):
        print(HELP, end="")
        return 0
    listed = [re.fullmatch(r"plugins=\[(.*)\]", word) for word in arguments]
    if None in listed:
        return fail(f"{arguments[listed.index(None)]}: gantrain list takes nothing but plugins=[MODULE,...]")
    import_plugins([name for found in listed if found for name in found[1].split(",")])
    for registry in REGISTRIES:
        print(f"{registry.kind} ({registry.key}.{registry.choose_by})")
        for name in registry:
            print(f"  {name:<12} {(registry[name].__doc__ or '').strip().splitlines()[0]}")
    return 0


def _compare(arguments: list[str]) -> int:
    from gantrain.sweeps.compare import main as compare

    if not arguments or {"-h", "--help"}.intersection(arguments):
        print(
            "gantrain compare RUN... | FOLDER [out=FOLDER]: runs, or all of a folder, side by side, as a page, "
            "runs.csv and runs.json"
        )
        return 0
    return compare(arguments)


def _data(arguments: list[str]) -> int:
    from gantrain.cli.data import main as data

    if arguments[:1] == ["check"] and len(arguments) > 1 and not {"-h", "--help"}.intersection(arguments):
        return _check(arguments[1:])
    return data(arguments)


def _check(arguments: list[str]) -> int:
    own = [word for word in arguments if word.startswith(("quick=", "out="))]
    flags, typed = split([word for word in arguments if word not in own])

    def job(config: dict[str, Any], overrides: list[str], choices: dict[str, Any]) -> int:
        from gantrain.cli.data_check import check

        command = shlex.join(["gantrain", "data", "check", *arguments])
        return check(config, name=choices["data"], options=own, command=command)

    return _hydra("train", [*_demo(flags, typed), *flags, *typed], job)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "test": _test,
    "compare": _compare,
    "list": _list,
    "data": _data,
}

Job = Callable[[dict[str, Any], list[str], dict[str, Any]], int]


def _hydra(command: str, arguments: list[str], job: Job, sweep: Sweep | None = None) -> int:
    """Compose ``configs/<command>.yaml`` with the overrides among ``arguments`` and run ``job`` on each result."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from gantrain.cli.compose import add_resolvers, in_one_line, is_hydras, only_harmless_files, refuse_open_braces

    statuses: list[int] = []
    faults: list[BaseException] = []  # of ours, in a job
    flags, typed = split(arguments)
    refuse_open_braces(typed)

    def task(config: DictConfig) -> float | None:
        runtime = HydraConfig.get()
        choices = dict(runtime.runtime.choices)
        if sweep and not sweep.prepare(runtime.job.num, judged="optuna" in str(runtime.sweeper.get("_target_"))):
            return None
        try:
            plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            assert isinstance(plain, dict)
            named = {str(key): value for key, value in plain.items()}
        except (OmegaConfBaseException, RecursionError) as error:
            message = in_one_line(error, command, typed)
            statuses.append(fail(message))
            if sweep is not None:
                as_typed = OmegaConf.to_container(runtime.overrides.task, resolve=False)
                assert isinstance(as_typed, list)
                sweep.record_failure(as_typed, choices, message)
            return None
        try:
            status = report_errors(lambda: job(named, list(runtime.overrides.task), choices))
        except Exception as error:
            faults.append(error)
            raise
        statuses.append(status)
        if sweep is None:
            return None
        if sweep.setup_failed or (status > 128 and not sweep.is_elsewhere):
            raise SystemExit(status)  # interrupted: the rest of a sweep is not wanted either
        return sweep.value

    trace_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    status = 0
    add_resolvers()
    # Hydra then raises what it would print, and puts its record of a sweep where nobody has to look at it
    with (
        tempfile.TemporaryDirectory(prefix="gantrain-") as scratch,
        process(["gantrain", *flags, *typed], HYDRA_FULL_ERROR="1", **{SCRATCH: scratch}),
        only_harmless_files(),
    ):
        try:
            if sweep is not None:
                restore_sigint()  # what becomes of its runs is kept
            with sweep.defer_sigint() if sweep else nullcontext():
                hydra.main(config_path="pkg://gantrain.configs", config_name=command, version_base="1.3")(task)()
        except ConfigError as error:
            status = fail(error)
        except Exception as error:  # Hydra and OmegaConf stumble over what they are given in every way there is
            if trace_wanted or error in faults:
                raise
            theirs = isinstance(error, (HydraException, OmegaConfBaseException, YAMLError)) or is_hydras(error)
            if sweep is None or theirs:
                status = fail(in_one_line(error, command, typed))
            else:  # a launcher or a sweeper
                status = fail(f"the sweep has ended early: {error!r}")
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 0
        finally:
            if sweep is not None:
                from gantrain.cli.sweep import finish

                interrupted = status > 128 or isinstance(sys.exc_info()[1], KeyboardInterrupt)
                status = max(status, finish(sweep, stopped=interrupted))
    return max([status, *statuses])


def _complete(arguments: list[str]) -> int:
    """Answer Hydra's completion protocol, which knows nothing of sub-commands: take ours out of ``COMP_LINE``."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    rest = [word for word in arguments if word not in COMMANDS]
    if "query" not in " ".join(rest):
        return _hydra("train", rest, lambda *_: 0)
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        print(" ".join(command for command in COMMANDS if command.startswith(words[1] if len(words) > 1 else "")))
        return 0
    program, command, *typed = words
    if command not in ("train", "test"):
        return 0
    for place, word in enumerate(typed[:-1]):
        if word.startswith("--config-dir="):
            rest.append(typed.pop(place))
            break
        if word in ("--config-dir", "-cd"):  # Hydra looks there only if it stands among its own arguments
            rest += typed[place : place + 2]
            del typed[place : place + 2]
            break
    tail = " " if line.endswith(" ") else ""
    with process(sys.argv, COMP_LINE=shlex.join([program, *typed]).replace("'", "") + tail):
        return _hydra(command, rest, lambda *_: 0)
