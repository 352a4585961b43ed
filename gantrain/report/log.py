"""Logs that only grow: one record a line in text files, written again after a write that failed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from gantrain.runtime.atomic import write_file

Line: TypeAlias = dict[str, float]
Record = TypeVar("Record")
LR_PREFIX = "lr_"  # Names of learning rates start with it.


class AppendLog(Generic[Record]):
    """Records as lines of text files. A record that could not be written is written together with the next one.

    Args:
        path: The file; a ``*`` in its name stands for the number of the file, where there are several.
        encode: Text of a record, without the line break.
        per_file: The most records in one file.

    Attributes:
        records: All records, whether or not they could be written.
        written: Number of records in the files.
    """

    def __init__(self, path: Path, encode: Callable[[Record], str], *, per_file: int = sys.maxsize) -> None:
        self.path = path
        self.records: list[Record] = []
        self.written = 0
        self._encode = encode
        self._per_file = per_file
        self._size = 0  # Bytes of the last file; -1 after a write that failed.

    @property
    def files(self) -> int:
        """Number of files."""
        return -(-self.written // self._per_file)

    def replace(self, records: Iterable[Record]) -> None:
        """Start over with other records.

        Raises:
            OSError: They can't be written now; ``catch_up`` tries again.
        """
        self.records, self.written = list(records), 0
        self.catch_up()
        for path in {*self.path.parent.glob(self.path.name)} - {self._file(number) for number in range(self.files)}:
            path.unlink(missing_ok=True)

    def add(self, record: Record) -> None:
        """Write one more record.

        Raises:
            OSError: It can't be written now; the next call tries again.
        """
        self.records.append(record)
        self.catch_up()

    def catch_up(self) -> None:
        """Write the records that are not in the files yet.

        Raises:
            OSError: They can't be written now.
        """
        while self.written < len(self.records):
            number, offset = divmod(self.written, self._per_file)
            first = self.written - offset
            end = min(first + self._per_file, len(self.records))
            size, self._size = self._size, -1
            if not offset or not self._append(number, self._text(self.written, end), size):
                write_file(self._file(number), self._text(first, end))
            self.written, self._size = end, self._file(number).stat().st_size

    def _append(self, number: int, text: bytes, size: int) -> bool:
        """Append to a file, unless it was deleted or changed since the last write; whether that was done."""
        with self._file(number).open("ab") as file:
            unchanged = file.tell() == size
            if unchanged:
                file.write(text)
        return unchanged

    def _file(self, number: int) -> Path:
        return self.path.with_name(self.path.name.replace("*", str(number)))

    def _text(self, start: int, end: int) -> bytes:
        return "".join(f"{self._encode(record)}\n" for record in self.records[start:end]).encode()


class JsonlLog(AppendLog[Line]):
    """A file with one JSON object a line, each with its ``step``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, json.dumps)

    def truncate(self, step: int) -> None:
        """Drop the lines after ``step``; at the first call those of the file, whose last line may be incomplete.

        Raises:
            OSError: The file can't be read or written.
        """
        self.replace(line for line in self.records or read_lines(self.path) if line["step"] <= step)


def read_lines(path: Path) -> list[Line]:
    """The lines of a log up to the first invalid one; an empty list if there is no such file.

    Raises:
        OSError: The file is there, and can't be read.
    """
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    lines: list[Line] = []
    for text in texts:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            break
        numeric = isinstance(line, dict) and all(isinstance(value, (int, float)) for value in line.values())
        if not numeric or "step" not in line:
            break
        lines.append(line)
    return lines
