"""The number of threads that torch computes with: measured at the start of a run, and recorded with it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from conftest import TINY

from gantrain.cli.main import main
from gantrain.runtime import parallel
from gantrain.training import automatic


@pytest.mark.parametrize(
    ("most", "speed", "expected"),
    [
        (2, {1: 1.0, 2: 1.9}, 2),
        (2, {1: 1.0, 2: 1.1}, 1),  # The other core is busy.
        (2, {1: 1.0, 2: 0.2}, 1),
        (6, {1: 1.0, 2: 1.9, 4: 3.0, 6: 3.1}, 4),
        (8, {1: 1.0, 2: 0.9, 4: 3.5, 8: 7.0}, 8),  # A disturbance in between.
        (1, {1: 1.0}, 1),
    ],
)
def test_as_many_threads_are_used_as_are_efficient(most: int, speed: dict, expected: int, monkeypatch) -> None:
    """A clock whose ticks depend on the number of threads."""
    now, threads, before = [0.0], [1], torch.get_num_threads()
    pauses = itertools.cycle([0.0, 1.0])  # Of the calls before and after the computation.

    def clock() -> float:
        now[0] += next(pauses) / speed[threads[0]]
        return now[0]

    def use(count: int) -> None:
        threads[0] = count

    monkeypatch.setattr(parallel.time, "perf_counter", clock)
    monkeypatch.setattr(torch, "set_num_threads", use)
    assert parallel.faster_threads(most) == expected
    assert threads == [before]


def threads_of(*overrides: str) -> int:
    """The number of threads that the newest checkpoint of a run records."""
    assert main(["train", *TINY, "model=gan", "name=run", *overrides]) == 0
    newest = max(Path("checkpoints/run").glob("step_*.pt"), key=lambda path: path.stat().st_mtime_ns)
    return int(torch.load(newest, weights_only=True)["threads"])


def test_a_run_resumes_with_the_threads_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(automatic, "faster_threads", lambda most: most - 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads_of("trainer.steps=1", "name=other", "name=run") == 4  # The user has chosen it.
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads_of("trainer.steps=1", "resume=never") == 3
    monkeypatch.setattr(automatic, "faster_threads", lambda most: most)
    assert threads_of("trainer.steps=2") == 3
    assert threads_of("trainer.steps=3", "trainer.threads=2") == 2
    assert threads_of("trainer.steps=4") == 2
    assert used == [4, 3, 3, 2, 2]
