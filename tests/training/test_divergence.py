"""Runs whose losses or gradients are not finite: what they report, store, and how they resume."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_same_bits, newest
from failing_runs import RUN, Poisoned, assert_crashed, last_line
from torch import Tensor

from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.main import main
from gantrain.optim.updates import Updates

Poison = Callable[..., None]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Poison:
    """``poison(*steps)`` makes the generators' loss nan in those steps (from 1), always or ``times`` times in all."""

    def make(*steps: int, side: str = "generator", times: int = 1 << 30) -> None:
        left = [times]
        update = getattr(Updates, side)

        def bad(self: Updates, loss: Tensor) -> None:
            if self.step + 1 in steps and left[0] > 0:
                left[0] -= 1
                loss = loss * math.nan
            update(self, loss)

        monkeypatch.setattr(Updates, side, bad)

    return make


@pytest.mark.parametrize("side", ["generator", "discriminator"])
@pytest.mark.parametrize(("step", "saved"), [(5, 4), (4, 2), (1, 0)])
def test_diverged_weights_are_never_saved(side: str, step: int, saved: int, poison: Poison, capsys) -> None:
    poison(step, side=side)
    assert main([*RUN, "trainer.steps=8", "trainer.save_every=2"]) == 2
    assert max(Checkpoints(Path("checkpoints/run")).steps(), default=0) == saved
    for path in Path("checkpoints/run").glob("*.pt"):
        state = torch.load(path, weights_only=True)
        assert all(v.isfinite().all() for v in state["model"].values() if isinstance(v, Tensor))
    line = last_line(capsys)
    assert line.startswith(f"gantrain: diverged at step {step}: ")
    assert f"the gradient of the {side} is nan" in line
    assert f"see checkpoints/run/crash/step_{step}.json. Try " in line
    record = json.loads(Path(f"checkpoints/run/crash/step_{step}.json").read_text())
    assert record["step"] == step
    assert set(record["losses"]) == {"d_real", "d_fake", "g"}
    assert {"step": step, "side": side} in [{"step": n["step"], "side": n["side"]} for n in record["gradient_norms"]]
    assert_crashed("diverged at step")


def test_a_diverged_run_resumes_from_an_earlier_checkpoint(poison: Poison, train) -> None:
    whole = train("whole", "trainer.steps=8", "trainer.save_every=2", "trainer.log_every=2")
    poison(5, times=1)
    command = [*RUN, "trainer.steps=8", "trainer.save_every=2"]
    assert main(command) == 2
    assert main(command) == 0
    assert_same_bits(newest("run")["model"], whole["model"])
    assert Path("checkpoints/run/losses.jsonl").read_bytes() == Path("checkpoints/whole/losses.jsonl").read_bytes()


def test_a_loss_that_is_not_finite_is_reported_with_the_images_of_the_step(capsys) -> None:
    Path("images").mkdir()
    for number in range(6):
        values = np.full((16, 16), number / 6, dtype=np.float32)
        np.save(f"images/{number}.npy", values)
    single = ["data=single", "data.root=images", "data.range=[0,1]", "data.depth=float32", "data.cache=off"]
    command = [*RUN, *single, "model=gan", "trainer.steps=4"]
    poisoned = Poisoned(3)
    with poisoned:
        assert main(command) == 2
    assert ": d_real is nan, " in last_line(capsys)
    record = json.loads(Path("checkpoints/run/crash/step_3.json").read_text())
    assert math.isnan(record["losses"]["d_real"])
    assert record["images"] == poisoned.names
    assert len(poisoned.names) == 4


def test_a_scaler_may_skip_steps(train, monkeypatch) -> None:
    scale = torch.amp.GradScaler.scale
    monkeypatch.setattr(torch.amp.GradScaler, "scale", lambda self, loss: scale(self, loss) * 1e38 * 1e38)
    state = train("run", "trainer.precision=float16", "trainer.steps=3")
    assert state["step"] == 3
    assert state["updates"]["players"][0]["scaler"]["scale"] < 65536.0
