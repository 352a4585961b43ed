"""Runs that return to an earlier checkpoint after a divergence."""

from __future__ import annotations

import json
import math
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_same_bits, newest
from failing_runs import RUN, KilledError, Poisoned
from torch import Tensor

from gantrain.cli.main import main
from gantrain.data.base import Batch
from gantrain.data.stream import BatchStream
from gantrain.optim.updates import Updates

ROLLBACK = [*RUN, "trainer.steps=9", "trainer.save_every=2", "trainer.on_divergence=rollback", "data.num_workers=1"]


def test_a_run_that_rolls_back_finishes_with_consistent_logs(capsys) -> None:
    with Poisoned(5):
        assert main(ROLLBACK) == 0
    errors = capsys.readouterr().err
    assert re.search(r"\bstep 4\b.*\(rollback 1 of 3\)", errors)
    state = newest("run")
    assert (state["step"], state["rollbacks"]) == (9, 1)
    assert all(value.isfinite().all() for value in state["model"].values() if isinstance(value, Tensor))
    lines = [json.loads(line) for line in Path("checkpoints/run/losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 9]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert Path("checkpoints/run/crash/step_5.json").exists()
    assert "crashed" not in Path("checkpoints/run/index.html").read_text()


def test_a_run_that_diverges_again_at_once_rolls_back_further(capsys) -> None:
    with Poisoned(5, until=3):
        assert main([*ROLLBACK, "trainer.steps=7", "trainer.save_every=1", "trainer.keep=0"]) == 0
    lines = re.findall(r"^.*\(rollback \d of 3\)$", capsys.readouterr().err, re.MULTILINE)
    found = [re.search(r"back to step (\d)\b.*\(rollback (\d) of", line, re.IGNORECASE) for line in lines]
    assert [match and match.groups() for match in found] == [("4", "1"), ("3", "2"), ("2", "3")]
    assert newest("run")["rollbacks"] == 3


# Killed before it diverges, and after it has rolled back, before and after the next save.
@pytest.mark.parametrize(("steps", "until"), [((4, 6, 8), 1), ((6,), 2)])
def test_a_killed_run_that_rolls_back_is_bit_identical(steps: tuple[int, ...], until: int, monkeypatch) -> None:
    begin, kills = Updates.begin, [0]

    def killed(self: Updates, number: int, progress: float) -> None:
        begin(self, number, progress)
        if kills == [number + 1]:
            kills.clear()
            raise KilledError

    monkeypatch.setattr(Updates, "begin", killed)
    with Poisoned(5, until=until):
        assert main([*ROLLBACK, "name=whole"]) == 0
        for step in steps:
            kills[:] = [step]
            with pytest.raises(KilledError):
                main([*ROLLBACK, "resume=never"])
            assert main(ROLLBACK) == 0
            again, whole = newest("run"), newest("whole")
            for key in ("step", "position", "rollbacks", "model", "updates", "ranks"):
                assert_same_bits(again[key], whole[key], f"{key}, killed in step {step}")
            logs = [Path(f"checkpoints/{name}/losses.jsonl").read_bytes() for name in ("run", "whole")]
            assert logs[0] == logs[1], step


def test_after_a_rollback_the_images_are_in_another_order() -> None:
    seen: list[dict[int, list[str]]] = []
    for until in (0, 1):
        orders: dict[int, Any] = {}
        with Poisoned(5, until=until), pytest.MonkeyPatch.context() as patch:
            draw = BatchStream.__next__

            def spied(stream: BatchStream, draw: Any = draw, orders: dict[int, Any] = orders) -> Batch:
                batch = draw(stream)
                orders[stream.position] = batch["image"].clone()
                return batch

            patch.setattr(BatchStream, "__next__", spied)
            assert main([*ROLLBACK, f"name=run_{until}"]) == 0
        seen.append(orders)
    for position in range(1, 10):
        assert torch.equal(seen[0][position], seen[1][position]) == (position < 5), position


def test_rollbacks_are_limited(capsys) -> None:
    with Poisoned(5, until=9):
        assert main([*ROLLBACK, "trainer.rollbacks=2"]) == 2
        errors = capsys.readouterr().err
        assert "(rollback 1 of 2)" in errors
        assert "(rollback 2 of 2)" in errors
        last = errors.strip().splitlines()[-1]
        assert last.startswith("gantrain: diverged at step 5: ")
        assert "rollback" not in last
    with Poisoned(1, until=9):
        assert main([*ROLLBACK, "name=early"]) == 2  # There is no checkpoint to return to.


@pytest.mark.parametrize("stops", [(4,), (4, 6), (6,)])
def test_a_stopped_run_that_rolls_back_is_bit_identical(stops: tuple[int, ...], monkeypatch) -> None:
    keys = [*ROLLBACK, "trainer.save_every=3", "trainer.keep=1"]
    begin, pending = Updates.begin, list[int]()

    def stopped(self: Updates, number: int, progress: float) -> None:
        begin(self, number, progress)
        if pending and number + 1 == pending[0]:
            pending.pop(0)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Updates, "begin", stopped)
    with Poisoned(5, until=1):
        assert main([*keys, "name=whole"]) == 0
        pending[:] = stops
        statuses = [main(keys)]
        while statuses[-1] == 130:
            statuses.append(main(keys))
    assert statuses[-1] == 0
    again, whole = newest("run"), newest("whole")
    for key in ("step", "position", "rollbacks", "irregular", "tried", "model", "updates", "ranks"):
        assert_same_bits(again[key], whole[key], key)
    assert {path.name for path in Path("checkpoints/run").glob("*.pt")} == {"step_9.pt"}
