"""What a page shows line by line, in files that only grow: a page that is open reads the last of them anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gantrain.report.pages.page import DATA, as_script, folder_below
from gantrain.runtime.atomic import write_file

LINES = 500  # of a file


class PageLog:
    """``index_files/data/log_0.js``, ``log_1.js`` and so on, each of ``LINES`` lines, in which tables are mixed.

    Args:
        folder: Of the page.
    """

    def __init__(self, folder: Path) -> None:
        self._page = folder
        self._folder = folder / DATA
        self._lines: list[str] = []
        self._kept = 0  # so many are in the files
        self._whole = True  # whether nothing else is in the last of those

    @property
    def count(self) -> int:
        """Lines in the files."""
        return self._kept

    @property
    def files(self) -> int:
        """How many there are."""
        return -(-self._kept // LINES)

    def restart(self, lines: Iterable[tuple[str, Any]]) -> None:
        """Write anew: tables' names and lines.

        Raises:
            OSError: They can't be written; ``catch_up`` tries again.
        """
        self._lines = [_said(table, line) for table, line in lines]
        self._kept = 0
        folder_below(self._page, DATA)
        for path in self._folder.glob("log_*.js"):
            path.unlink()
        self.catch_up()

    def add(self, table: str, line: Any) -> None:
        """Write one more line.

        Raises:
            OSError: It can't be written now; the next one tries for both.
        """
        self._lines.append(_said(table, line))
        self.catch_up()

    def catch_up(self) -> None:
        """Write what could not be written, if there is any.

        Raises:
            OSError: Nor can it be now.
        """
        while self._kept < len(self._lines):
            number = self._kept // LINES
            path, first = self._folder / f"log_{number}.js", number * LINES
            end = min(first + LINES, len(self._lines))
            if self._whole and self._kept > first:
                self._whole = False
                with path.open("a", encoding="utf-8") as file:
                    file.write("".join(self._lines[self._kept : end]))
            else:
                write_file(path, "".join(self._lines[first:end]))
            self._whole, self._kept = True, end


def _said(table: str, line: Any) -> str:
    return f"gantrain.line({as_script(table)}, {as_script(line)});\n"
