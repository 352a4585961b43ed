"""The Weights & Biases logger, with a fake of its package."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

OFTEN = ["trainer.log_every=2", "trainer.image_every=4"]


def package(name: str, monkeypatch: pytest.MonkeyPatch, **contents: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


class FakeRun:
    """A fake run of wandb, which ignores steps below the last one."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.points: list[tuple[int, str]] = []
        self.exit_code: int | None = None
        self.sessions = 1

    def log(self, values: dict[str, Any], *, step: int) -> None:
        if not self.points or step >= self.points[-1][0]:
            self.points += [(step, name) for name in values]

    def finish(self, *, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def wandb_runs(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeRun]:
    runs: dict[str, FakeRun] = {}

    def init(**options: Any) -> FakeRun:
        assert options["resume"] == "allow"
        if options["id"] in runs:
            runs[options["id"]].sessions += 1
        return runs.setdefault(options["id"], FakeRun(options))

    package(
        "wandb",
        monkeypatch,
        init=init,
        Image=lambda image, caption: image,
        util=SimpleNamespace(generate_id=lambda: f"id{len(runs)}"),
    )
    return runs


def test_wandb_gets_all_sessions_in_one_run(wandb_runs, train) -> None:
    train("run", "trainer.steps=2", *OFTEN)
    typed = ["logger=wandb", "logger.wandb.project=p", "logger.wandb.mode=offline", *OFTEN]
    train("run", "trainer.steps=4", *typed)
    train("run", "trainer.steps=8", *typed)
    (run,) = wandb_runs.values()
    assert (run.options["name"], run.options["project"], run.options["mode"]) == ("run", "p", "offline")
    assert run.options["config"]["model.name"] == "dcgan"
    assert [step for step, name in run.points if name == "g"] == [2, 4, 6, 8]
    assert len([step for step, name in run.points if name == "samples"]) == 2
    assert (run.sessions, run.exit_code) == (2, 0)
    train("run", "trainer.steps=10", *OFTEN)  # without it
    train("run", "trainer.steps=12", *typed)
    assert [step for step, name in run.points if name == "g"] == [2, 4, 6, 8, 10, 12]
    train("run", "trainer.steps=2", "resume=never", *typed)
    assert len(wandb_runs) == 2


def test_wandb_gets_losses_and_metrics_logged_without_it(wandb_runs, train) -> None:
    often = ["model=sgan", "trainer.log_every=2", "trainer.image_every=2"]
    train("run", "trainer.steps=4", *often)
    train("run", "trainer.steps=6", "logger=wandb", "logger.wandb.mode=offline", *often)
    (run,) = wandb_runs.values()
    for name in ("g", "held_out_accuracy"):
        assert [step for step, known in run.points if known == name] == [2, 4, 6]
