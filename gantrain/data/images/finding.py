"""Finding image files: one walk of folders for every data set and every tool."""

from __future__ import annotations

import errno
import glob
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from gantrain.data.images.formats import EXTENSIONS
from gantrain.data.names import is_ignored, nfc
from gantrain.errors import ConfigError
from gantrain.runtime import distributed

SHOWN = 5  # The number of suffixes listed in a message.


class Folder(NamedTuple):
    """What a folder contains."""

    path: Path
    folders: list[Path]  # Also links to folders.
    files: list[Path]  # Also links to files.
    broken: list[Path]  # Links that lead nowhere.


def is_image(path: Path) -> bool:
    """Whether this is the name of an image, in any case."""
    return path.suffix.lower() in EXTENSIONS


def contents(path: Path, *, everything: bool = False) -> Folder:
    """The contents of a folder, in any order; without what ``is_ignored``, unless ``everything`` is requested.

    Raises:
        ConfigError: It can't be read.
    """
    found = Folder(path, [], [], [])
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if everything or not is_ignored(entry.name):
                    _list_of(entry, found).append(path / entry.name)
    except OSError as error:
        raise _unreadable(path, error) from None
    return found


def _list_of(entry: os.DirEntry[str], folder: Folder) -> list[Path]:
    """The list for an entry; devices, pipes and sockets are in none of them."""
    try:
        if entry.is_dir():
            return folder.folders
        if entry.is_file():
            return folder.files
        return folder.broken if entry.is_symlink() and not os.path.exists(entry.path) else []
    except OSError as error:
        if error.errno != errno.ELOOP:  # A link to itself.
            raise
        return folder.broken


def _unreadable(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"can't read the folder {error.filename or folder} ({error.strerror or error}): make it readable (chmod -R "
        "u+rX), or move it to another place"
    )


def walk(root: Path) -> Iterator[Folder]:
    """Yield a folder and all folders below, as ``find -L`` does: links are followed, but not back to a folder above.

    Raises:
        ConfigError: A folder can't be read.
    """
    left: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while left:
        path, above = left.pop()
        try:
            status = path.stat()
        except OSError as error:
            raise _unreadable(path, error) from None
        identity = status.st_dev, status.st_ino
        if identity in above:
            report_once(f"warning: {path} leads back to a folder above, {path.resolve()}, so it is not searched again")
            continue
        found = contents(path)
        left += [(folder, above | {identity}) for folder in found.folders]
        yield found


def images_under(root: Path) -> Iterator[Path]:
    """All images in a folder and its sub-folders, in any order; see ``walk``."""
    return (path for folder in walk(root) for path in folder.files if is_image(path))


def find_images(root: Path, key: str = "data.root: ") -> list[Path]:
    """All images in a folder and its sub-folders, sorted; how many other files there are is reported on stderr.

    Raises:
        ConfigError: The folder is missing, or contains no image (the message begins with ``key``), or a folder can't be
            read.
    """
    if not root.is_dir():
        raise ConfigError(f"{key}there is no folder {root}")
    files = [path for folder in walk(root) for path in folder.files]
    found = sorted(filter(is_image, files))
    skipped = counted(Counter(suffix_of(path) for path in files if not is_image(path)))
    if not found:
        others = f"; found: {skipped}" if skipped else ""
        raise ConfigError(f"{key}no image in {root} (looked for {', '.join(sorted(EXTENSIONS))}{others})")
    if skipped:
        report_once(f"{root}: {len(files) - len(found):,} files are not read, because of their suffixes: {skipped}")
    return found


def suffix_of(path: Path) -> str:
    """The suffix under which a file that is not read is counted: its name if it has none."""
    return path.suffix.lower() or path.name


def counted(kinds: Counter[str]) -> str:
    """The most frequent of these, with their numbers."""
    shown = [f"{kind} ({count:,})" for kind, count in kinds.most_common(SHOWN)]
    return ", ".join(shown + ["..."] * (len(kinds) > SHOWN))


def matching(pattern: str) -> list[Path]:
    """The files that match a pattern, sorted: ``**`` is any number of folders, which are searched as by ``walk``."""
    path = Path(pattern)
    *folders, last = path.relative_to(path.anchor).parts
    tops = [Path(path.anchor)]
    for part in folders:
        if part == "**":
            tops = [folder.path for top in tops for folder in walk(top)]
        elif glob.has_magic(part):
            tops = [folder for top in tops for folder in _listed(top, part).folders if _matches(folder, part)]
        else:
            tops = [folder for top in tops if (folder := existing(top / part)).is_dir()]
    if last == "**":
        return sorted({file for top in tops for folder in walk(top) for file in folder.files})
    if glob.has_magic(last):
        return sorted({file for top in tops for file in _listed(top, last).files if _matches(file, last)})
    return sorted({file for top in tops if (file := existing(top / last)).is_file()})


def _listed(folder: Path, pattern: str) -> Folder:
    return contents(folder, everything=pattern.startswith("."))  # As in a shell.


def _matches(path: Path, pattern: str) -> bool:
    return fnmatchcase(nfc(path.name), nfc(pattern))


def existing(path: Path) -> Path:
    """The path, or if nothing is there, one that differs from it only in the Unicode form of its characters."""
    if str(path).isascii() or path == path.parent or os.path.lexists(path):
        return path
    parent = existing(path.parent)
    with suppress(OSError):
        return parent / _names_by_nfc(parent, parent.stat().st_mtime_ns).get(nfc(path.name), path.name)
    return path


@lru_cache(maxsize=64)
def _names_by_nfc(folder: Path, modified: int) -> dict[str, str]:
    """The names in a folder by their composed form; ``modified`` distinguishes states of the folder."""
    return {nfc(name): name for name in os.listdir(folder)}


@cache
def report_once(line: str) -> None:
    """Print a line once, as the same folder is searched for several phases."""
    distributed.print_rank_zero(line)
