"""Functions that tests run in spawned processes, which cannot import a test module."""

from __future__ import annotations

from pathlib import Path

from gantrain.data.base import ImageDataset
from gantrain.data.sets.lmdb_index import Database, KeyIndex, key_index, open_database


def brightness(dataset: ImageDataset, index: int) -> float:
    """The sum over an image."""
    return dataset.item(index, index)["image"].sum().item()


def read_part(database: Database, index: KeyIndex, part: int) -> list[bytes]:
    """Every second value of a database."""
    return [database.get(index[number]) for number in range(part, len(index), 2)]


def build_index(path: Path) -> tuple[int, bytes]:
    """The number of keys of a database, and the last one."""
    index = key_index(open_database(path))
    return len(index), index[len(index) - 1]
