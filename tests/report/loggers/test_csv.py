"""The CSV logger."""

from __future__ import annotations

import csv
from pathlib import Path

from pages import logged_lines

from gantrain.registry import LOGGERS

OFTEN = ["trainer.log_every=2", "trainer.image_every=4"]


def table(name: str) -> list[dict[str, float]]:
    with Path(f"checkpoints/{name}/losses.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value != ""} for row in csv.DictReader(file)]


def test_csv_has_the_log_of_a_resumed_run(train) -> None:
    train("run", "logger=csv", "trainer.steps=4", *OFTEN)
    assert table("run") == logged_lines("run")
    train("run", "logger=csv", "trainer.steps=8", *OFTEN)
    assert [row["step"] for row in table("run")] == [2, 4, 6, 8]
    train("late", "trainer.steps=4", *OFTEN)
    train("late", "logger=csv", "trainer.steps=6", *OFTEN)  # Earlier lines are included.
    assert table("late") == logged_lines("late")
    train("late", "logger=none", "trainer.steps=2", "resume=never")
    assert not Path("checkpoints/late/losses.csv").exists()


def test_csv_has_one_row_for_each_step() -> None:
    Path("checkpoints/run").mkdir(parents=True)
    logger = LOGGERS.build({"name": "csv"}, folder=Path("checkpoints/run"))
    logger.begin(0, {}, [])
    assert table("run") == []
    logger.scalars(1, {"a": 1.0})
    logger.scalars(2, {"a": 2.0})
    logger.scalars(2, {"b": 3.0})  # One more column.
    logger.scalars(3, {"a": 4.0})
    logger.scalars(3, {"b": 5.0})
    logger.scalars(4, {"b": 6.0})
    rows = [{"step": 1, "a": 1}, {"step": 2, "a": 2, "b": 3}, {"step": 3, "a": 4, "b": 5}, {"step": 4, "b": 6}]
    assert table("run") == rows
    logger.begin(1, {}, [{"step": 1, "a": 1.0}])
    logger.scalars(2, {"a": 7.0})
    assert table("run") == [rows[0], {"step": 2, "a": 7}]
