"""``gantrain data``: commands that download, convert and check data sets.

The signature of a function defines the arguments of its command: those without a default are positional, all others are
typed as KEY=VALUE. The modules of the functions are heavy, and are imported only to run a command.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gantrain.config.schema import checked, construct
from gantrain.errors import ConfigError, nearest
from gantrain.runtime import console
from gantrain.runtime.storage import storage_errors


@dataclass(frozen=True)
class Command:
    """A command."""

    # Executes it, and returns the exit status, or None for 0: a function, or ``module.function`` of
    # ``gantrain.data.tools``. Parameters without a default are positional; all may be typed as KEY=VALUE; ``*words``
    # receives the arguments unchanged.
    run: Callable[..., int | None] | str
    takes: str  # Its arguments, for the help.
    summary: str  # One line for the list of commands.
    interrupted: str = "the same command resumes"  # The state after Ctrl-C.
    details: Callable[[], str] = str  # More lines of help.

    def usage(self, name: str) -> str:
        """The help text."""
        details = self.details()
        return f"gantrain data {name} {self.takes}\n\n{self.summary}.\n" + (f"\n{details}" if details else "")

    def function(self) -> Callable[..., int | None]:
        """``run`` as a function, imported now."""
        if not isinstance(self.run, str):
            return self.run
        module, _, name = self.run.partition(".")
        function: Callable[..., int | None] = getattr(importlib.import_module(f"gantrain.data.tools.{module}"), name)
        return function


def main(arguments: list[str]) -> int:
    """Run the command with this name and these arguments; returns its exit status."""
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
        console.out(*command.usage(name).splitlines())
        return 0
    try:
        with storage_errors(f"complete gantrain data {name}"):
            return _call(name, command, words) or 0
    except KeyboardInterrupt:
        console.err(f"gantrain: interrupted; {command.interrupted}")
        return 130


def _list(commands: Mapping[str, Command]) -> int:
    for name, command in commands.items():
        console.out(f"gantrain data {name} {command.takes}", f"    {command.summary}")
    return 0


def _call(name: str, command: Command, words: list[str]) -> int | None:
    run = command.function()
    parameters = inspect.signature(run).parameters
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values()):
        return run(*words)
    pairs = [word.partition("=") for word in words if re.match(r"[a-z_]+=", word)]
    typed = {key: value for key, _, value in pairs}
    plain = [word for word in words if not re.match(r"[a-z_]+=", word)]
    for word in plain:
        if word.startswith("-"):
            raise ConfigError(f"unknown option {word}; for a path of this name, type ./{word}")
    needed = [key for key, parameter in parameters.items() if parameter.default is parameter.empty and key not in typed]
    if len(plain) != len(needed):
        raise ConfigError(f"expected: gantrain data {name} {command.takes}; see gantrain data {name} --help")
    typed |= zip(needed, plain, strict=True)
    hints = typing.get_type_hints(run, include_extras=True)
    return construct(run, {key: _value(text, hints.get(key, Any), key) for key, text in typed.items()}, key="")


def _value(text: str, annotation: Any, key: str) -> Any:
    """The typed text if the annotation accepts it, otherwise its value as JSON."""
    if annotation is Path:
        return Path(text).expanduser()
    try:
        return checked(text, annotation, key)
    except ConfigError:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text


def _names_to_download() -> str:
    from gantrain.data.sets.catalog import USAGE

    return USAGE


def _check(*words: str) -> int:
    raise ConfigError("data is missing: gantrain data check data=NAME, or e.g. data=unaligned data.root=FOLDER")


COMMANDS = {
    "download": Command(
        "download.download",
        takes="NAME [root=datasets]",
        summary="Downloads a public data set to root/NAME; an interrupted download is resumed",
        details=_names_to_download,
    ),
    "lmdb": Command(
        "lmdb_convert.write_lmdb",
        takes="FOLDER OUT",
        summary="Writes the images of a folder to one LMDB file, for data=lsun; sub-folders become classes",
        details=lambda: "Keys are paths relative to FOLDER, values are the unchanged files.\n",
    ),
    "export": Command(
        "lmdb_convert.export",
        takes="DB OUT [layout=flat fraction=1 seed=0]",
        summary="Writes the images of an LMDB, such as LSUN's, to files, and their classes to OUT/files.csv",
        details=lambda: (
            "layout=tree writes to three levels of folders named after the first letters of the keys.\n"
            "fraction=0.1 selects a tenth of the images at random, by the seed.\n"
            "Train on OUT with data=single data.root=OUT data.list=files.csv.\n"
        ),
    ),
    "check": Command(
        _check,  # Only without arguments: gantrain.cli.main composes the configuration.
        takes="data=NAME [data.KEY=VALUE ...] [quick=false] [out=results/data_NAME]",
        summary="Inspects every image that training would read, and reports what would stop training",
        interrupted="nothing was written",
        details=lambda: (
            "Prints a table, writes OUT/index.html with thumbnails, and fails if training would fail.\n"
            "quick=true reads only headers; corrupt images, duplicates and gray images in colour are not found.\n"
            "data.max_size=1000 and data.fraction=0.1 inspect the part that training would read.\n"
        ),
    ),
    "prepare pairs": Command(
        "prepare.join_pairs",
        takes="A B OUT",
        summary="Joins the images of A and B with the same name side by side, for data=aligned",
    ),
    "prepare split_pairs": Command(
        "prepare.split_pairs",
        takes="FOLDER OUT",
        summary="Splits images side by side into their halves, OUT/trainA, OUT/trainB etc.",
    ),
    "prepare edges": Command(
        "prepare.extract_edges",
        takes="FOLDER OUT [sigma=2 low=0.1 high=0.2 invert=false]",
        summary="Extracts the edges of photographs by Canny's method",
        details=lambda: (
            "sigma: standard deviation of the Gaussian blur, in pixels. low: minimum gradient of all pixels of an\n"
            "edge, high: of at least one of them; a sharp step from black to white has 4. invert: white on black.\n"
            "Raise sigma and high for fewer edges. Needs scikit-image: pip install 'gantrain[prepare]'\n"
        ),
    ),
    "prepare split": Command(
        "split.split",
        takes="FOLDER OUT [train=0.8 val=0.1 test=0.1 seed=0 links=false]",
        summary="Splits a folder into training, validation and test images by copying them",
        details=lambda: (
            "FOLDER/A and FOLDER/B, or trainA and trainB, are two domains, and pairs if their names are the same.\n"
            "Sub-folders that contain all images are classes, each split in the same proportions. Identical files,\n"
            "or pairs of identical files, stay together.\n"
        ),
    ),
    "prepare resize": Command(
        "prepare.resize_all",
        takes="FOLDER OUT [size=256]",
        summary="Crops the center of images to the aspect ratio of size, or [height,width], and scales them",
    ),
}
