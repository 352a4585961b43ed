"""Files of JSON lines that are cut back when a run goes on from an earlier step."""

from __future__ import annotations

import json
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
        """Read the file, and drop the lines after ``step`` and a last one that was cut short.

        Raises:
            OSError: It can't be written.
        """
        self.all = []
        if not self.path.exists():
            return
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                break
            if line["step"] > step:
                break
            self.all.append(line)
        self._rewrite()

    def add(self, line: Line) -> None:
        """Write one more line.

        Raises:
            OSError: It can't be written now; the next one tries for both.
        """
        self.all.append(line)
        if not self._whole:
            self._rewrite()
            return
        self._whole = False
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._whole = True

    def _rewrite(self) -> None:
        self._whole = False
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in self.all), encoding="utf-8")
        temporary.replace(self.path)
        self._whole = True


def read_lines(path: Path) -> list[Line]:
    """The lines of a log that may be growing, or not be there; a last one that was cut short is left out."""
    lines: list[Line] = []
    try:
        for text in path.read_text(encoding="utf-8").splitlines():
            lines.append(json.loads(text))
    except (OSError, ValueError):
        pass
    return lines
