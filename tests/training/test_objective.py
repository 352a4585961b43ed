"""The best checkpoint: which it is, when it is written, and that it does not depend on where a run was stopped."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path

import pytest
import torch
from conftest import TINY, assert_mentions, assert_same_bits, newest

import gantrain
from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.compose import _direction
from gantrain.cli.main import main
from gantrain.runtime.signals import Interruption
from gantrain.training.objective import Objective, ObjectiveSettings

RUN = Path("checkpoints/run")


def objective(metric: str | None = "fid", mode: str = "min") -> Objective:
    return Objective(ObjectiveSettings(metric=metric, mode=mode))


def is_best(of: Objective, *values: float) -> list[bool]:
    """Whether each value, logged and followed by a save, is the best so far."""
    found = []
    for value in values:
        of.record("metrics", {"fid": value, "other": -value})
        found.append(of.is_best())
    return found


def test_the_best_value_is_the_first_of_the_lowest_or_highest() -> None:
    assert is_best(objective(), 3, 3, 2, 5, 1.5, 1.5) == [True, False, True, False, True, False]
    assert is_best(objective(mode="max"), 3, 3, 2, 5, 1.5, 6) == [True, False, False, True, False, True]
    assert is_best(objective(metric="other"), 3, 2, 5) == [True, False, True]
    assert is_best(objective(metric=None), 3, 2) == [False, False]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_value_that_is_not_finite_is_never_the_best(mode: str) -> None:
    of = objective(mode=mode)
    assert is_best(of, math.nan, math.inf, -math.inf) == [False, False, False]
    assert of.best is None
    assert is_best(of, 2) == [True]
    assert is_best(of, math.nan, math.inf, -math.inf) == [False, False, False]
    assert of.best == 2


def test_a_value_is_compared_at_one_save_only() -> None:
    of = objective()
    assert not of.is_best()
    of.record("metrics", {"fid": 4})
    of.record("losses", {"g": 1})
    assert of.is_best()
    assert not of.is_best()
    of.record("metrics", {"fid": 1})
    of.record("metrics", {"fid": 3})  # The last one before a save counts.
    assert of.is_best()
    assert of.best == 3


def test_the_state_is_restored_only_for_the_same_objective() -> None:
    of = objective()
    is_best(of, 3, 2)
    of.record("metrics", {"fid": 1})
    again = objective()
    again.load_state_dict(of.state_dict())
    assert again.state_dict() == of.state_dict()
    assert again.is_best()
    for other in (objective(mode="max"), objective(metric="other")):
        other.load_state_dict(of.state_dict())
        assert other.best is None
        assert is_best(other, 9) == [True]


def test_a_warning_once_that_the_metric_is_never_logged() -> None:
    of = objective()
    assert of.missing_metric_warning() == []
    of.record("losses", {"g": 1, "d": 2})
    assert of.missing_metric_warning() == []  # Metrics may still contain it.
    of.record("metrics", {"accuracy": 1})
    (warning,) = of.missing_metric_warning()
    assert_mentions(warning, "warning: ", "objective.metric=fid", "best.pt", "accuracy, d, g")
    assert of.missing_metric_warning() == []


@pytest.mark.parametrize("metric", ["fid", "g", None])
def test_there_is_no_warning_if_the_metric_is_logged(metric: str | None) -> None:
    of = objective(metric=metric)
    of.record("losses", {"g": 1})
    of.record("metrics", {"fid": 1})
    assert of.missing_metric_warning() == []


# ---- in a run


def logged() -> dict[int, dict[str, float]]:
    return {line["step"]: line for line in map(json.loads, (RUN / "losses.jsonl").read_text().splitlines())}


@pytest.mark.parametrize(("mode", "best"), [("min", min), ("max", max)])
def test_the_best_checkpoint_of_a_run_is_the_one_with_the_best_loss(mode: str, best, train, capsys) -> None:
    every = ["trainer.log_every=1", "trainer.save_every=2", "trainer.keep=1"]
    state = train("run", "trainer.steps=9", *every, "objective.metric=d_fake", f"objective.mode={mode}")
    values = {step: line["d_fake"] for step, line in logged().items() if step % 2 == 0 or step == 9}
    assert len(set(values.values())) == 5
    step = best(values, key=values.get)
    best_state = Checkpoints(RUN).load("best")
    assert best_state["step"] == step
    expected = {"metric": "d_fake", "mode": mode, "value": values[step], "best": values[step], "fresh": False}
    assert best_state["objective"].items() >= expected.items()
    assert state["objective"]["best"] == values[step]
    assert sorted(path.name for path in RUN.glob("*.pt")) == ["best.pt", "step_9.pt"]
    assert "warning" not in capsys.readouterr().err
    model = gantrain.load(RUN, step="best", network_weights="last")
    assert torch.equal(model.generator.layers[0].weight, best_state["model"]["generator.layers.0.weight"])
    assert main(["test", f"run={RUN}", "step=best", "num=2"]) == 0
    assert (RUN / f"results/test_{step}/index.html").exists()


def test_a_missing_best_checkpoint_is_reported_with_those_that_exist(train, capsys) -> None:
    train("run", "trainer.steps=1")
    capsys.readouterr()
    assert main(["test", f"run={RUN}", "step=best"]) == 2
    assert_mentions(capsys.readouterr().err, "gantrain: ", "no best.pt in checkpoints/run", "step_1")
    assert main(["test", f"run={RUN}", "step=bets"]) == 2
    assert "step" in capsys.readouterr().err


def test_a_metric_on_held_out_data_is_tracked(train) -> None:
    every = ["trainer.image_every=1", "trainer.save_every=1", "trainer.log_every=5", "trainer.keep=1"]
    train("run", "model=sgan", "trainer.steps=3", *every, "objective.metric=held_out_accuracy", "objective.mode=max")
    values = [
        line["held_out_accuracy"]
        for line in map(json.loads, (RUN / "losses.jsonl").open())
        if "held_out_accuracy" in line
    ]
    assert len(values) == 3
    best = Checkpoints(RUN).load("best")
    assert best["step"] == 1 + values.index(max(values))
    assert best["objective"]["best"] == max(values)


@pytest.mark.parametrize("metric", ["g", "held_out_accuracy"])
def test_a_checkpoint_is_compared_by_its_own_value(metric: str, train) -> None:
    every = ["trainer.image_every=4", "trainer.save_every=2", "trainer.log_every=3", "trainer.keep=0"]
    train("run", "model=sgan", "trainer.steps=6", *every, f"objective.metric={metric}", "objective.mode=max")
    values = {line["step"]: line[metric] for line in map(json.loads, (RUN / "losses.jsonl").open()) if metric in line}
    assert {2, 4, 6} <= values.keys()
    assert Checkpoints(RUN).load("best")["objective"]["best"] == max(values[step] for step in (2, 4, 6))
    for step in (2, 4, 6):
        assert Checkpoints(RUN).load(step)["objective"]["value"] == values[step]


def test_a_run_warns_once_that_its_objective_is_never_logged(capsys) -> None:
    every = ["trainer.log_every=2", "trainer.image_every=3", "trainer.save_every=1", "trainer.keep=0"]
    Path("conf/experiment").mkdir(parents=True)  # Its metrics are left out.
    Path("conf/experiment/own.yaml").write_text("# @package _global_\nobjective:\n  metric: fid\n")
    settings = ["--config-dir", "conf", *TINY, *every, "trainer.steps=6", "name=run", "experiment=own"]
    assert main(["train", *settings]) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert_mentions(warning, "objective.metric=fid", "best.pt", "d_fake, d_real, g, lr_discriminator, lr_generator")
    assert not (RUN / "best.pt").exists()


@pytest.mark.parametrize(("stop", "mode"), [(1, "max"), (4, "min")])  # g falls
def test_the_best_checkpoint_does_not_depend_on_interruptions(stop: int, mode: str, train, monkeypatch) -> None:
    settings = ["trainer.steps=6", "trainer.log_every=1", "trainer.save_every=3"]
    settings += ["objective.metric=g", f"objective.mode={mode}"]
    train("whole", *settings)
    steps_left = iter([False] * (stop - 1) + [True])

    def asked(self: Interruption) -> bool:
        self.signal = signal.SIGINT if next(steps_left) else 0
        return self.signal > 0

    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "is_asked_for", asked)
        assert main(["train", *TINY, *settings, "name=run"]) == 130
    train("run", *settings)
    for step in ("best", None):
        whole, cut = (Checkpoints(Path("checkpoints") / name).load(step) for name in ("whole", "run"))
        assert cut["step"] == whole["step"]
        assert_same_bits(cut["objective"], whole["objective"])
        assert_same_bits(cut["model"], whole["model"])


def test_restarting_resets_the_best_value(train) -> None:
    settings = ["trainer.steps=2", "trainer.log_every=1", "objective.metric=g"]
    train("run", *settings)
    assert (RUN / "best.pt").exists()
    train("run", "trainer.steps=1", "resume=never")
    assert not (RUN / "best.pt").exists()
    assert newest("run")["objective"]["best"] is None


@pytest.mark.parametrize(
    ("metric", "mode", "expected"),
    [("fid", None, "minimize"), ("psnr", None, "maximize"), ("accuracy_class_3", None, "maximize")]
    + [("is_std", None, "minimize"), ("g", None, "minimize"), ("psnr", "min", "minimize")],
)
def test_optuna_searches_in_the_direction_of_the_metric(metric: str, mode: str | None, expected: str) -> None:
    assert _direction(metric, mode) == expected
