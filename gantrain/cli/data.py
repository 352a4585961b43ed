"""``gantrain data``: what is done with images besides training on them.

A command is a function, and its signature is what it takes: plain arguments in their order, the others as KEY=VALUE.
Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from gantrain.config.schema import Fraction, NonNegativeFloat, Range, Side, checked, construct
from gantrain.errors import ConfigError, nearest

UnitInterval: TypeAlias = Annotated[float, Range(at_least=0, at_most=1)]
Blur: TypeAlias = Annotated[float, Range(above=0, at_most=100)]  # pixels; more takes gigabytes


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
        return _list(COMMANDS)
    name, *words = arguments
    kinds = {key: command for key, command in COMMANDS.items() if key.startswith(f"{name} ")}
    if kinds and (not words or words[0] in ("-h", "--help")):
        return _list(kinds)
    if kinds:
        name, *words = f"{name} {words[0]}", *words[1:]
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


def _list(commands: Mapping[str, Command]) -> int:
    for name, command in commands.items():
        print(f"gantrain data {name} {command.takes}\n    {command.summary}")
    return 0


def _call(name: str, command: Command, words: list[str]) -> int | None:
    parameters = inspect.signature(command.run).parameters
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values()):
        return command.run(*words)
    pairs = [word.partition("=") for word in words if re.match(r"[a-z_]+=", word)]
    typed = {key: value for key, _, value in pairs}
    plain = [word for word in words if not re.match(r"[a-z_]+=", word)]
    for word in plain:
        if word.startswith("-"):
            raise ConfigError(f"no flag {word}; a file or folder of that name is typed ./{word}")
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
        except (ValueError, RecursionError):
            return text


def _download(name: str, root: str = "datasets") -> None:
    from gantrain.data.tools.download import download

    download(name, Path(root).expanduser())


def _names_to_download() -> str:
    from gantrain.data.sets.catalog import USAGE

    return USAGE


def _lmdb(folder: str, out: str) -> None:
    from gantrain.data.tools.lmdb_tools import write_lmdb

    write_lmdb(_path(folder), _path(out))


def _export(
    db: str, out: str, layout: Literal["flat", "tree"] = "flat", fraction: Fraction = 1.0, seed: int = 0
) -> None:
    from gantrain.data.tools.lmdb_tools import export

    export(_path(db), _path(out), layout=layout, fraction=fraction, seed=seed)


def _check(*words: str) -> int:
    raise ConfigError("say which data: gantrain data check data=NAME, or data=unaligned data.root=FOLDER and so on")


def _pairs(a: str, b: str, out: str) -> None:
    from gantrain.data.tools.preparing import pairs

    pairs(_path(a), _path(b), _path(out))


def _split_pairs(folder: str, out: str) -> None:
    from gantrain.data.tools.preparing import split_pairs

    split_pairs(_path(folder), _path(out))


def _edges(
    folder: str,
    out: str,
    sigma: Blur = 2.0,
    low: NonNegativeFloat = 0.1,
    high: NonNegativeFloat = 0.2,
    invert: bool = False,
) -> None:
    from gantrain.data.tools.preparing import edges

    edges(_path(folder), _path(out), sigma=sigma, low=low, high=high, invert=invert)


def _resize(folder: str, out: str, size: Side | tuple[Side, Side] = 256) -> None:
    from gantrain.data.tools.preparing import resize_all

    resize_all(_path(folder), _path(out), size=size)


def _split(
    folder: str,
    out: str,
    train: UnitInterval = 0.8,
    val: UnitInterval = 0.1,
    test: UnitInterval = 0.1,
    seed: int = 0,
    links: bool = False,
) -> None:
    from gantrain.data.tools.splitting import split

    split(_path(folder), _path(out), train=train, val=val, test=test, seed=seed, links=links)


def _path(typed: str) -> Path:
    return Path(typed).expanduser()


GOES_ON = "the same command goes on with what it has made"

COMMANDS = {
    "download": Command(
        _download,
        takes="NAME [root=datasets]",
        summary="Fetches a data set of the papers into root/NAME; after an interruption, what is missing",
        interrupted="the same command goes on with what has come",
        details=_names_to_download,
    ),
    "lmdb": Command(
        _lmdb,
        takes="FOLDER OUT",
        summary="Puts the images of a folder into one LMDB file, for data=lsun; sub-folders stay classes",
        interrupted=GOES_ON,
        details=lambda: "An image's key is its path below FOLDER, its value the file as it is.\n",
    ),
    "export": Command(
        _export,
        takes="DB OUT [layout=flat fraction=1 seed=0]",
        summary="Writes the images of an LMDB, such as LSUN's, as files, and OUT/files.csv with their classes",
        interrupted=GOES_ON,
        details=lambda: (
            "layout=tree puts them into three levels of folders named after the first letters of their keys.\n"
            "fraction=0.1 draws a tenth of them; which, the seed says.\n"
            "OUT is then read with data=single data.root=OUT data.list=files.csv.\n"
        ),
    ),
    "check": Command(
        _check,  # the command line composes its configuration
        takes="data=NAME [data.KEY=VALUE ...] [quick=false] [out=results/data_NAME]",
        summary="Looks at every image that training would read: what there is, and what would stop it",
        interrupted="nothing was written",
        details=lambda: (
            "Prints a table, writes OUT/index.html with thumbnails, and fails if training would.\n"
            "quick=true reads headers only: no broken images, copies or gray ones in colour are found then.\n"
            "data.max_size=1000 and data.fraction=0.1 look at a part only, the one that training would read.\n"
        ),
    ),
    "prepare pairs": Command(
        _pairs,
        takes="A B OUT",
        summary="Puts the images of A and B with one name side by side, for data=aligned",
        interrupted=GOES_ON,
    ),
    "prepare split_pairs": Command(
        _split_pairs,
        takes="FOLDER OUT",
        summary="Cuts images that lie side by side apart again, into OUT/trainA, OUT/trainB and so on",
        interrupted=GOES_ON,
    ),
    "prepare edges": Command(
        _edges,
        takes="FOLDER OUT [sigma=2 low=0.1 high=0.2 invert=false]",
        summary="StepRandom the edges of photographs by Canny's method",
        interrupted=GOES_ON,
        details=lambda: (
            "sigma: of the blur before, in pixels. high: the gradient that some pixel of each edge has, low: that all\n"
            "its pixels have; a sharp step from black to white has 4. invert: white on black.\n"
        ),
    ),
    "prepare split": Command(
        _split,
        takes="FOLDER OUT [train=0.8 val=0.1 test=0.1 seed=0 links=false]",
        summary="Copies images to train on, to choose by and to test on, without an image in two of them",
        interrupted=GOES_ON,
        details=lambda: (
            "FOLDER/A and FOLDER/B, or trainA and trainB, are two domains, and pairs if they hold the same names.\n"
            "Sub-folders that hold every image are classes, each divided alike. Files of equal content, or\n"
            "pairs of which both are, stay together.\n"
        ),
    ),
    "prepare resize": Command(
        _resize,
        takes="FOLDER OUT [size=256]",
        summary="Cuts images from their middle to the proportions of size, or [height,width], and scales them to it",
        interrupted=GOES_ON,
    ),
}
