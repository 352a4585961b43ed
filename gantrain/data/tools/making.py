"""A new folder of images: whole or not there, and made by one command, however often that was interrupted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeAlias

from gantrain.data.images.convert import EXTENSIONS, images_under
from gantrain.data.images.sources import FolderSource
from gantrain.data.sets.layout import stems_of
from gantrain.errors import ConfigError
from gantrain.runtime.atomic import file_lock
from gantrain.runtime.parallel import in_parallel


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

PIXELS = (".png", ".npy")  # suffixes that ``write_pixels`` adds


def make(
    out: Path,
    plan: Plan,
    *,
    inputs: Sequence[Path],
    options: Mapping[str, object],
    suffixes: Sequence[str] = PIXELS,
) -> None:
    """Make the folder ``out``, as ``resumable_dir`` does.

    What an interrupted call with the same inputs and options has made is kept, but for files that are older than what
    they come from. Inputs are only read.

    Args:
        out: Must not be there, or be empty.
        plan: Its recipes are called in threads.
        inputs: The folders that the files of the plan lie in.
        options: Tell this call from others that would make something else of these inputs.
        suffixes: Those that recipes may add.

    Raises:
        ConfigError: As ``resumable_dir`` does.
    """
    numbers = count()
    made_by = f"{[str(folder.resolve()) for folder in inputs]} {dict(options)}\n"
    with resumable_dir(out, inputs, made_by) as scratch, TemporaryDirectory(dir=scratch) as parts:
        folder = scratch / "whole"

        def one(target: str) -> Path:
            place, recipe = folder / target, plan[target]
            there = next((path for each in suffixes if (path := place.with_name(place.name + each)).is_file()), None)
            newest = max(path.stat().st_mtime_ns for path in recipe.sources)
            if there is not None and there.stat().st_mtime_ns >= newest:
                return there
            part = Path(parts, str(next(numbers)))
            written = recipe.write(part)
            place = place.with_name(place.name + written.name.removeprefix(part.name))
            place.parent.mkdir(parents=True, exist_ok=True)
            return written.replace(place)

        made = set(in_parallel(one, plan, total=len(plan), label=out.name))
        for path in folder.rglob("*"):
            if path not in made and not path.is_dir():  # from what is no longer among the inputs
                path.unlink()
    print(f"{out}: {len(made):,} images")


@contextmanager
def resumable_dir(out: Path, inputs: Sequence[Path], made_by: str) -> Iterator[Path]:
    """A folder for unfinished work, ``.OUT-unfinished``; what is made in ``whole`` there becomes ``out`` in the end.

    A kill or an error leaves it as it is, for the next process that enters the block with the same ``made_by``; an
    error before anything was made leaves nothing.

    Args:
        out: Must not be there, or be empty.
        inputs: The folders that are read.
        made_by: Tells what is made, and of what.

    Raises:
        ConfigError: ``out`` holds something or lies in an input; or another process is making it, or another command
            has begun to.
    """

    def wait() -> None:
        raise ConfigError(f"another process is making {out}: wait for it, or give another folder")

    check_place(out, inputs)
    scratch = out.with_name(f".{out.name}-unfinished")
    new = [folder for folder in scratch.parents if not folder.exists()]
    scratch.mkdir(parents=True, exist_ok=True)
    whole, note, signature = scratch / "whole", scratch / "made_by", made_by.encode("utf-8", "surrogateescape")
    with file_lock(whole, wait=wait):
        own = {note, whole.with_suffix(".lock")}
        check_place(out, inputs)  # it may have been made just now
        begun = note.is_file() and note.read_bytes() == signature
        if not begun and set(scratch.iterdir()) - own:
            raise ConfigError(f"{scratch} holds what another command has begun: finish that one, or remove the folder")
        if not begun:
            note.write_bytes(signature)
        whole.mkdir(exist_ok=True)
        for left in scratch.glob("tmp*"):  # in which a killed process worked
            shutil.rmtree(left, ignore_errors=True)
        try:
            yield scratch
        except BaseException:
            if not any(path.is_file() for path in set(scratch.rglob("*")) - own):
                shutil.rmtree(scratch, ignore_errors=True)
                _remove_empty(new)
            raise
        whole.replace(out)
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def atomic_dir(target: Path) -> Iterator[Path]:
    """Where to make a folder that becomes ``target`` if the block ends well, and of which otherwise nothing stays.

    If somebody else has completed ``target`` in the meantime, theirs stays. What is put beside the yielded path
    disappears in any case.
    """
    new = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            folder = Path(scratch) / target.name
            yield folder
            try:
                folder.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
    except BaseException:
        _remove_empty(new)
        raise


def _remove_empty(folders: Sequence[Path]) -> None:
    with suppress(OSError):  # somebody else has put something there
        for folder in folders:
            folder.rmdir()


def check_place(out: Path, inputs: Sequence[Path]) -> None:
    """Refuse to write where something is, or among what is read."""
    empty = out.is_dir() and not out.is_symlink() and not any(out.iterdir())
    if os.path.lexists(out) and not empty:
        raise ConfigError(f"{out} is there already: give another folder, or remove it first")
    for folder in inputs:
        if out.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"{out} lies in {folder}, which is read: give a folder outside")


def by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by their paths below it, without suffix.

    Raises:
        ConfigError: The folder is missing, holds none, or two that differ in their suffixes alone.
    """
    found, twice = stems_of(FolderSource(folder, images_below(folder)))
    if twice:
        one, other = twice[0]
        raise ConfigError(f"{one} and {other} have the same name but for the suffix: rename one")
    return found


def images_below(folder: Path) -> list[Path]:
    """All images of a folder and its sub-folders, hidden ones aside, sorted.

    Raises:
        ConfigError: The folder is missing, or holds none.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}")
    found = sorted(images_under(folder))
    if not found:
        raise ConfigError(f"no image in {folder} (looked for {', '.join(sorted(EXTENSIONS))})")
    return found
