"""A CSV file that names the pictures of a folder, so that a million of them need no search."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gantrain.data.sources import Source
from gantrain.registry import ConfigError

HEADER = ["path", "label"]


class ListedSource(Source):
    """Picture files that a list names, in its order.

    The names are kept in one piece: a million objects would be copied into every worker as it touches them.

    Args:
        folder: Names are relative to it.
        names: Paths of pictures, at least one.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self._folder = folder
        self._text = b"".join(encoded)
        self._ends = np.cumsum([len(name) for name in encoded])

    def __len__(self) -> int:
        return len(self._ends)

    def name(self, index: int) -> str:
        """As it stands in the list."""
        start = self._ends[index - 1] if index else 0
        return self._text[start : self._ends[index]].decode("utf-8", "surrogateescape")

    def names(self) -> Iterator[str]:
        """All, in their order."""
        return map(self.name, range(len(self)))

    def open(self, index: int) -> Path:
        """The file."""
        return self._folder / self.name(index)

    def place(self, index: int) -> str:
        """The path."""
        return str(self.open(index))

    def stamp(self) -> str:
        """From names, sizes and times of the last change.

        Raises:
            ConfigError: A file is missing.
        """
        digest = hashlib.blake2b(digest_size=16)
        for index in range(len(self)):
            try:
                status = self.open(index).stat()
            except OSError as error:
                raise ConfigError(f"data.list names {self.place(index)}: {error.strerror}") from None
            digest.update(repr((self.name(index), status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()


def read_list(folder: Path, path: str) -> tuple[ListedSource, list[str], list[int] | None]:
    """The pictures, class names and class numbers that a CSV file lists.

    Each row holds a path relative to ``folder``, and a label in a second column or in no row at all; a first row
    ``path,label`` is a heading. Classes are sorted by name, those that are all whole numbers by number.

    Args:
        folder: ``data.root``.
        path: Of the list, in the folder or else as it is.

    Raises:
        ConfigError: The folder or the list is missing, or a row isn't as it should be.
    """
    if not folder.is_dir():
        raise ConfigError(f"data.root: there is no folder {folder} (data.list names pictures below one)")
    file = next((place for place in (folder / path, Path(path).expanduser()) if place.is_file()), None)
    if file is None:
        raise ConfigError(f"data.list={path}: there is neither {folder / path} nor a file {path}")
    names: list[str] = []
    labels: list[str] = []
    for number, row in _rows(file):
        if len(row) > 2 or not row[0]:
            raise ConfigError(
                f"data.list: {file}, line {number}: 'path' or 'path,label' is wanted, not '{','.join(row)}'"
            )
        names.append(row[0])
        labels += [label for label in row[1:] if label]
        if len(labels) not in (0, len(names)):
            raise ConfigError(f"data.list: {file}, line {number}: either all pictures have a label or none")
    if not names:
        raise ConfigError(f"data.list: {file} lists no pictures")
    source = ListedSource(folder, names)
    if not labels:
        return source, [], None
    numeric = all(label.isdecimal() for label in set(labels))
    classes = sorted(set(labels), key=lambda label: (int(label) if numeric else 0, label))
    numbers = {name: number for number, name in enumerate(classes)}
    return source, classes, [numbers[label] for label in labels]


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of its last line and the cells of each row; neither the heading nor empty lines."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.reader(lines)
        try:
            for place, row in enumerate(reader):
                if row and not (place == 0 and row == HEADER[: len(row)]):
                    yield reader.line_num, row
        except csv.Error as error:
            raise ConfigError(f"data.list: {file}, line {reader.line_num}: {error}") from None
