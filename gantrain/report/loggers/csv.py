"""CSV files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from gantrain.registry import LOGGERS
from gantrain.report.log import Line
from gantrain.report.loggers.base import Logger
from gantrain.runtime.atomic import write_file


@LOGGERS.register("csv")
class CsvLogger(Logger):
    """A file ``losses.csv`` in the run folder: a row for each logged step, a column for each value.

    Args:
        folder: The run folder.
    """

    def __init__(self, *, folder: Path) -> None:
        self._path = folder / "losses.csv"
        self._rows: list[dict[str, float]] = []
        self._columns: list[str] = []
        self._last = 0  # Offset of the last row in the file.

    def begin(self, step: int, settings: Mapping[str, Any], lines: Sequence[Line]) -> None:
        self._rows = []
        for line in lines:
            self._merge(line)
        self._write_all()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        new = self._merge({"step": step, **values})
        if set(values) - set(self._columns):
            self._write_all()
            return
        with self._path.open("r+", newline="", encoding="utf-8") as file:
            if new:
                self._last = file.seek(0, 2)
            file.seek(self._last)
            file.truncate()
            csv.DictWriter(file, self._columns).writerow(self._rows[-1])

    def _merge(self, line: Line) -> bool:
        """Add values to the rows; whether they start a new row."""
        if self._rows and self._rows[-1]["step"] == line["step"]:
            self._rows[-1] |= line
            return False
        self._rows.append(dict(line))
        return True

    def _write_all(self) -> None:
        self._columns = list(dict.fromkeys(["step", *(name for row in self._rows for name in row)]))
        text = StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(self._rows[:-1])
        self._last = len(text.getvalue().encode())
        writer.writerows(self._rows[-1:])
        write_file(self._path, text.getvalue())
