"""The command line before Hydra reads it: flags and overrides."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gantrain.config.guesses import guess
from gantrain.errors import ConfigError, nearest
from gantrain.runtime.signals import environment

# The allowed flags of Hydra and their values: None for flags without a value, empty for any value.
# --experimental-rerun is not allowed, since it runs pickled code from a file.
FLAGS: dict[str, tuple[str, ...] | None] = {
    **dict.fromkeys(["--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"]),
    **dict.fromkeys(["--cfg", "-c"], ("job", "hydra", "all")),
    **dict.fromkeys(["--info", "-i"], ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")),
    **dict.fromkeys(["--package", "-p", "--shell-completion", "-sc"], ()),
    **dict.fromkeys(["--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"], ()),
}


def split(arguments: Sequence[str], command: str = "train") -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and the overrides, which Hydra expects in one block, with its quotes.

    Raises:
        ConfigError: A flag is unknown, given twice, or has a wrong value.
    """
    flags: list[str] = []
    overrides: list[str] = []
    sweeps = not {"-m", "--multirun", "hydra.mode=MULTIRUN"}.isdisjoint(arguments)
    words = [*arguments]
    for place, (word, after) in enumerate(itertools.zip_longest(arguments, arguments[1:])):
        if word in ("--info", "-i") and (after is None or after.startswith("-") or "=" in after):
            words[place] = "--info=all"  # Hydra's default, which may be followed by an override.
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            from gantrain.cli.quoting import quoted  # Hydra takes time that help needs not.

            overrides.append(quoted(word, sweeps=sweeps))
            continue
        name, equals, value = word.partition("=")
        if name not in FLAGS:
            close = nearest(name, FLAGS)
            other = close if close[:3] == "did" else "a setting is typed KEY=VALUE, as in data.root=FOLDER"
            value = value or next(rest, "")
            raise ConfigError(f"no flag {name}; {guess(name, command, value) or other}")
        if name in flags or any(flag.startswith(f"{name}=") for flag in flags):
            raise ConfigError(f"{name} is given twice")
        flags += [word] if equals or FLAGS[name] is None else [word, *itertools.islice(rest, 1)]
        choices, value = FLAGS[name], value if equals else flags[-1]
        if choices is None:
            if equals:
                raise ConfigError(f"{name}={value}: {name} has no value")
        elif value in ("", name) or value not in (choices or (value,)):
            wanted = ", ".join(choices) if choices else "a value"
            raise ConfigError(f"{name} needs {wanted}" + (f", not {value}" if value not in ("", name) else ""))
    names = {flag.partition("=")[0] for flag in flags}
    if names & {"--package", "-p"} and not names & {"--cfg", "-c"}:
        raise ConfigError("--package shows a part of what --cfg shows: give both, as in --cfg job --package model")
    return flags, overrides


def config_flags(flags: Sequence[str]) -> list[str]:
    """The flags that affect what the overrides compose, for the recorded command."""
    found: list[str] = []
    for flag, value in itertools.zip_longest(flags, flags[1:]):
        if flag.startswith(("--config-", "-cd", "-cn", "-cp")):
            found += [flag] if "=" in flag else [flag, value]
    return found


def is_sweep(flags: Sequence[str], typed: Sequence[str]) -> bool:
    """Whether a sweep is requested, and no help."""
    asked = {"-m", "--multirun"}.intersection(flags) or "hydra.mode=MULTIRUN" in typed
    return bool(asked) and not shows_only(flags)


def asks_help(flags: Sequence[str]) -> bool:
    """Whether the help of a command is requested; of another configuration (--config-name), Hydra has it."""
    others = any(flag.startswith(("--config-name", "-cn", "--config-path", "-cp")) for flag in flags)
    return not others and not {"--help", "-h"}.isdisjoint(flags)


def shows_only(flags: Sequence[str]) -> bool:
    """Whether Hydra is to show something instead of running."""
    shown = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i"}
    return not shown.isdisjoint(flag.split("=")[0] for flag in flags)


def of_sweeps(override: str) -> bool:
    """Whether an override only matters to a sweep: how its runs are launched, which there are, and its folder."""
    keys = ("launcher=", "sweeper=", "sweep.", "hydra/launcher=", "hydra/sweeper=")
    return override.lstrip("+").startswith((*keys, "hydra.launcher.", "hydra.sweeper.", "hydra.sweep."))


def refuse_sweep_keys(flags: Sequence[str], typed: Sequence[str]) -> None:
    """Refuse keys that have no effect on a single run."""
    ignored = [word for word in typed if of_sweeps(word) and not word.endswith("=null")]
    if ignored and not shows_only(flags):
        raise ConfigError(f"{ignored[0]} has no effect on a single run; add --multirun (-m) for a sweep, or omit it")


@contextmanager
def process(argv: list[str], **variables: str) -> Iterator[None]:
    """Replace the command line and add environment variables inside."""
    before, sys.argv = sys.argv, argv
    try:
        with environment(variables):
            yield
    finally:
        sys.argv = before
