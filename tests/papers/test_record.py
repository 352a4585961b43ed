"""The record of reproductions."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from gantrain.papers.record import COLUMNS, Row, add_to_record, read_record
from gantrain.runtime import atomic

RECORD = Path("reproductions.csv")
ROW = Row(**{name: f"{name} of e" for name in COLUMNS} | {"protocol": 'with, a "comma" and\na line break'})


def test_rows_are_read_as_they_were_written() -> None:
    rows = [ROW, replace(ROW, metric="is"), replace(ROW, run="other")]
    assert add_to_record(RECORD, rows) == rows
    assert read_record(RECORD) == rows
    with RECORD.open(newline="") as file:
        assert next(csv.reader(file)) == COLUMNS


def test_rows_of_a_run_replace_those_that_it_had() -> None:
    add_to_record(RECORD, [ROW, replace(ROW, metric="is")])
    add_to_record(RECORD, [replace(ROW, run="other")])
    again = replace(ROW, measured="better")
    assert add_to_record(RECORD, [again]) == [replace(ROW, run="other"), again] == read_record(RECORD)


def test_a_record_of_another_form_is_read_as_far_as_it_goes(capsys) -> None:
    assert read_record(RECORD) == []
    RECORD.write_text("run,experiment,unknown\nr,e,x\n,,\nshort\n")
    empty = dict.fromkeys(COLUMNS, "")
    assert read_record(RECORD) == [Row(**empty | {"run": "r", "experiment": "e"})]
    RECORD.write_bytes(b"\xff\xfe\x00")
    assert read_record(RECORD) == []
    assert "is damaged" in capsys.readouterr().err


def test_a_failed_write_leaves_the_record_as_it_was(monkeypatch) -> None:
    add_to_record(RECORD, [ROW])

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", fail)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        add_to_record(RECORD, [replace(ROW, run="other")])
    assert read_record(RECORD) == [ROW]
    assert [path.name for path in Path().iterdir()] == [RECORD.name]
