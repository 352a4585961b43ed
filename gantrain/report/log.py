"""Append-only logs with one record per line in text files, which recover from failed writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from gantrain.config.side_files import is_number, lines_of, open_regular, report_damage
from gantrain.runtime.atomic import write_file

Line: TypeAlias = dict[str, Any]  # Numbers, and a ``protocol`` or a ``note``, which are text.
Record = TypeVar("Record")
CLOCK = ("step", "epoch", "kimg")  # Progress of a run, in every log line.
TABLES = ("losses", "speed", "metrics", "notes")  # The logs of a run, each in a file.
EVALUATIONS = "evaluations.jsonl"  # What has been measured afterwards.
PROTOCOL = "protocol"  # How the metrics of a line were measured.
NOTE = "note"  # What was found at a step, in a sentence.
LR_PREFIX = "lr_"  # Names of learning rates start with it.


class AppendLog(Generic[Record]):
    """Records as lines of text files. A record that could not be written is written together with the next one.

    Args:
        path: The file; a ``*`` in its name is replaced with the number of the file if there are several.
        encode: Returns the text of a record, without the line break.
        per_file: The maximum number of records in one file.
    """

    def __init__(self, path: Path, encode: Callable[[Record], str], *, per_file: int = sys.maxsize) -> None:
        self.path = path
        self.records: list[Record] = []  # All records, including those that could not be written.
        self.written = 0  # The number of records in the files.
        self._encode = encode
        self._per_file = per_file
        self._size = 0  # Bytes in the last file; -1 after a failed write.

    @property
    def files(self) -> int:
        """Number of files."""
        return -(-self.written // self._per_file)

    def replace(self, records: Iterable[Record]) -> None:
        """Replace all records; an OSError means that ``catch_up`` must try again."""
        self.records, self.written = list(records), 0
        self.catch_up()
        for path in {*self.path.parent.glob(self.path.name)} - {self._file(number) for number in range(self.files)}:
            path.unlink(missing_ok=True)

    def add(self, record: Record) -> None:
        """Append a record; an OSError means that the next call tries again."""
        self.records.append(record)
        self.catch_up()

    def catch_up(self) -> None:
        """Write the records that are not in the files yet; an OSError means that they can't be written now."""
        while self.written < len(self.records):
            number, offset = divmod(self.written, self._per_file)
            first = self.written - offset
            end = min(first + self._per_file, len(self.records))
            size, self._size = self._size, -1
            path = self._file(number)
            if offset and path.is_file() and path.stat().st_size == size:
                with path.open("ab") as file:
                    file.write(self._text(self.written, end))
            else:  # It is a new file, or it was deleted or changed since the last write.
                write_file(path, self._text(first, end))
            self.written, self._size = end, path.stat().st_size

    def _file(self, number: int) -> Path:
        return self.path.with_name(self.path.name.replace("*", str(number)))

    def _text(self, start: int, end: int) -> bytes:
        return "".join(f"{self._encode(record)}\n" for record in self.records[start:end]).encode()


class JsonlLog(AppendLog[Line]):
    """A file with one JSON object per line, each with its ``step``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, json.dumps)

    def truncate(self, step: int) -> None:
        """Remove the lines after ``step``; the first call reads the file, whose last line may be incomplete."""
        self.replace(line for line in self.records or read_lines(self.path) if line["step"] <= step)


def read_lines(path: Path) -> list[Line]:
    """The valid lines of a log, none if it does not exist; damaged ones are reported.

    Raises:
        OSError: The file can't be read.
    """
    lines: list[Line] = []
    damaged, text, line = 0, b"", None
    try:
        with open_regular(path) as file:
            for text in lines_of(file):
                line = _line(text)
                damaged += line is None
                lines += [line] if line is not None else []
    except (FileNotFoundError, NotADirectoryError):
        return []
    if line is None and text.startswith(b"{") and not text.endswith(b"\n"):
        damaged -= 1  # A process was killed while it wrote the last line.
    if damaged:
        count = "1 line" if damaged == 1 else f"{damaged:,} lines"
        report_damage(path, count, remedy=f"{'it is' if damaged == 1 else 'they are'} skipped")
    return lines


def _line(text: bytes) -> Line | None:
    """A line of a log; None if it is damaged."""
    try:
        line = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    valid = (
        isinstance(line, dict)
        and all(
            is_number(value) or (name in (PROTOCOL, NOTE) and isinstance(value, str)) for name, value in line.items()
        )
        and type(line.get("step")) is int
    )
    return line if valid and line["step"] >= 0 else None
