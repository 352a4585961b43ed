"""What tests share: a folder of their own, the command in process, and a tiny run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# one thread per worker, and per process that a test starts: two workers with two threads each are slower than with one
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

from gantrain.checkpoint import Checkpoints
from gantrain.cli import main

pytest_plugins = ["browsing"]

TINY = ["data.load_size=16", "data.batch_size=4", "network.width=4", "trainer.accelerator=cpu"]
MODELS = ["gan", "dcgan", "lsgan", "wgan", "wgan_gp", "cgan", "acgan", "sgan", "infogan"]
TRANSLATORS = ["pix2pix", "cyclegan", "discogan", "colorization"]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder of its own, and keeps decoded pictures in another."""
    monkeypatch.setenv("GANTRAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train() -> Callable[..., dict]:
    """``train("name", "model=gan", ...)`` runs the command in process and returns its newest checkpoint."""

    def run(name: str, *overrides: str) -> dict:
        warmup = ["model.warmup_critic_steps=0"] if "model=wgan" in overrides else []
        assert main(["train", *TINY, f"name={name}", *warmup, *overrides]) == 0
        return newest(name)

    return run


def newest(name: str) -> dict:
    """The newest checkpoint of a run."""
    return Checkpoints(Path("checkpoints") / name).load()


def assert_same_bits(one: object, other: object, place: str = "") -> None:
    """Nested states are equal to the last bit."""
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, place
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same_bits(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), place
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same_bits(a, b, f"{place}[{number}]")
    else:
        assert one == other, place
