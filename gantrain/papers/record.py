"""``reproductions.csv``: what runs of experiments have reached, beside what was expected."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from gantrain.config.side_files import read_text
from gantrain.runtime.atomic import file_lock, write_file

RECORD = "reproductions.csv"
LIMIT = 20 << 20  # Bytes.


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the file, as text: an expected value of an experiment, and what a run has reached."""

    experiment: str
    changes: str  # The overrides that make it another experiment than that of the paper, as typed; empty for none.
    metric: str  # Empty for an experiment without expected values, like the next three.
    paper: str
    protocol: str
    source: str
    measured: str  # Empty if the run has not measured it.
    measured_by: str  # How: the protocol of the measurement, empty for what models measure themselves.
    step: str  # At which it was measured, or the last one.
    hardware: str
    hours: str
    seed: str
    version: str
    date: str
    run: str  # The name of the run folder.


COLUMNS = [field.name for field in fields(Row)]


def read_record(path: Path) -> list[Row]:
    """The rows of a record, none if it does not exist; columns that are missing in it are empty."""
    text = read_text(path, limit=LIMIT) or ""
    lines = csv.DictReader(io.StringIO(text, newline=""))
    rows = [Row(**{name: str(line.get(name) or "") for name in COLUMNS}) for line in lines]
    return [row for row in rows if row.experiment]


def add_to_record(path: Path, rows: Sequence[Row]) -> list[Row]:
    """Add the rows of a run in place of those that it has, atomically; returns all rows."""
    with file_lock(path):
        runs = {(row.experiment, row.run) for row in rows}
        everything = [row for row in read_record(path) if (row.experiment, row.run) not in runs] + list(rows)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(map(asdict, everything))
        write_file(path, text.getvalue())
    return everything
