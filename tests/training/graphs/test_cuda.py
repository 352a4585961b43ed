"""Captures on a GPU: what is replayed is what the steps themselves compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MODELS, TINY, TRANSLATORS
from torch import Tensor

from gantrain.benchmark import Case, context_of, steps_of
from gantrain.benchmarking.clock import Clock
from gantrain.cli.sweep import composed
from gantrain.training.trainer import Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


def trainer(*typed: str, captures: bool = True) -> Trainer:
    """A deterministic run with learning rates on the device; without ``captures``, no step of it is captured."""
    deterministic = ["trainer.accelerator=cuda", "trainer.deterministic=true", "trainer.cuda_graphs=true"]
    config, overrides = composed([], [*TINY, *deterministic, "data.num_workers=0", *typed])
    case = Case("", overrides, config)
    made = steps_of(context_of(case, Path("runs")), Clock(torch.device("cuda"))).trainer
    if not captures:
        made._train_step._obstacle = "for comparison"  # type: ignore[attr-defined]
    return made


def trained(run: Trainer, steps: int = 10) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    losses = []
    for _ in range(steps):
        losses.append({name: float(value) for name, value in run.take_step().items()})
        run.step += 1
        assert run.update.monitor.poll(sync=True).diverged is None
    values = {**run.model.state_dict(), **(run.update.ema.state_dict() if run.update.ema is not None else {})}
    return losses, {key: value.clone() for key, value in values.items() if isinstance(value, Tensor)}


def captured(run: Trainer) -> int:
    kinds: Any = run._train_step._kinds  # type: ignore[attr-defined]
    return sum(kind.captured is not None for kind in kinds.values())


def compared(*typed: str) -> int:
    """How many kinds of steps were captured, of a run that equals one whose steps are not."""
    losses, weights = trained(graphed := trainer(*typed))
    expected, others = trained(trainer(*typed, captures=False))
    assert losses == expected
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    return captured(graphed)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("model", [*MODELS, *TRANSLATORS])
def test_replayed_steps_are_bit_identical(model: str, precision: str) -> None:
    residual = model in ("sngan", "sagan")
    size = [f"data.{key}=64" for key in ("load_size", "crop_size")] * (model in TRANSLATORS)
    others = ["data.load_size=32"] if residual else ["network.dropout=0.2", *size]
    waits = (model, precision) == ("wgan", "float16")  # RMSprop's scaler reads from the GPU.
    assert compared(f"model={model}", f"trainer.precision={precision}", *others) == (0 if waits else 1)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ("model.ema=0.9", 1),
        ("model.augment=ada model.augment_every=2", 2),
        ("model.augment=[color,translation,cutout]", 1),
        ("model.loss=relativistic model.r1=1 model.r2=1 model.r1_every=2", 2),
    ],
)
def test_replayed_options_are_bit_identical(options: str, kinds: int) -> None:
    assert compared("model=dcgan", *options.split()) == kinds


@pytest.mark.parametrize("waits", [True, False])
def test_a_failed_capture_leaves_a_sound_run(waits: bool, capsys: pytest.CaptureFixture[str]) -> None:
    runs = []
    for captures in (True, False):
        run = trainer("model=gan", "network.dropout=0.2", captures=captures)
        step = run.model.train_step

        def reading(*arguments: Any, step: Any = step) -> dict[str, Tensor]:
            losses: dict[str, Tensor] = step(*arguments)
            if waits or torch.cuda.is_current_stream_capturing():
                losses["g"].item()
            return losses

        run.model.__dict__["train_step"] = run._train_step._otherwise = reading  # type: ignore[attr-defined]
        runs.append(trained(run))
        assert captured(run) == 0
    assert runs[0][0] == runs[1][0]
    assert ("waits for the GPU" if waits else "can't be captured") in capsys.readouterr().err
