"""Append-only logs with one record per line in text files, which recover from failed writes."""

from __future__ import annotations

import codecs
import json
import stat
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
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
            elif (text := self._text(first, end)) != _content(path, len(text)):
                write_file(path, text)  # It is a new file, or it was deleted or changed since the last write.
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
        """Remove the lines after ``step``; the first call reads the file, whose last line may be incomplete.

        A file from which nothing has to be removed is not written again.
        """
        lines = self.records or read_lines(self.path)
        kept = [line for line in lines if line["step"] <= step]
        if not self.records and kept and len(kept) == _complete_lines(self.path):
            self.records, self.written, self._size = kept, len(kept), self.path.stat().st_size
        else:
            self.replace(kept)


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


def readable_lines(path: Path) -> list[Line]:
    """``read_lines``, or none of a file that can't be read, which is reported."""
    try:
        return read_lines(path)
    except OSError as error:
        report_damage(path, error.strerror or error)
        return []


def _line(text: bytes) -> Line | None:
    """A line of a log; None if it is damaged. All lines share the strings of their names, which saves memory."""
    try:
        parsed = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict) or type(parsed.get("step")) is not int or parsed["step"] < 0:
        return None
    line = {sys.intern(name): value for name, value in parsed.items()}
    for name, value in line.items():
        if not is_number(value) and not (name in (PROTOCOL, NOTE) and isinstance(value, str)):
            return None
    return line


def _is_only_here(path: Path) -> bool:
    """Whether this is a file without links, through which a stranger's run folder could have others written to."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _content(path: Path, size: int) -> bytes | None:
    """The content of a file of this size that may be appended to; None if there is none."""
    with suppress(OSError):
        if _is_only_here(path) and path.stat().st_size == size:
            return path.read_bytes()
    return None


def _complete_lines(path: Path) -> int:
    """The number of lines in a file; -1 if it begins with a BOM, has an incomplete line, or may not be appended to."""
    if not _is_only_here(path):
        return -1
    count, last, first = 0, b"", True
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            if first and block.startswith(codecs.BOM_UTF8):
                return -1
            count, last, first = count + block.count(b"\n"), block[-1:], False
    return count if last == b"\n" else -1
