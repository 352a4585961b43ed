"""Files of JSON lines that are cut back when a run goes on from an earlier step."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TypeAlias

from gantrain.runtime.atomic import write_file

Line: TypeAlias = dict[str, float]
RATE = "lr_"  # begins the names of learning rates


class Lines:
    """A log of one JSON object a line, each with its ``step``; what is missing in the file is caught up on later.

    Args:
        path: The file.

    Attributes:
        all: Its lines.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.all: list[Line] = []
        self._whole = True  # whether the file holds them all, and nothing else, if nobody has touched it
        self._size = 0  # bytes, then

    def go_back_to(self, step: int) -> None:
        """Drop the lines after ``step``, at first of those in the file, of which a last one may have been cut short.

        Raises:
            OSError: It can't be written.
        """
        known = self.all or read_lines(self.path)
        self.all = [line for line in known if line["step"] <= step]
        self._whole = not self.all and not self.path.exists()
        self._size = 0
        self.catch_up()

    def add(self, line: Line) -> None:
        """Write one more line.

        Raises:
            OSError: It can't be written now; the next one tries for both.
        """
        self.all.append(line)
        if not self._whole:
            self.catch_up()
            return
        self._whole = False
        with self.path.open("ab") as file:
            if untouched := file.tell() == self._size:
                self._size += file.write(_bytes(line))
        if untouched:
            self._whole = True
        else:  # deleted, say
            self.catch_up()

    def catch_up(self) -> None:
        """Write what could not be written, if there is any.

        Raises:
            OSError: Nor can it be now.
        """
        if not self._whole:
            content = b"".join(map(_bytes, self.all))
            write_file(self.path, content)
            self._whole, self._size = True, len(content)


def read_lines(path: Path) -> list[Line]:
    """The lines of a log that may be growing, or not be there, up to one that is none.

    Raises:
        OSError: It is there, and can't be read.
    """
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in itertools.takewhile(lambda line: line is not None, map(_parsed, texts)) if line]


def _bytes(line: Line) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _parsed(text: str) -> Line | None:
    """A line's values; None if it is not one of a log's."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not all(isinstance(value, (int, float)) for value in line.values()):
        return None
    return line if "step" in line else None
