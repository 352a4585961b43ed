"""``trainer.precision=auto``: the faster precision is measured, printed and recorded, and a resumed run takes it."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import assert_mentions, assert_same_bits
from measured_steps import tiny_steps
from torch import nn

from gantrain.training import automatic

AUTO = ["trainer.precision=auto", "model.ema=0.9"]


def pretend(ratio: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bfloat16 be measured as so many times as fast as float32."""
    monkeypatch.setattr(automatic, "speed_of_bfloat16", lambda parts: ratio)


@pytest.mark.parametrize(("ratio", "chosen"), [(1.5, "bfloat16"), (1.05, "float32"), (0.2, "float32")])
def test_the_faster_precision_is_used_recorded_and_printed(ratio, chosen: str, train, monkeypatch, capsys) -> None:
    pretend(ratio, monkeypatch)
    state = train("auto", *AUTO, "trainer.steps=2")
    assert state["precision"] == chosen
    assert_mentions(capsys.readouterr().err, f"Precision: {chosen}", "trainer.precision=auto", f"{ratio:.2f}")
    explicit = train("explicit", "model.ema=0.9", "trainer.steps=2", f"trainer.precision={chosen}")
    assert "precision" not in explicit
    assert_same_bits(state["model"], explicit["model"])


def test_a_resumed_run_takes_the_recorded_precision(train, monkeypatch, capsys) -> None:
    pretend(1.5, monkeypatch)
    whole = train("whole", *AUTO, "trainer.steps=4", "schedule=constant")
    train("parts", *AUTO, "trainer.steps=2", "schedule=constant")
    pretend(0.2, monkeypatch)
    parts = train("parts", *AUTO, "trainer.steps=4", "schedule=constant")
    assert parts["precision"] == "bfloat16"
    assert_same_bits(whole["model"], parts["model"])
    assert_same_bits(whole["updates"], parts["updates"])
    again = train("parts", "trainer.precision=auto", "model.ema=0.9", "trainer.steps=2", "resume=never")
    assert again["precision"] == "float32"


@pytest.mark.parametrize("typed", [["model=wgan"], ["model=cyclegan", "data.load_size=32"]])
def test_steps_of_another_model_are_measured_by_turns(typed: list[str], monkeypatch) -> None:
    trainer = tiny_steps(*typed, "trainer.precision=auto", "data.batch_size=2").trainer
    now, forward = 0.0, nn.Conv2d._conv_forward

    def costing(layer: nn.Conv2d, *arguments: torch.Tensor) -> torch.Tensor:
        nonlocal now
        assert all(layer is not each for each in trainer.model.modules())
        now += 1.0 if torch.is_autocast_enabled("cpu") else 3.0
        return forward(layer, *arguments)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", costing)
    monkeypatch.setattr(automatic.time, "perf_counter", lambda: now)
    before = copy.deepcopy(trainer.state_dict())
    assert automatic.speed_of_bfloat16(trainer.parts) == pytest.approx(3.0)
    assert_same_bits(before, trainer.state_dict())


def test_ranks_measure_as_many_steps_as_the_slowest_of_them(monkeypatch) -> None:
    """With ``network.norm=sync_batch``, ranks exchange statistics in each of these steps."""
    trainer = tiny_steps("model=gan", "trainer.precision=auto", "data.batch_size=2").trainer
    taken = []
    monkeypatch.setattr(automatic, "_time_step", lambda *_: taken.append(1) or 0.1)
    monkeypatch.setattr(automatic.distributed, "all_gather_object", lambda seconds: [seconds, 60.0])
    automatic.speed_of_bfloat16(trainer.parts)
    assert len(taken) == 2
