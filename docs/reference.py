"""The generated parts of the reference, as Markdown: the keys of every group, and the help of every command."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path

import yaml

from gantrain.cli import main as commands
from gantrain.cli.data import COMMANDS as OF_DATA
from gantrain.cli.help import by_value
from gantrain.config.keys import COMMANDS, Key, allowed, files, keys
from gantrain.config.source import Argument, arguments_at

GROUPS = {  # The pages of the reference of keys, and the keys on them.
    "run": ("", "objective", "sweep"),
    "trainer": ("trainer",),
    "model": ("model",),
    "network": ("network", "network.generator", "network.discriminator"),
    "data": ("data",),
    "optimizer": ("optimizer", "schedule"),
    "metrics": ("metrics",),
    "logger": ("logger",),
}


def anchor(path: str) -> str:
    """The target of links to a key."""
    return f"key-{path.replace('_', '-').replace('.', '-')}"


def text_of(argument: Argument) -> str:
    """A description as Markdown, with links to papers."""
    text = re.sub(r"\bNone\b", "null", argument.text).replace("``", "`")
    return re.sub(r"\barXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def section_of(key: Key) -> Iterator[str]:
    """The section of a key."""
    types = {allowed(meaning.argument) for meaning in key.meanings}
    yield f"({anchor(key.path)})="
    yield f"## `{key.path}`\n"
    for meaning in key.meanings:
        kind = f"*{allowed(meaning.argument)}.* "
        which = f"**{', '.join(meaning.options)}**: " if len(key.meanings) > 1 else ""
        yield f"{which}{kind if len(types) > 1 or len(key.meanings) == 1 else ''}{text_of(meaning.argument)}\n"
    if len(types) == 1 and len(key.meanings) > 1:
        yield f"*{types.pop()}.*\n"
    yield "Default:\n"
    yield from (f"- `{value}` in {names}" for value, names in by_value(key.defaults))
    yield ""
    if key.others:
        yield "Files that are read later, and win:\n"
        yield from (f"- `{value}` in {names}" for value, names in by_value(key.others))
        yield ""


def keys_of(page: str) -> str:
    """The sections of the keys of a page."""
    places = GROUPS[page]
    found = [key for key in keys().values() if place_of(key.path) in places]
    return "\n".join(line for key in found for line in section_of(key))


def place_of(path: str) -> str:
    """The place of a key in ``GROUPS``: ``metrics`` for ``metrics.swd.patches``."""
    place = path.rpartition(".")[0]
    return place if any(place in places for places in GROUPS.values()) else place.partition(".")[0]


def help_of(*words: str) -> str:
    """What a command prints."""
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert commands.main([*words]) == 0, words
    return f"```text\n{shown.getvalue().strip()}\n```\n"


def command(name: str) -> str:
    """A command whose keys are composed: what its YAML file says, and its keys."""
    file = Path(str(resources.files("gantrain.configs"))) / f"{name}.yaml"
    template = yaml.safe_load(file.read_text(encoding="utf-8"))["hydra"]["help"]["template"]
    lines = [f"```text\n{template.partition('== ')[0].strip()}\n```\n"]
    if name == "train":
        return f"{lines[0]}\nIts keys have [pages of their own](keys/index.md).\n"
    lines += ["| key | default | allowed | meaning |\n|---|---|---|---|"]
    for key, argument in arguments_at(COMMANDS[name]).items():
        ((default, _),) = by_value({name: files()[name].get(key)})
        lines.append(f"| `{key}` | `{default}` | {allowed(argument)} | {text_of(argument)} |")
    return "\n".join(lines) + "\n"


def all_commands() -> str:
    """The sections of all commands."""
    found = []
    for name in commands.COMMANDS:
        found.append(f"## `gantrain {name}`\n")
        if name in ("train", *COMMANDS):
            found.append(command(name))
        elif name == "data":
            found += [f"### `gantrain data {each}`\n\n{help_of('data', *each.split(), '--help')}" for each in OF_DATA]
        else:
            found.append(help_of(name, "--help"))
    return "\n".join(found)


PARTS: dict[str, Callable[[], str]] = {
    "commands": all_commands,
    "help": partial(help_of, "--help"),
    **{f"keys {page}": partial(keys_of, page) for page in GROUPS},
}
