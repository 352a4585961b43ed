"""Images in LMDB files, as LSUN is handed out."""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gantrain.data.images.sources import Source
from gantrain.data.sets.catalog import NAMES
from gantrain.data.sets.lmdb_index import Database, KeyIndex, is_database, key_index, open_database
from gantrain.data.sets.single import Found, Images
from gantrain.errors import ConfigError, nearest
from gantrain.registry import DATASETS
from gantrain.runtime import distributed

# <category>_<phase>_lmdb
NAME = re.compile(r"(?P<category>.+)_(?P<phase>train|val|test)_lmdb")


class LmdbSource(Source):
    """The values of an LMDB, in the order of their keys.

    Args:
        database: The file.
        index: Of its keys.
    """

    def __init__(self, database: Database, index: KeyIndex) -> None:
        self.database = database
        self.index = index
        known = f"{database.path} {database.state()} {index.digest}".encode("utf-8", "surrogateescape")
        self._stamp = hashlib.blake2b(known, digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self.index)

    def name(self, index: int) -> str:
        """The key."""
        return self.index[index].decode("utf-8", "surrogateescape")

    def open(self, index: int) -> bytes:
        """The value."""
        return self.database.get(self.index[index])

    def location(self, index: int) -> str:
        """The key, and the path of the database."""
        return f"{self.name(index)} in {self.database.path}"

    def stamp(self, indices: Sequence[int]) -> str:
        """From the place, all keys, and what changes with every transaction; as of when the database was opened."""
        return self._stamp


@DATASETS.register("lsun")
class Lsun(Images):
    """A category of LSUN, or any LMDB whose values are image files.

    Keys of the form CLASS/NAME, if all are and there are several classes, give labels; those of LSUN give none.

    Args:
        root: A folder of LMDB's, such as ``bedroom_train_lmdb``, which then has ``bedroom_test_lmdb`` or
            ``bedroom_val_lmdb`` beside it for the phase ``test``; or a folder that holds such folders.
        category: Which of those (``bedroom``); null if there is one.
        others: As for any set of images.
    """

    def __init__(self, *, root: str, category: str | None, **others: Any) -> None:
        self._category = category
        super().__init__(root=root, **others)

    def _find(self, root: str, phase: str) -> Found:
        phases = find_databases(Path(root).expanduser(), self._category)
        held_out = "test" in phases or "val" in phases
        if phase == "test":
            phase = next((each for each in ("test", "val") if each in phases), "train")
        if phase not in phases:
            there = ", ".join(path.name for path in phases.values())
            raise ConfigError(f"data.root: no database for the phase {phase} (there are: {there})")
        train, source = (open_source(phases[each]) for each in ("train", phase))
        classes = sorted(name for name, _ in class_ranges(train.index))
        return Found(source, source.index.digest, classes, _labels(source, classes) if classes else None, held_out)


def find_databases(root: Path, category: str | None) -> dict[str, Path]:
    """The databases of a category by phase, of which ``train`` is always there.

    Raises:
        ConfigError: There are none, or of several categories.
    """
    if is_database(root) or root.is_file():
        if category is not None:
            raise ConfigError(
                f"data.category={category}: data.root ({root}) is one database; give the folder around it"
            )
        found = NAME.fullmatch(root.resolve().name)
        if not found or found["phase"] != "train":
            return {"train": root}
        return {**_phases(root.resolve().parent, found["category"]), "train": root}
    if not root.is_dir():
        raise ConfigError(f"data.root: there is no folder {root}{_how_to_get(category)}")
    there = sorted({found["category"] for path in root.iterdir() if (found := NAME.fullmatch(path.name))})
    if not there:
        raise ConfigError(f"data.root: {root} is not an LMDB, nor a folder that holds any (bedroom_train_lmdb, ...)")
    if category is None and len(there) > 1:
        raise ConfigError(f"data.category is missing: {root} holds {', '.join(there)}")
    category = category or there[0]
    phases = _phases(root, category)
    if "train" not in phases:
        hint = _how_to_get(category) or (f"; {nearest(category, there)}" if category not in there else "")
        raise ConfigError(f"data.category={category}: there is no LMDB {root / f'{category}_train_lmdb'}{hint}")
    return phases


def open_source(path: Path) -> LmdbSource:
    """The values of a database; its keys are indexed if they are not."""
    database = open_database(path)
    with distributed.rank_zero_first():
        return LmdbSource(database, key_index(database))


def class_ranges(index: KeyIndex) -> list[tuple[str, range]]:
    """The classes in the order of their keys, with the keys of each; none if there are fewer than two.

    A class is what stands before the first slash, and its keys follow one another, so that few of them are looked at.
    """
    ranges = []
    start = 0
    while start < len(index):
        name, slash, _ = index[start].partition(b"/")
        if not slash:
            return []
        stop = bisect.bisect_left(index, name + b"0", lo=start)  # 0 follows the slash
        ranges.append((name.decode("utf-8", "surrogateescape"), range(start, stop)))
        start = stop
    return ranges if len(ranges) > 1 else []


def _labels(source: LmdbSource, classes: list[str]) -> list[int]:
    """The class number of every image."""
    labels = np.full(len(source), -1)
    for name, keys in class_ranges(source.index):
        if name in classes:
            labels[keys.start : keys.stop] = classes.index(name)
    if labels.min() < 0:
        stray = source.location(int(labels.argmin()))
        raise ConfigError(f"data.root: {stray} is in none of the classes of the training images: {classes}")
    return labels.tolist()


def _phases(folder: Path, category: str) -> dict[str, Path]:
    places = {phase: folder / f"{category}_{phase}_lmdb" for phase in ("train", "val", "test")}
    return {phase: path for phase, path in places.items() if path.is_dir()}


def _how_to_get(category: str | None) -> str:
    """A hint for a category that is handed out."""
    name = f"lsun_{category}"
    return f"; gantrain data download {name} fetches it" if name in NAMES else ""
