"""Updates whose finite gradients give weights that are not finite, which no check of gradients detects."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, assert_mentions, assert_same_bits, newest, stop_after
from failing_runs import last_line
from torch import Tensor

from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.main import main
from gantrain.optim.updates import Updates

RUN = ["train", *TINY, "name=run", "model=dcgan", "trainer.log_every=2", "trainer.steps=8", "trainer.save_every=2"]


def leap(
    monkeypatch: pytest.MonkeyPatch, step: int, side: str, where: str, value: float = math.inf, times: int = 1 << 30
) -> None:
    """The update of a side in ``step`` (from 1) sets a weight or its state to ``value``, at most ``times`` times."""
    update, left = getattr(Updates, side), [times]

    def too_far(self: Updates, loss: Tensor) -> None:
        update(self, loss)
        if self.step + 1 == step and left[0] > 0:
            left[0] -= 1
            player = self.sides[side == "discriminator"]
            weight = player.parameters[-1]
            values = {"weight": weight.detach(), "statistics": player.statistics[-1], **player.optimizer.state[weight]}
            value_at = values[where]
            value_at.view(-1)[0] = value

    monkeypatch.setattr(Updates, side, too_far)


def is_finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return bool(value.isfinite().all())
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    return all(map(is_finite, values))


def test_a_huge_learning_rate_leaves_no_checkpoint(capsys) -> None:
    assert main([*RUN, "trainer.save_every=1", "optimizer.lr=1e39", "optimizer.discriminator_lr=1e-4"]) == 2
    message = last_line(capsys)
    assert message.startswith("gantrain: diverged at step 1: the weights of the generator ")
    remedies = ["optimizer.lr (now 1e+39)", "model.r1=10", "trainer.on_divergence=rollback"]
    assert_mentions(message, "checkpoints/run/crash/step_1.json", *remedies)
    assert not list(Path("checkpoints/run").glob("*.pt"))


@pytest.mark.parametrize(
    ("side", "where", "value"),
    [
        ("generator", "weight", -math.inf),
        ("generator", "weight", math.nan),
        ("generator", "exp_avg_sq", math.inf),
        ("generator", "statistics", math.inf),  # A batch norm divides by it and continues with zeros.
        ("discriminator", "exp_avg", math.nan),  # Its weights affect the generator's loss in the same step.
    ],
)
def test_nonfinite_weights_and_states_are_never_saved(side: str, where: str, value: float, monkeypatch, capsys) -> None:
    leap(monkeypatch, 4, side, where, value)
    assert main(RUN) == 2
    assert Checkpoints(Path("checkpoints/run")).steps() == [2]
    assert is_finite(newest("run"))
    assert last_line(capsys).startswith(f"gantrain: diverged at step 4: the weights of the {side} are not finite; see ")
    record = json.loads(Path("checkpoints/run/crash/step_4.json").read_text())
    assert record["nonfinite_sides"] == [side]
    assert set(record["losses"]) == {"d_real", "d_fake", "g"}
    assert is_finite(torch.tensor(list(record["losses"].values())))
    lines = Path("checkpoints/run/losses.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2]


def test_nonfinite_weights_are_not_saved_when_the_run_is_stopped(monkeypatch, capsys) -> None:
    leap(monkeypatch, 3, "generator", "weight")
    stop_after(3, monkeypatch)
    assert main(RUN) == 2
    assert Checkpoints(Path("checkpoints/run")).steps() == [2]
    assert last_line(capsys).startswith("gantrain: diverged at step 3: ")


def test_a_run_with_nonfinite_weights_resumes_or_rolls_back(train, monkeypatch, capsys) -> None:
    whole = train("whole", *RUN[len(TINY) + 2 :])
    leap(monkeypatch, 4, "generator", "weight", times=2)
    assert main(RUN) == 2
    assert main([*RUN, "trainer.on_divergence=rollback"]) == 0
    assert re.search(r"\bstep 2\b.*\(rollback 1 of 3\)", capsys.readouterr().err)
    assert newest("run")["rollbacks"] == 1
    assert main([*RUN, "name=again"]) == 0
    assert_same_bits(newest("again")["model"], whole["model"])
