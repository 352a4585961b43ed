"""LMDB files and image folders for tests of their conversion."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from gantrain.data.sets.lmdb_index import open_database


def encoded(kind: str = "PNG", seed: int = 0, height: int = 8, width: int = 8) -> bytes:
    """An image file of noise."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def fill(root: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return files


def classes(count: int = 6) -> dict[str, bytes]:
    """Files in two classes."""
    return {f"{'cat' if n % 2 else 'dog'}/{n}.{('png', 'webp')[n % 3 == 0]}": encoded(seed=n) for n in range(count)}


def write(path: Path, values: dict[bytes, bytes]) -> Path:
    """Put values into an LMDB, new or not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(path), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    return path


def numbered(path: Path, count: int = 10_000) -> Path:
    """An LMDB whose value number n is n in decimal."""
    return write(path, {key_of(number): b"%d" % number for number in range(count)})


def key_of(number: int) -> bytes:
    """Its key in ``numbered``: 40 hexadecimal digits."""
    return b"%040x" % (number * 7919)


def content(path: Path) -> dict[bytes, bytes]:
    database = open_database(path)
    return {key: database.get(key) for key in [*database.keys()]}


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path != folder / ".made_by"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def rows(folder: Path) -> list[list[str]]:
    with (folder / "files.csv").open(newline="") as file:
        return [*csv.reader(file)]


class Interruption:
    """Raises KeyboardInterrupt at the call number ``count`` of a method of ``Path`` until ``end`` is called.

    Attributes:
        seen: The paths of the calls.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
        original = getattr(Path, name)
        self.seen: list[Path] = []
        self._over = False

        def counted(path: Path, *arguments: object) -> object:
            if len(self.seen) == count and not self._over:
                raise KeyboardInterrupt
            self.seen.append(path)
            return original(path, *arguments)

        monkeypatch.setattr(Path, name, counted)

    def end(self) -> None:
        """Raise no more, and clear ``seen``."""
        self._over = True
        self.seen.clear()


def lsun(path: Path, count: int = 40) -> dict[bytes, bytes]:
    """Keys like those of LSUN, and its two formats."""
    values = {
        os.fsencode(f"{number * 7919 * 7919:040x}"[::-1]): encoded(("WEBP", "JPEG")[number % 2], number)
        for number in range(count)
    }
    write(path, values)
    return values
