"""A new folder of pictures: whole or not there, and made by one command, however often that was interrupted."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeAlias

from gantrain.data.parallel import in_parallel
from gantrain.data.pictures import EXTENSIONS, is_picture
from gantrain.registry import ConfigError


class Recipe(NamedTuple):
    """How to make a file.

    Attributes:
        sources: What it is made from.
        write: Writes to the path that it is given, or there with a suffix, and returns where.
    """

    sources: tuple[Path, ...]
    write: Callable[[Path], Path]


# by the paths of the new files below their folder, with or without suffixes
Plan: TypeAlias = Mapping[str, Recipe]

SUFFIXES = ("", ".png", ".npy")  # that are added


def make(out: Path, plan: Plan, *, inputs: Sequence[Path], options: Mapping[str, object]) -> None:
    """Make the folder ``out``: beside its place, in ``.OUT-unfinished``, and moved there when it is complete.

    What an interrupted call with the same inputs and options has made is kept, but for files that are older than what
    they come from. Inputs are only read.

    Args:
        out: Must not be there, or be empty.
        plan: Its recipes are called in threads.
        inputs: The folders that the files of the plan lie in.
        options: Tell this call from others that would make something else of these inputs.

    Raises:
        ConfigError: ``out`` holds something or lies in an input, or another call has begun to make it.
    """
    check_place(out, inputs)
    scratch = out.with_name(f".{out.name}-unfinished")
    claim(scratch, f"{[str(folder.resolve()) for folder in inputs]} {dict(options)}\n")
    folder, parts = scratch / "whole", Path(tempfile.mkdtemp(dir=scratch))
    numbers = count()

    def one(target: str) -> Path:
        place, recipe = folder / target, plan[target]
        there = next((path for suffix in SUFFIXES if (path := place.with_name(place.name + suffix)).is_file()), None)
        if there is not None and there.stat().st_mtime_ns >= max(path.stat().st_mtime_ns for path in recipe.sources):
            return there
        part = parts / str(next(numbers))
        written = recipe.write(part)
        place = place.with_name(place.name + written.name.removeprefix(part.name))
        place.parent.mkdir(parents=True, exist_ok=True)
        return written.replace(place)

    try:
        made = set(in_parallel(one, plan, total=len(plan), label=out.name))
    except BaseException:
        if not any(folder.iterdir()):  # nothing to go on from
            shutil.rmtree(scratch)
        raise
    for path in folder.rglob("*"):
        if path not in made and not path.is_dir():  # from what is no longer among the inputs
            path.unlink()
    folder.replace(out)
    shutil.rmtree(scratch)
    print(f"{out}: {len(made):,} pictures")


def check_place(out: Path, inputs: Sequence[Path]) -> None:
    """Refuse to write where something is, or among what is read."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} is there already: give another folder, or remove it first")
    for folder in inputs:
        if out.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"{out} lies in {folder}, which is read: give a folder outside")


def by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by their paths below it, without suffix.

    Raises:
        ConfigError: The folder is missing, holds none, or two that differ in their suffixes alone.
    """
    found: dict[str, Path] = {}
    for path in pictures_below(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise ConfigError(f"{found[stem]} and {path} have the same name but for the suffix: rename one")
        found[stem] = path
    return found


def pictures_below(folder: Path) -> list[Path]:
    """All pictures of a folder and its sub-folders, sorted.

    Raises:
        ConfigError: The folder is missing, or holds none.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}")
    found = sorted(path for path in folder.rglob("*") if is_picture(path))
    if not found:
        raise ConfigError(f"no picture in {folder} (looked for {', '.join(sorted(EXTENSIONS))})")
    return found


def claim(scratch: Path, made_by: str) -> None:
    """Make the folder for unfinished work, or see that what lies there is ours."""
    scratch.mkdir(parents=True, exist_ok=True)
    note = scratch / "made_by"
    if (scratch / "whole").is_dir() and not (note.is_file() and note.read_text(errors="replace") == made_by):
        raise ConfigError(f"{scratch} holds what another command has begun: finish that one, or remove the folder")
    for left in scratch.iterdir():
        if left.name != "whole":
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    note.write_text(made_by, errors="replace")
    (scratch / "whole").mkdir(exist_ok=True)  # after the note, without which it would be nobody's
