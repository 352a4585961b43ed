"""``init_from`` with a run: its networks are used, and nothing else of it."""

from __future__ import annotations

import torch
from conftest import TINY, newest, stop_after

from gantrain.cli.main import main


def test_init_from_loads_only_the_networks(train, monkeypatch) -> None:
    first = train("first", "trainer.steps=3")
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        still = ["optimizer.lr=0", "optimizer.discriminator_lr=0"]
        assert main(["train", *TINY, "name=second", "init_from=checkpoints/first", *still, "trainer.steps=3"]) == 130
    second = newest("second")
    weights = {k: v for k, v in second["model"].items() if k.endswith("weight") and "layers" in k}
    assert len(weights) > 5
    for key, weight in weights.items():
        assert torch.equal(weight, first["model"][key]), key  # A learning rate of 0 does not change them.
    assert second["step"] == 1
    assert second["updates"]["players"][0]["optimizer"]["state"][0]["step"] == 1


def test_init_from_also_initialises_the_averages(train) -> None:
    first = train("first", "trainer.steps=2")
    still = ["optimizer.lr=0", "optimizer.discriminator_lr=0", "seed=5", "model.ema=0.9"]
    second = train("second", "init_from=checkpoints/first", *still, "trainer.steps=2")
    for key, value in second["updates"]["averages"].items():
        if key.endswith("layers.0.weight"):
            torch.testing.assert_close(value, first["model"][f"generator.{key[2:]}"])
