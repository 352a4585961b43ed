"""What is typed, before Hydra reads it: its flags, the settings, and the process that it finds itself in."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gantrain.registry import ConfigError, nearest

# Hydra's flags, and whether a value follows
FLAGS = {
    **dict.fromkeys(
        ["--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"], False
    ),
    **dict.fromkeys(["--cfg", "-c", "--package", "-p", "--info", "-i", "--shell-completion", "-sc"], True),
    **dict.fromkeys(["--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"], True),
    "--experimental-rerun": True,
}


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
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
            other = "a setting is typed KEY=VALUE, as in data.root=FOLDER"
            raise ConfigError(f"no flag {name}; {close if (close := nearest(name, FLAGS))[:3] == 'did' else other}")
        flags += [word, next(rest, "")] if FLAGS[name] and "=" not in word else [word]
    return flags, overrides


def config_flags(flags: Sequence[str]) -> list[str]:
    """The flags without which the same overrides would compose something else, for the record of what was typed."""
    kept: list[str] = []
    for flag, value in itertools.zip_longest(flags, flags[1:]):
        if flag.startswith(("--config-", "-cd", "-cn", "-cp")):
            kept += [flag] if "=" in flag else [flag, value]
    return kept


def is_sweep(flags: Sequence[str], typed: Sequence[str]) -> bool:
    """Whether several runs are asked for, rather than one, or help."""
    shown = {"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i"}
    asked = {"-m", "--multirun"}.intersection(flags) or "hydra.mode=MULTIRUN" in typed
    return bool(asked) and not shown.intersection(flag.split("=")[0] for flag in flags)


@contextmanager
def process(argv: list[str], **environment: str) -> Iterator[None]:
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
