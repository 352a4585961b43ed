"""A CSV file that names the images of a folder, so that a million of them need no search."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from pathlib import Path

from gantrain.data.images.convert import EXTENSIONS
from gantrain.data.images.sources import FileSource
from gantrain.errors import ConfigError

HEADER = ["path", "label"]


class Names:
    """Texts in one piece: a million objects would be copied into every worker as it touches them."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        start, end = self._ends[index : index + 2]
        return self._text[start:end].decode("utf-8", "surrogateescape")

    def append(self, name: str) -> None:
        """One more."""
        self._text += name.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._text))


class ListedSource(FileSource):
    """Image files that a list names, in its order.

    Args:
        folder: Names are relative to it.
        names: Paths of images, at least one.
    """

    def __init__(self, folder: Path, names: Names) -> None:
        self.folder = folder
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """As it stands in the list."""
        return self._names[index]

    def open(self, index: int) -> Path:
        """The file."""
        return self.folder / self.name(index)


def read_list(folder: Path, path: str) -> tuple[ListedSource, list[str], list[int] | None]:
    """The images, class names and class numbers that a CSV file lists.

    Each row holds a path relative to ``folder``, and a label in a second column or in no row at all; a first row
    ``path,label``, in small letters or capitals, is a heading. Classes are sorted by name, those that are all whole
    numbers by number.

    Args:
        folder: ``data.root``.
        path: Of the list, in the folder or else as it is.

    Raises:
        ConfigError: The folder or the list is missing, or a row isn't as it should be.
    """
    if not folder.is_dir():
        raise ConfigError(f"data.root: there is no folder {folder} (data.list names images below one)")
    file = next((place for place in (folder / path, Path(path).expanduser()) if place.is_file()), None)
    if file is None:
        raise ConfigError(f"data.list={path}: there is neither {folder / path} nor a file {path}")
    names = Names()
    found: dict[str, int] = {}  # the classes in the order in which they come up
    labels = array("q")
    for number, row in _rows(file):
        name, label = row[0], row[1].strip() if len(row) == 2 else ""
        if len(row) > 2 or not name or "\0" in name:
            raise ConfigError(
                f"data.list: {file}, line {number}: 'path' or 'path,label' is wanted, not {','.join(row)!r}"
            )
        # a heading in other words would be an image, and a class of its own
        if not names and Path(name).suffix.lower() not in EXTENSIONS and not (folder / name).is_file():
            raise ConfigError(
                f"data.list: {file}, line {number}: there is no image {folder / name} (a heading is 'path' or "
                "'path,label')"
            )
        names.append(name)
        if label:
            labels.append(found.setdefault(label, len(found)))
        if len(labels) not in (0, len(names)):
            raise ConfigError(f"data.list: {file}, line {number}: either all images have a label or none")
    if not names:
        raise ConfigError(f"data.list: {file} lists no images")
    numeric = all(label.isdecimal() for label in found)
    classes = sorted(found, key=lambda label: (int(label) if numeric else 0, label))
    ranks = {found[label]: rank for rank, label in enumerate(classes)}
    return ListedSource(folder, names), classes, [ranks[label] for label in labels] if labels else None


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of its last line and the cells of each row; neither the heading nor empty lines."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.reader(lines)
        try:
            for place, row in enumerate(reader):
                heading = place == 0 and [cell.strip().lower() for cell in row] == HEADER[: len(row)]
                if row and not heading:
                    yield reader.line_num, row
        except csv.Error as error:
            raise ConfigError(f"data.list: {file}, line {reader.line_num}: {error}") from None
