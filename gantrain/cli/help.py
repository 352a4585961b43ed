"""The help of keys: ``gantrain train --help`` and ``gantrain help KEY``, which need no torch."""

from __future__ import annotations

import itertools
import re
import shutil
import string
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from hydra import compose
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from gantrain.cli.compose import hydra_settings, swept
from gantrain.cli.hydra_errors import in_one_line
from gantrain.config.guesses import group_options
from gantrain.config.keys import (
    COMMANDS,
    Key,
    Meaning,
    allowed,
    argument_of,
    can_be_typed,
    choices,
    files,
    keys,
    name_in,
)
from gantrain.config.overrides import flatten
from gantrain.config.source import Argument, arguments_at
from gantrain.errors import ConfigError, nearest
from gantrain.runtime import console

FLAGS = """\
--help, -h          this help; with other choices (model=cyclegan), the keys and values of these
--multirun, -m      a sweep: one run for each combination of values, as in seed=0,1
--config-dir, -cd   a folder of your own with further files for the groups
--cfg, -c           print what is composed as YAML and exit: job, hydra or all; --resolve, --package KEY
--info, -i          where values come from: defaults, searchpath, config, plugins or all
--hydra-help        the help of Hydra, which composes the configuration"""
WIDTH = 120  # Of an explanation, and of the list of keys on terminals that are narrower.
WIDEST = 240  # Of the list of keys if the output is no terminal.
MOST_FILES = 8  # With one value, in the explanation of a key.
SHORT = (  # In the list of keys, what is allowed is written shortly.
    (" and at most 1e+12", ""),
    ("a whole number", "int"),
    ("a number", "number"),
    ("one of ", ""),
    ("at least", ">="),
    ("at most", "<="),
    ("above", ">"),
    ("below", "<"),
    (" or ", "|"),
)
USAGE = "gantrain help KEY: explains a key of gantrain train, as model.pool_size, or of a command, as test.num"


def explain_command(command: str, flags: Sequence[str], typed: Sequence[str]) -> int:
    """``gantrain COMMAND --help``: the text of its YAML file, with a line for each key of what is composed.

    Raises:
        ConfigError: It can't be composed.
    """
    if {"-m", "--multirun"}.intersection(flags):
        typed = swept(typed)[0]  # What all runs share.
    try:
        with hydra_settings(flags) as search:
            config = compose(command, [*typed, *search], return_hydra_config=True)
    except ConfigError:
        raise
    except Exception as error:  # Hydra and OmegaConf raise any type for wrong input.
        raise ConfigError(in_one_line(error, command, list(typed))) from None
    with open_dict(config):
        template = str(config.pop("hydra").help.template)
    try:
        values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    except OmegaConfBaseException:  # A value refers to one that is missing.
        values = cast(dict[str, Any], OmegaConf.to_container(config))
    console.out(
        *string.Template(template)
        .safe_substitute(
            CONFIG="\n".join(_lines(command, flatten(values))),
            APP_CONFIG_GROUPS="\n".join(_groups()) + "\n",
            FLAGS_HELP=FLAGS,
        )
        .splitlines()
    )
    return 0


def _groups() -> Iterator[str]:
    """A line for each group with its options."""
    for group in sorted({name.rpartition("/")[0] for name in files()} - {""}):
        if not group.startswith("recipe"):  # They are chosen by the model and the data.
            yield f"{group}: {', '.join(sorted(group_options(group)))}"


def _lines(command: str, values: Mapping[str, Any]) -> Iterator[str]:
    """The keys with their values, what is allowed, and the first sentence of their descriptions, by group."""
    shown = [path for path in values if can_be_typed(path)]
    for place, paths in itertools.groupby(sorted(shown, key=_place), key=_place):
        typed = {path: f"{path}={_value(values[path])}" for path in paths}
        if place:
            yield f"-- {place}"
        column = min(45, max(map(len, typed.values())))
        for path, word in typed.items():
            argument = of_command(command, path) if command in COMMANDS else None
            argument = argument or argument_of(path, name_in(values, path))
            yield _line(word.ljust(column), argument)


def _line(start: str, argument: Argument | None) -> str:
    """A key, what is allowed, and the first sentence of its description, in one line."""
    if argument is None:  # Of a plug-in.
        return start.rstrip()
    words = allowed(argument)
    for long, short in SHORT:
        words = words.replace(long, short)
    if choices(argument.annotation):
        words = words.replace(", ", "|")
    line = f"{start}  ({words}) {first_sentence(argument.text)}"
    width = max(WIDTH, shutil.get_terminal_size((WIDEST, 0)).columns)
    return line if len(line) <= width else line[: width - 3].rstrip() + "..."


def _place(path: str) -> str:
    return path.rpartition(".")[0]


def of_command(command: str, path: str) -> Argument | None:
    """The type and the description of a key of another command than ``train``."""
    return arguments_at(COMMANDS[command]).get(path)


def _value(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def plain(text: str) -> str:
    """A description without the marks of code, in the words of YAML."""
    return re.sub(r"\bNone\b", "null", text).replace("``", "")


def first_sentence(text: str) -> str:
    """The first sentence of a description."""
    return re.split(r"(?<!et al)(?<!vs)\. (?=[A-Z0-9])|\.$", plain(text))[0]


# ---- one key


def explain_key(words: Sequence[str]) -> int:
    """``gantrain help KEY``: its type, range, values, the files that set them, and its meaning.

    Raises:
        ConfigError: There is no such key.
    """
    if len(words) != 1 or words[0].startswith("-"):
        raise ConfigError(f"help {' '.join(words)}: give one key; {USAGE}")
    path = words[0].partition("=")[0].lstrip("+~")
    command, _, rest = path.partition(".")
    if command in COMMANDS and (argument := of_command(command, rest)):
        value = files()[command].get(rest)
        console.out(f"{path}: {allowed(argument)}", "", *_wrapped(argument.text), f"  default: {_value(value)}")
        return 0
    if (key := keys().get(path)) is None:
        near = [each for each in every_key() if each.split(".")[-1] == path.split(".")[-1]]
        if near:
            raise ConfigError(f"help {words[0]}: no such key; did you mean {' or '.join(near)}?")
        inside = [key for key in keys().values() if key.path.startswith(f"{path}.")]
        if not inside:
            raise ConfigError(f"help {words[0]}: no such key; {nearest(path, every_key())}")
        column = max(len(key.path) for key in inside)
        console.out(*(_line(key.path.ljust(column), key.meanings[0].argument) for key in inside))
        return 0
    console.out(*_explained(key))
    return 0


def every_key() -> list[str]:
    """The keys of all commands."""
    return [*keys(), *(f"{command}.{key}" for command, place in COMMANDS.items() for key in arguments_at(place))]


def _explained(key: Key) -> Iterator[str]:
    types = {allowed(meaning.argument) for meaning in key.meanings}
    yield f"{key.path}: {types.pop()}" if len(types) == 1 else key.path
    yield ""
    for meaning in key.meanings:
        if len(key.meanings) > 1:
            yield from _wrapped(f"{', '.join(meaning.options)}:", "")
        if types:
            yield from _wrapped(f"{allowed(meaning.argument)}.")
        yield from _wrapped(meaning.argument.text)
    yield from ("", "default:")
    yield from _values(key.defaults)
    if key.others:
        yield "set by other files, which win:"
        yield from _values(key.others)
    others = [other for value in key.defaults.values() for other in referred(value)]
    for other in others:  # The list grows.
        values = {name: each[other] for name, each in files().items() if other in each and name not in COMMANDS}
        others += [found for value in values.values() for found in referred(value) if found not in others]
    for other in dict.fromkeys(others):
        values = {name: each[other] for name, each in files().items() if other in each and name not in COMMANDS}
        if values:
            yield f"{other}:"
            yield from _values(values)


def by_value(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The different values, in words, each with the files that have it; ``values`` are by file."""
    for value in dict.fromkeys(map(_value, values.values())):
        folders: dict[str, list[str]] = {}
        for name in (name for name, each in values.items() if _value(each) == value):
            folder, _, file = name.rpartition("/")
            folders.setdefault(folder, []).append(file)
        yield in_words(value), "; ".join(itertools.starmap(_named, folders.items()))


def _values(values: Mapping[str, Any]) -> Iterator[str]:
    for value, names in by_value(values):
        yield from _wrapped(f"{value}:  {names}")


def _named(folder: str, names: list[str]) -> str:
    """The files of a folder, as they are chosen; those that can't be, by their path."""
    start = f"{folder}=" if folder and folder.split("/")[0] != "recipe" else f"configs/{folder}/".replace("//", "/")
    more = f" and {len(names) - MOST_FILES} more" if len(names) > MOST_FILES else ""
    return f"{start}{', '.join(names[:MOST_FILES])}{more}"


def referred(value: Any) -> list[str]:
    """The keys that the interpolations of a value refer to, but for those beside it."""
    found = re.findall(r"\$\{(oc\.select:|shared:)?([a-z_.]+)", str(value))
    return [f"network.{key}" if kind == "shared:" else key for kind, key in found if key[0] != "."]


def in_words(value: str) -> str:
    """A value without the syntax of interpolations: ``network.norm if given, or else batch``."""
    before = ""
    while before != value:  # They may be nested.
        before = value
        value = re.sub(r"\$\{shared:(\w+),([^{}]*)\}", r"network.\1 if given, or else \2", value)
        value = re.sub(r"\$\{oc\.select:([\w.]+),([^{}]*)\}", r"\1 if set, or else \2", value)
        value = re.sub(r"\$\{\.?([\w.]+)\}", r"that of \1", value)
    return value


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 0)).columns)
    return textwrap.wrap(plain(text), max(40, width), initial_indent=indent, subsequent_indent=indent)


# ---- completion


def completed(command: str, typed: Sequence[str], line: str) -> list[str]:
    """What completes the last word: keys after ``gantrain help``, or the values of a key that can be listed."""
    word = typed[-1] if typed and not line.endswith(" ") else ""
    if command == "help":
        return [key for key in every_key() if key.startswith(word)]
    key, _, start = word.partition("=")
    if command in COMMANDS and (argument := of_command(command, key)):
        meanings = [Meaning(argument, [])]
    else:
        meanings = keys()[key].meanings if key in keys() and command in ("train", "benchmark") else []
    options = {other.partition("=")[2] for other in typed}  # Of a group that has been chosen.
    meanings = [meaning for meaning in meanings if options.intersection(meaning.options)] or meanings
    values = dict.fromkeys(choice for meaning in meanings for choice in choices(meaning.argument.annotation))
    return [f"{key}={value}" for value in values if value.startswith(start)]
