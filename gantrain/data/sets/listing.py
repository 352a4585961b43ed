"""Images that a CSV file lists, so that a folder of a million images need not be searched."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from gantrain.data.images.finding import existing
from gantrain.data.images.formats import EXTENSIONS
from gantrain.data.images.sources import FileSource
from gantrain.data.names import in_order, nfc
from gantrain.errors import ConfigError

HEADER = ["path", "label"]


class Names:
    """Strings in one buffer: a million objects would be copied into every worker process that reads them."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._text = bytearray()
        self._ends = array("q", [0])
        for name in names:
            self.append(name)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        start, end = self._ends[index : index + 2]
        return self._text[start:end].decode("utf-8", "surrogateescape")

    def append(self, name: str) -> None:
        """Add a string at the end."""
        self._text += name.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._text))


class ListedSource(FileSource):
    """Image files in the order of a list; ``names`` are their paths relative to the folder, at least one."""

    def __init__(self, folder: Path, names: Names) -> None:
        self.folder = folder
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return self._names[index]

    def open(self, index: int) -> Path:
        return existing(self.folder / self.name(index))


def read_list(folder: Path, path: str) -> tuple[ListedSource, list[str], list[int] | None]:
    """The images, class names and class indices that a CSV file lists.

    Each row contains a path relative to ``folder``; either all rows have a label in a second column or none. A first
    row ``path,label``, in any case, is a header. Classes are in natural order.

    Args:
        folder: ``data.root``.
        path: Path of the list, relative to the folder or to the working directory.
    """
    if not folder.is_dir():
        raise ConfigError(f"data.root: there is no folder {folder} (the paths in data.list are relative to it)")
    file = next((each for each in map(existing, (folder / path, Path(path).expanduser())) if each.is_file()), None)
    if file is None:
        raise ConfigError(f"data.list={path}: there is neither {folder / path} nor a file {path}")
    names = Names()
    found: dict[str, int] = {}  # The classes in order of appearance, in the composed form of Unicode.
    spelled: dict[str, str] = {}  # The names that were listed.
    labels = array("q")
    for number, row in _rows(file):
        name, label = row[0], row[1].strip() if len(row) == 2 else ""
        if len(row) > 2 or not name or "\0" in name:
            raise ConfigError(
                f"data.list: {file}, line {number}: expected 'path' or 'path,label', got {','.join(row)!r}"
            )
        # Otherwise, a header with other words would be taken for an image and a class.
        if not names and Path(name).suffix.lower() not in EXTENSIONS and not existing(folder / name).is_file():
            raise ConfigError(
                f"data.list: {file}, line {number}: there is no image {folder / name} (a header must be 'path' or "
                "'path,label')"
            )
        names.append(name)
        if label:
            labels.append(found.setdefault(nfc(label), len(found)))
            spelled.setdefault(nfc(label), label)
        if len(labels) not in (0, len(names)):
            raise ConfigError(f"data.list: {file}, line {number}: either all images have a label or none")
    if not names:
        raise ConfigError(f"data.list: {file} lists no images")
    classes = in_order(spelled.values())
    ranks = {found[nfc(label)]: rank for rank, label in enumerate(classes)}
    return ListedSource(folder, names), classes, [ranks[label] for label in labels] if labels else None


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of the last line and the cells of each row, without the header and empty lines."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.reader(lines)
        try:
            for number, row in enumerate(reader):
                is_header = number == 0 and [cell.strip().lower() for cell in row] == HEADER[: len(row)]
                if row and not is_header:
                    yield reader.line_num, row
        except csv.Error as error:
            raise ConfigError(f"data.list: {file}, line {reader.line_num}: {error}") from None
