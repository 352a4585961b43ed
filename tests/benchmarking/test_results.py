"""Rows of measurements as CSV, and beside those of another file."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import assert_mentions

from gantrain.benchmarking.results import MEASURED, Row, counterparts, read_csv, table, to_csv
from gantrain.errors import ConfigError

FACTS = {"model": "dcgan", "images": "image 1x32x32", "batch_size": 32, "precision": "float32", "threads": 1}
FACTS |= {"hardware": "cpu: a, b", "gantrain": "1.0", "torch": "2.14", "date": "2026-11-26", "warmup": 3, "steps": 10}


def row(settings: str, **values: float) -> Row:
    return Row(settings=settings, **FACTS, **{name: values.get(name, 0.0) for name in MEASURED})


def test_a_table_shows_ratios_to_the_last_row_with_the_same_settings() -> None:
    Path("old.csv").write_text(to_csv([row("a", step_ms=10.0), row("a", step_ms=200.0, host_reads=1), row("b")]))
    lines = read_csv(Path("old.csv"))
    rows = [row("a", step_ms=250.0, operations=1234.0), row("c", step_ms=0.5)]
    others = counterparts(["a", "c"], lines, Path("old.csv"))
    cells = {heading.strip(): values for heading, *values in table(rows, others)}
    assert cells["ms per step"] == ["250 (1.25 x)", "0.500"]
    assert cells["operations per step"] == ["1,234", "0"]
    assert lines[0]["hardware"] == "cpu: a, b"


def test_files_without_measurements_are_refused(capsys) -> None:
    Path("other.csv").write_text("settings,step\n1,2\n")
    Path("empty.csv").write_text("")
    for name in ("missing.csv", "other.csv", "empty.csv"):
        with pytest.raises(ConfigError) as refused:
            read_csv(Path(name))
        assert_mentions(str(refused.value), f"against={name}", ".csv of another benchmark")


def test_measurements_with_other_settings_are_refused_with_those_there_are() -> None:
    Path("old.csv").write_text(to_csv([row("model=wgan")]))
    with pytest.raises(ConfigError) as refused:
        counterparts(["model=dcgan"], read_csv(Path("old.csv")), Path("old.csv"))
    assert_mentions(str(refused.value), "against=old.csv", "model=dcgan", "model=wgan")
