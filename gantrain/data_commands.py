"""``gantrain data``: what is done with pictures besides training on them.

A command is a function, and its signature is what it takes: plain arguments in their order, the others as KEY=VALUE.
Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gantrain.registry import ConfigError, checked, construct, nearest


@dataclass(frozen=True)
class Command:
    """One of them.

    Attributes:
        run: Does it, and returns the exit status, or None for 0. Parameters without a default are typed in their order,
            all may be typed as KEY=VALUE; ``*words`` takes the command line as it is.
        takes: Its arguments, as one line of help shows them.
        summary: What it does, in the list of commands.
        interrupted: What became of it after Ctrl-C.
        details: More lines of help.
    """

    run: Callable[..., int | None]
    takes: str
    summary: str
    interrupted: str
    details: Callable[[], str] = str

    def usage(self, name: str) -> str:
        """Its help."""
        details = self.details()
        return f"gantrain data {name} {self.takes}\n\n{self.summary}.\n" + (f"\n{details}" if details else "")


def main(arguments: list[str]) -> int:
    """Run the command that ``arguments`` begin with.

    Returns:
        Exit status.

    Raises:
        ConfigError: There is no such command, or it doesn't take what was typed.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(len(f"{name} {command.takes}") for name, command in COMMANDS.items())
        for name, command in COMMANDS.items():
            print(f"gantrain data {f'{name} {command.takes}':<{width}}  {command.summary}")
        return 0
    name, *words = arguments
    if name not in COMMANDS:
        raise ConfigError(f"no command 'data {name}'; {nearest(name, COMMANDS)}")
    command = COMMANDS[name]
    if any(word in ("-h", "--help") for word in words):
        print(command.usage(name), end="")
        return 0
    try:
        return _call(name, command, words) or 0
    except KeyboardInterrupt:
        print(f"gantrain: interrupted; {command.interrupted}", file=sys.stderr)
        return 130


def _call(name: str, command: Command, words: list[str]) -> int | None:
    parameters = inspect.signature(command.run).parameters
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values()):
        return command.run(*words)
    pairs = [word.partition("=") for word in words if re.match(r"[a-z_]+=", word)]
    typed = {key: value for key, _, value in pairs}
    plain = [word for word in words if not re.match(r"[a-z_]+=", word)]
    needed = [key for key, parameter in parameters.items() if parameter.default is parameter.empty and key not in typed]
    if len(plain) != len(needed):
        raise ConfigError(f"it is: gantrain data {name} {command.takes}; more: gantrain data {name} --help")
    hints = typing.get_type_hints(command.run, include_extras=True)
    values = {key: _value(text, hints.get(key, Any), key) for key, text in typed.items()}
    return construct(command.run, values | dict(zip(needed, plain, strict=True)), key="")


def _value(text: str, annotation: Any, key: str) -> Any:
    """What was typed, as text where that will do, otherwise as the number or the word that it spells."""
    try:
        return checked(text, annotation, key)
    except ConfigError:
        try:
            return json.loads(text)
        except ValueError:
            return text


def _download(name: str, root: str = "datasets") -> None:
    from gantrain.data.download import download

    download(name, Path(root).expanduser())


def _names_to_download() -> str:
    from gantrain.data.download import USAGE

    return USAGE


COMMANDS = {
    "download": Command(
        _download,
        takes="NAME [root=datasets]",
        summary="Fetches a data set of the papers into root/NAME",
        interrupted="nothing of it was kept",
        details=_names_to_download,
    ),
}
