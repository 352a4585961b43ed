"""Images in LMDB files, the format of LSUN."""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from gantrain.data.images.finding import contents
from gantrain.data.images.sources import Source
from gantrain.data.names import SPELLINGS, in_order, nfc, phase_of
from gantrain.data.sets.catalog import NAMES
from gantrain.data.sets.layout import labels_of, root_path
from gantrain.data.sets.lmdb_index import Database, KeyIndex, is_database, key_index, open_database
from gantrain.data.sets.single import Found, Images
from gantrain.errors import ConfigError, nearest
from gantrain.registry import DATASETS
from gantrain.runtime import distributed

NAME = re.compile(rf"(?P<category>.+)_(?P<phase>{'|'.join(chain(*SPELLINGS.values()))})_lmdb", re.IGNORECASE)


class LmdbSource(Source):
    """The values of an LMDB, in the order of their keys, which are their names."""

    def __init__(self, database: Database, index: KeyIndex) -> None:
        self.database = database
        self.index = index
        known = f"{database.path} {database.state()} {index.digest}".encode("utf-8", "surrogateescape")
        self._stamp = hashlib.blake2b(known, digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self.index)

    def name(self, index: int) -> str:
        return self.index[index].decode("utf-8", "surrogateescape")

    def open(self, index: int) -> bytes:
        return self.database.get(self.index[index])

    def location(self, index: int) -> str:
        return f"{self.name(index)} in {self.database.path}"

    def stamp(self, indices: Sequence[int]) -> str:
        return self._stamp


@DATASETS.register("lsun")
class Lsun(Images):
    """A category of LSUN, or any LMDB whose values are image files.

    If all keys have the form CLASS/NAME and there are several classes, these are labels; LSUN has none.

    Args:
        root: The folder of an LMDB, such as ``bedroom_train_lmdb``, with ``bedroom_test_lmdb`` or ``bedroom_val_lmdb``
            beside it for the phase ``test``; or a folder that contains such folders.
        category: The category (``bedroom``) if ``root`` contains several; null if there is only one.
        others: The arguments of ``Images``.
    """

    def __init__(self, *, root: str, category: str | None, **others: Any) -> None:
        self._category = category
        super().__init__(root=root, **others)

    def _find(self, root: str, phase: str) -> Found:
        phases = find_databases(root_path(root), self._category)
        held_out = "test" in phases or "val" in phases
        if phase == "test":
            phase = next((each for each in ("test", "val") if each in phases), "train")
        if phase not in phases:
            found = ", ".join(path.name for path in phases.values())
            raise ConfigError(f"data.root: no database for the phase {phase} (found: {found})")
        train, source = (open_source(phases[each]) for each in ("train", phase))
        classes = in_order(name for name, _ in class_ranges(train.index))
        names = (name for name, keys in class_ranges(source.index) for _ in keys)
        labels = labels_of(source, classes, names) if classes else None
        reason = "" if classes else _why_unlabelled(train.index)
        return Found(source, source.index.digest, classes, labels, held_out, reason)


def find_databases(root: Path, category: str | None) -> dict[str, Path]:
    """The databases of a category by phase, ``train`` among them."""
    if is_database(root) or root.is_file():
        if category is not None:
            raise ConfigError(
                f"data.category={category}: data.root ({root}) is one database: give the folder that contains it"
            )
        found = NAME.fullmatch(root.resolve().name)
        if not found or phase_of(found["phase"]) != "train":
            return {"train": root}
        return {**_phases(root.resolve().parent, found["category"]), "train": root}
    if not root.is_dir():
        raise ConfigError(f"data.root: there is no folder {root}{_how_to_get(category)}")
    names = (NAME.fullmatch(path.name) for path in contents(root).folders)
    categories = sorted({nfc(found["category"]) for found in names if found})
    if not categories:
        raise ConfigError(f"data.root: {root} neither is nor contains an LMDB (such as bedroom_train_lmdb)")
    if category is None and len(categories) > 1:
        raise ConfigError(f"data.category is missing: {root} contains {', '.join(categories)}")
    category = nfc(category or categories[0])
    phases = _phases(root, category)
    if "train" not in phases:
        hint = _how_to_get(category) or (f"; {nearest(category, categories)}" if category not in categories else "")
        raise ConfigError(f"data.category={category}: there is no LMDB {root / f'{category}_train_lmdb'}{hint}")
    return phases


def open_source(path: Path) -> LmdbSource:
    """The values of a database, whose keys are indexed if necessary."""
    database = open_database(path)
    with distributed.rank_zero_first():
        return LmdbSource(database, key_index(database))


def class_ranges(index: KeyIndex) -> list[tuple[str, range]]:
    """The classes, sorted, with the key numbers of each; empty if there are fewer than two.

    A class is the part of a key before the first slash. Its keys are contiguous, so only a few of them are read.
    """
    ranges, start = [], 0
    while start < len(index):
        name, slash, _ = index[start].partition(b"/")
        if not slash:
            return []
        stop = bisect.bisect_left(index, name + b"0", lo=start)  # The character 0 follows the slash.
        ranges.append((name.decode("utf-8", "surrogateescape"), range(start, stop)))
        start = stop
    return ranges if len(ranges) > 1 else []


def _why_unlabelled(index: KeyIndex) -> str:
    """Why keys of the form CLASS/NAME are no labels: another key has no class; empty if none is found quickly."""
    ends = [index[number].decode("utf-8", "surrogateescape") for number in {0, len(index) - 1}]
    stray = next((key for key in ends if "/" not in key), None)
    return (
        f"the key {stray} is in no class, others are" if stray is not None and any("/" in key for key in ends) else ""
    )


def _phases(folder: Path, category: str) -> dict[str, Path]:
    """The databases of a category by phase, in any usual spelling."""
    phases: dict[str, Path] = {}
    for path in sorted(contents(folder).folders):
        found = NAME.fullmatch(path.name)
        if found is None or nfc(found["category"]) != nfc(category):
            continue
        phase = phase_of(found["phase"])
        if found["phase"] == phase:  # The first spelling.
            phases[phase] = path
        elif (other := phases.setdefault(phase, path)) != path and not other.name.endswith(f"_{phase}_lmdb"):
            raise ConfigError(f"data.root: {other} and {path} are both named as the database of the phase {phase}")
    return phases


def _how_to_get(category: str | None) -> str:
    return f"; gantrain data download lsun_{category} fetches it" if f"lsun_{category}" in NAMES else ""
