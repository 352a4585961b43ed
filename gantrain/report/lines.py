"""Files of JSON lines that are cut back when a run goes on from an earlier step."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

Line: TypeAlias = dict[str, float]


class Lines:
    """A log of one JSON object a line, each with its ``step``; what could not be written is caught up on later.

    Args:
        path: The file.

    Attributes:
        all: Its lines.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.all: list[Line] = []
        self._whole = True  # whether the file holds them all, and nothing else

    def go_back_to(self, step: int) -> None:
        """Drop the lines after ``step``, at first of those in the file, of which a last one may have been cut short.

        Raises:
            OSError: It can't be written.
        """
        known = self.all or self._found()
        self.all = [line for line in known if line["step"] <= step]
        self._whole = not self.all and not self.path.exists()
        self.catch_up()

    def _found(self) -> list[Line]:
        """The lines of the file, up to one that is none."""
        if not self.path.exists():
            return []
        texts = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in itertools.takewhile(lambda line: line is not None, map(_parsed, texts)) if line]

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
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._whole = True

    def catch_up(self) -> None:
        """Write what could not be written, if there is any.

        Raises:
            OSError: Nor can it be now.
        """
        if not self._whole:
            replace_text(self.path, "".join(json.dumps(line) + "\n" for line in self.all))
            self._whole = True


def _parsed(text: str) -> Line | None:
    """A line's values; None if it is not one of a log's."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not all(isinstance(value, (int, float)) for value in line.values()):
        return None
    return line if "step" in line else None


def replace_text(path: Path, text: str) -> None:
    """Put a text file in its place, whole: a reader never sees half of it, and a full disk keeps the one before.

    Raises:
        OSError: It can't be written.
    """
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(text, encoding="utf-8", errors="replace")  # a file's name in it may be no text
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
