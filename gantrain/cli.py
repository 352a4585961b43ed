"""The ``gantrain`` command: one sub-command, one function. With ``cli_hydra``, the only module that knows Hydra.

Nothing heavy is imported before it is needed: help and completion do without torch.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

HELP = """\
gantrain trains the classic GANs from a configuration.

  gantrain train [KEY=VALUE ...]      train a model: gantrain train model=wgan_gp data=single data.root=pictures
  gantrain test run=checkpoints/NAME  make pictures with a trained model
  gantrain list                       the models, networks, data modes, optimizers and schedules there are
  gantrain data download NAME         fetch a data set of the papers: gantrain data download horse2zebra
  gantrain data                       everything else that is done with pictures

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
        return _complete(arguments)
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
        return _fail(f"no command '{command}'; {hint}")
    from gantrain.registry import ConfigError

    try:
        return COMMANDS[command](rest)
    except ConfigError as error:
        return _fail(str(error))
    except OSError as error:
        _fail(str(error))
        return 1
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from the newest checkpoint, if there was one yet")
        return 130


def _train(arguments: list[str]) -> int:
    flags, typed = _split(arguments)

    def job(config: dict[str, Any], overrides: list[str], choices: dict[str, Any]) -> int:
        from gantrain.naming import run_name, split_override
        from gantrain.resume import LENGTH
        from gantrain.train import train

        del config["demo"]
        if config["name"] is None:
            config["name"] = run_name(choices.get("experiment") or f"{choices['model']}_{choices['data']}", overrides)
        keys = {split_override(override)[0] for override in overrides}
        if keys.intersection(LENGTH):  # the length that was typed replaces the data set's, whatever its unit
            config["trainer"] |= {key.split(".")[1]: None for key in LENGTH if key not in keys}
        return train(config, [*_config_flags(flags), *overrides])

    return _hydra("train", [*_demo(flags, typed), *arguments], job)


def _demo(flags: list[str], typed: list[str]) -> list[str]:
    from gantrain.cli_hydra import demo_data

    return demo_data(typed, _config_flags(flags))


def _test(arguments: list[str]) -> int:
    flags, _ = _split(arguments)

    def job(config: dict[str, Any], overrides: list[str], choices: dict[str, Any]) -> int:
        from gantrain.test import test

        return test(config, [*_config_flags(flags), *overrides], data_name=choices.get("data"))

    return _hydra("test", arguments, job)


def _list(arguments: list[str]) -> int:
    import gantrain.build  # noqa: F401 - files every class
    from gantrain.registry import REGISTRIES
    from gantrain.settings import import_plugins

    if any(word.startswith("-") for word in arguments):
        print(HELP, end="")
        return 0
    listed = [re.fullmatch(r"plugins=\[(.*)\]", word) for word in arguments]
    if None in listed:
        return _fail(f"{arguments[listed.index(None)]}: gantrain list takes nothing but plugins=[MODULE,...]")
    import_plugins([name for found in listed if found for name in found[1].split(",")])
    for registry in REGISTRIES:
        print(f"{registry.kind} ({registry.key}.{registry.choose_by})")
        for name in registry:
            print(f"  {name:<12} {(registry[name].__doc__ or '').strip().splitlines()[0]}")
    return 0


def _data(arguments: list[str]) -> int:
    from gantrain.data_commands import main as data

    if arguments[:1] == ["check"] and len(arguments) > 1 and not {"-h", "--help"}.intersection(arguments):
        return _check(arguments[1:])
    return data(arguments)


def _check(arguments: list[str]) -> int:
    own = [word for word in arguments if word.startswith(("quick=", "out="))]
    flags, typed = _split([word for word in arguments if word not in own])

    def job(config: dict[str, Any], overrides: list[str], choices: dict[str, Any]) -> int:
        from gantrain.data_check import check

        command = shlex.join(["gantrain", "data", "check", *arguments])
        return check(config, name=choices["data"], options=own, command=command)

    return _hydra("train", [*_demo(flags, typed), *flags, *typed], job)


COMMANDS: dict[str, Callable[[list[str]], int]] = {"train": _train, "test": _test, "list": _list, "data": _data}

Job = Callable[[dict[str, Any], list[str], dict[str, Any]], int]


def _hydra(command: str, arguments: list[str], job: Job) -> int:
    """Compose ``configs/<command>.yaml`` with the overrides among ``arguments`` and run ``job`` on each result."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from gantrain.cli_hydra import in_one_line, is_hydras, refuse_open_braces
    from gantrain.registry import ConfigError

    statuses: list[int] = []
    flags, typed = _split(arguments)
    refuse_open_braces(typed)

    def task(config: DictConfig) -> None:
        runtime = HydraConfig.get()
        try:
            plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            assert isinstance(plain, dict)
            status = job(
                {str(key): value for key, value in plain.items()},
                list(runtime.overrides.task),
                dict(runtime.runtime.choices),
            )
        except ConfigError as error:
            status = _fail(str(error))
        except OmegaConfBaseException as error:
            status = _fail(in_one_line(error, command, typed))
        statuses.append(status)
        if status > 128:  # interrupted: the rest of a sweep is not wanted either
            raise SystemExit(status)

    trace_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra then raises what it would print, and puts its record of a sweep where nobody has to look at it
    with (
        tempfile.TemporaryDirectory(prefix="gantrain-") as scratch,
        _process(["gantrain", *flags, *typed], HYDRA_FULL_ERROR="1", GANTRAIN_SCRATCH=scratch),
    ):
        try:
            hydra.main(config_path="pkg://gantrain.configs", config_name=command, version_base="1.3")(task)()
        except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
            if trace_wanted or (isinstance(error, ValueError) and not is_hydras(error)):
                raise
            return _fail(in_one_line(error, command, typed))
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 0
    return max(statuses, default=0)


# Hydra's flags, and whether a value follows
FLAGS = {
    **dict.fromkeys(
        ["--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"], False
    ),
    **dict.fromkeys(["--cfg", "-c", "--package", "-p", "--info", "-i", "--shell-completion", "-sc"], True),
    **dict.fromkeys(["--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"], True),
    "--experimental-rerun": True,
}


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and the overrides, which Hydra wants in one block."""
    flags: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name = word.split("=")[0]
        if name not in FLAGS:
            from gantrain.registry import ConfigError, nearest

            other = "a setting is typed KEY=VALUE, as in data.root=FOLDER"
            raise ConfigError(f"no flag {name}; {close if (close := nearest(name, FLAGS))[:3] == 'did' else other}")
        flags += [word, next(rest, "")] if FLAGS[name] and "=" not in word else [word]
    return flags, overrides


def _config_flags(flags: list[str]) -> list[str]:
    """The flags without which the same overrides would compose something else, for the record of what was typed."""
    kept: list[str] = []
    for flag, value in itertools.zip_longest(flags, flags[1:]):
        if flag.startswith(("--config-", "-cd", "-cn", "-cp")):
            kept += [flag] if "=" in flag else [flag, value]
    return kept


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
    with _process(sys.argv, COMP_LINE=shlex.join([program, *typed]).replace("'", "") + tail):
        return _hydra(command, rest, lambda *_: 0)


@contextmanager
def _process(argv: list[str], **environment: str) -> Iterator[None]:
    """Another command line and more environment variables inside; the old ones after."""
    before, variables = sys.argv, dict(os.environ)
    sys.argv = argv
    os.environ.update(environment)
    try:
        yield
    finally:
        sys.argv = before
        os.environ.clear()
        os.environ.update(variables)


def _fail(message: str) -> int:
    if "RANK" in os.environ:  # under torchrun every rank may find the same mistake
        from gantrain import distributed

        distributed.say_why_it_ends(f"gantrain: {message}")
    else:
        print(f"gantrain: {message}", file=sys.stderr)
    return 2
