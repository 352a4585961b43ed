"""What a page shows line by line, in files that only grow: a page that is open reads the last of them anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gantrain.report.page import DATA, as_script, write_whole

LINES = 500  # of a file


class PageLog:
    """``index_files/data/log_0.js``, ``log_1.js`` and so on, each of ``LINES`` lines, in which tables are mixed.

    What could not be written is caught up on later.

    Args:
        folder: Of the page.

    Attributes:
        count: Lines in all.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / DATA
        self.count = 0
        self._last: list[str] = []  # of the last file
        self._whole = True  # whether that file holds them all, and nothing else

    @property
    def files(self) -> int:
        """How many there are."""
        return -(-self.count // LINES)

    def restart(self, lines: Iterable[tuple[str, Any]]) -> None:
        """Write anew: tables' names and lines.

        Raises:
            OSError: They can't be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        before = {int(path.stem.removeprefix("log_")) for path in self._folder.glob("log_*.js")}
        self.count, self._last = 0, []
        for table, line in lines:
            self._take(table, line)
            if len(self._last) == LINES:
                self._write()
        if self.count % LINES:
            self._write()
        for number in before:
            if number >= self.files:
                (self._folder / f"log_{number}.js").unlink(missing_ok=True)

    def add(self, table: str, line: Any) -> None:
        """Write one more line.

        Raises:
            OSError: It can't be written now; the next one tries for both.
        """
        self._take(table, line)
        if not self._whole:
            self._write()
            return
        self._whole = False
        with self._path.open("w" if len(self._last) == 1 else "a", encoding="utf-8") as file:
            file.write(self._last[-1])
        self._whole = True

    @property
    def _path(self) -> Path:
        return self._folder / f"log_{self.files - 1}.js"

    def _take(self, table: str, line: Any) -> None:
        if len(self._last) == LINES:
            if not self._whole:
                self._write()
            self._last = []
        self._last.append(f"gantrain.line({as_script(table)}, {as_script(line)});\n")
        self.count += 1

    def _write(self) -> None:
        self._whole = False
        write_whole(self._path, "".join(self._last))
        self._whole = True
