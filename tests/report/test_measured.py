"""What a run has measured, read from its logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gantrain.metrics  # noqa: F401 - registers the metrics
from gantrain.report.measured import Measured, best_of, higher_is_better, measured


def write(name: str, *lines: object) -> None:
    Path(name).write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))


def test_values_are_in_order_with_their_steps_and_protocols() -> None:
    values = ((1, 9.0, "a"), (2, 4.0, "b"), (3, 6.0, "c"))
    lines = ({"step": step, "fid": fid, "accuracy": step / 10, "protocol": how} for step, fid, how in values)
    write("metrics.jsonl", *lines, {"step": 4, "kid": 1.0})
    found = measured(Path(), "fid")
    assert found == [Measured(fid, step, how) for step, fid, how in values]
    assert best_of(found, "fid") == Measured(4.0, 2, "b")
    assert best_of(measured(Path(), "accuracy"), "accuracy") == Measured(0.3, 3, "c")
    assert best_of(found, "g_l1") is None  # It is unknown which end is the better one.
    assert measured(Path(), "is") == []
    assert best_of([], "fid") is None


def test_values_that_models_log_themselves_are_among_the_losses() -> None:
    write("losses.jsonl", {"step": 1, "g_l1": 2.0, "accuracy": 0.5}, {"step": 2, "accuracy": 0.25})
    assert measured(Path(), "accuracy") == [Measured(0.5, 1), Measured(0.25, 2)]
    write("metrics.jsonl", {"step": 3, "accuracy": 0.75})
    assert measured(Path(), "accuracy") == [Measured(0.75, 3)]


def test_damaged_lines_and_missing_files_are_skipped(capsys) -> None:
    assert measured(Path("nowhere"), "fid") == []
    write("metrics.jsonl", {"step": 1, "fid": 2.0}, "[]", '{"step": 2, "fid": "3"}', '{"step": 3, "fid": NaN}', '{"st')
    assert measured(Path(), "fid") == [Measured(2.0, 1)]
    assert "metrics.jsonl is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metric", "better"),
    [("fid", False), ("fid_a_to_b", False), ("fid_class_3", False), ("fid_b_to_a_class_x_y", False)]
    + [("accuracy", True), ("held_out_l1", None), ("fidelity", None)],
)
def test_the_better_end_of_a_metric_is_that_of_its_class(metric: str, better: bool | None) -> None:
    assert higher_is_better(metric) is better
