"""``gantrain list``: what can be chosen, as it is typed."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from gantrain.cli.arguments import split
from gantrain.cli.compose import CONFIGS, config_folders
from gantrain.config.expected import Expected, expected_in
from gantrain.errors import ConfigError, nearest
from gantrain.runtime import console

GROUPS = {  # The words of the command, and the groups of the configuration.
    "models": ["model"],
    "networks": ["network/generator", "network/discriminator"],
    "data": ["data"],
    "optimizers": ["optimizer"],
    "schedules": ["schedule"],
    "experiments": ["experiment"],
    "metrics": ["metrics"],
    "loggers": ["logger"],
}
HELP = f"gantrain list [{'|'.join(GROUPS)}] [--config-dir FOLDER] [plugins=[MODULE,...]]: what can be chosen\n"
OVERVIEW_LINES = 3  # Of a group, if all are listed.


@dataclass(frozen=True)
class Choice:
    """What can be typed, and a description of it."""

    typed: str  # ``model=dcgan``
    text: str
    expected: list[Expected] = field(default_factory=list)  # What an experiment is expected to reach.


def main(arguments: Sequence[str]) -> int:
    """``gantrain list [GROUP]``; returns the exit status.

    Raises:
        ConfigError: There is no such group, or a plug-in can't be imported.
    """
    if {"-h", "--help", "help"}.intersection(arguments):
        console.out(*HELP.splitlines())
        return 0
    flags, words = split(arguments)
    plugins = [found for word in words if (found := re.fullmatch(r"plugins=\[?(.*?)\]?", word))]
    names = [word for word in words if not word.startswith("plugins=")]
    for name in names:
        if name not in GROUPS:
            raise ConfigError(
                f"gantrain list {name}: no such group; {nearest(name, GROUPS)} (and plugins=[MODULE,...])"
            )
    modules = [module for found in plugins for module in found[1].split(",")]
    folders = [*config_folders(flags), Path(str(resources.files(CONFIGS)))]
    size = shutil.get_terminal_size()
    for name in names or GROUPS:
        choices = {group: choices_of(group, folders, modules) for group in GROUPS[name]}
        if names:
            lines = _described(choices, size.columns)
            if len(lines) >= size.lines and sys.stdout.isatty():
                lines = _dense(choices, size.columns)
            console.out(*lines)
        else:
            console.out(f"{name}:", *_overview(name, choices, size.columns))
    return 0


def choices_of(group: str, folders: Sequence[Path], plugins: Sequence[str] = ()) -> list[Choice]:
    """The files of a group in these folders, and the classes that only ``group.name=`` can choose."""
    found: dict[str, Choice] = {}
    classes, chosen = _classes(group, plugins), set()
    key = group.replace("/", ".")
    for folder in folders:
        for path in sorted((folder / group).glob("*.yaml")):
            content = _read(path)
            own = content.get(group.split("/")[0], content) if "/" not in group else content
            name = own.get("name", own.get("mode")) if isinstance(own, dict) else None
            text = _comment(path) or classes.get(str(name), "")
            others = [word for word in content.get("defaults") or () if isinstance(word, str)]
            if others and content.keys() == {"defaults"} and len(content["defaults"]) == 1:
                text = f"the same as {others[0]}" + (f": {text}" if text else "")
            elif others and not text:
                text = f"{others[0]} with other values"
            found.setdefault(path.stem, Choice(f"{group}={path.stem}", text, expected_in(content)))
            chosen.add(str(name))
    chosen_by = "mode" if group == "data" else "name"
    only = [Choice(f"{key}.{chosen_by}={name}", text) for name, text in sorted(classes.items()) if name not in chosen]
    return [*(found[name] for name in sorted(found) if name != "none"), *only]


def _classes(group: str, plugins: Sequence[str]) -> dict[str, str]:
    """The registered classes of a group and the first lines of their docstrings."""
    import gantrain.training.build  # noqa: F401 - registers every class
    from gantrain.registry import REGISTRIES, import_plugins

    import_plugins(plugins)
    registry = next((each for each in REGISTRIES if each.key == group.replace("/", ".")), None)
    return {name: (registry[name].__doc__ or "").strip().split("\n")[0] for name in registry or ()} if registry else {}


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, yaml.YAMLError, RecursionError):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def _comment(path: Path) -> str:
    """The first sentence of the comment at the beginning of a file."""
    lines: list[str] = []
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#") or line == "#":
                break
            lines += [] if line.startswith("# @package") else [line.removeprefix("# ")]
    return re.split(r"\. (?=[A-Z])|\.$", " ".join(lines))[0]


def _described(choices: dict[str, list[Choice]], width: int) -> list[str]:
    """A line for each choice, and one below it for each expected value."""
    longest = max(len(choice.typed) for group in choices.values() for choice in group)
    lines = []
    for choice in (choice for group in choices.values() for choice in group):
        indented = [(choice.typed.ljust(longest + 2), choice.text), *(("    ", str(each)) for each in choice.expected)]
        for start, text in indented:
            room = max(20, width - len(start))
            lines.append(f"{start}{textwrap.shorten(text, room, placeholder='...')}".rstrip())
    return lines


def _dense(choices: dict[str, list[Choice]], width: int, indent: str = "") -> list[str]:
    """As many choices on a line as fit."""
    words = [choice.typed for group in choices.values() for choice in group]
    return textwrap.wrap(
        "  ".join(words), width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _overview(name: str, choices: dict[str, list[Choice]], width: int) -> Iterator[str]:
    lines = _dense(choices, width, "  ")
    yield from lines[:OVERVIEW_LINES] if len(lines) > OVERVIEW_LINES else lines
    count = sum(map(len, choices.values()))
    yield (
        f"  ({count}; gantrain list {name} describes them)"
        if len(lines) <= OVERVIEW_LINES
        else (f"  ... ({count}; gantrain list {name} lists all)")
    )
