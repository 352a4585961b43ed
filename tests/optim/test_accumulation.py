"""Gradient accumulation: micro-batches train as the whole batch does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from conftest import TINY, assert_mentions
from tiny import CPU, adam_updates, build, build_translator, image_batches, translation_batches, weights

from gantrain.cli.main import main
from gantrain.data.base import Batch
from gantrain.models.base import AdversarialGAN
from gantrain.optim.accumulation import Accumulation
from gantrain.runtime.seeding import StepRandom

SIZE, STEPS = 6, 3
ADA = {"augment_every": 2, "augment_kimg": 0.1, "augment_target": 0.0}
LATENT: dict[str, dict[str, Any]] = {
    "gan": {"ema": 0.9},
    "lsgan": {"label_smoothing": 0.1, "critic_steps": 2, "augment": "ada", **ADA},
    "wgan_gp": {"gradient_penalty": 10.0, "critic_steps": 2},
    "cgan": {"r1": 1.0, "r2": 1.0, "loss": "relativistic", "augment": ["color", "translation", "cutout"]},
}
TRANSLATORS: dict[str, dict[str, Any]] = {
    "pix2pix": {"lambda_features": 10.0, "augment": "ada", **ADA},
    "cyclegan": {"pool_size": 2, "lambda_identity": 0.5},
    "colorization": {},
    "cut": {"nce_layers": [0, 4, 8, 10]},
}


def trained(
    model: AdversarialGAN, batches: Iterator[Batch], parts: int
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """The weights and the logged losses after a few steps on so many micro-batches a batch; 0 for the plain step."""
    update, logged = adam_updates(model), []
    if model.adaptive is not None:
        model.adaptive.p.fill_(0.5)
    step = Accumulation(model.train_step, update, parts) if parts else model.train_step
    for number in range(STEPS):
        update.begin(number, 0.0)
        logged.append({name: float(value) for name, value in step(batches, update).items()})
    averages = update.averaged()
    with averages:
        return weights(model), logged


@pytest.mark.parametrize("parts", [2, 6])
@pytest.mark.parametrize("name", [*LATENT, *TRANSLATORS])
def test_micro_batches_train_as_whole_batches(name: str, parts: int) -> None:
    def fresh() -> tuple[AdversarialGAN, Iterator[Batch]]:
        if name in LATENT:
            return build(name, **LATENT[name]), image_batches(SIZE, labels=True)
        model = build_translator(name, **TRANSLATORS[name])
        return model, translation_batches(SIZE, spec=model.spec)

    (expected, losses), (found, logged) = trained(*fresh(), 0), trained(*fresh(), parts)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-8)
    for line, other in zip(losses, logged, strict=True):
        assert other == pytest.approx(line, abs=1e-10)


def test_the_parts_of_a_batch_use_the_random_numbers_of_the_whole() -> None:
    whole = StepRandom(3, CPU, rank=1, world_size=2)
    parts = [whole.part(number, 3) for number in range(3)]
    for each in (whole, *parts):
        each.start(5)
    assert torch.equal(torch.cat([part.normal(2, 4) for part in parts]), whole.normal(6, 4))
    assert torch.equal(torch.cat([part.integers(2, 9) for part in parts]), whole.integers(6, 9))


@pytest.mark.parametrize("number", range(3))
def test_an_error_in_a_part_ends_the_step_and_the_next_one_is_sound(number: int) -> None:
    model, update = build("lsgan"), None
    update = adam_updates(model)
    generate, calls = model.generate, itertools.count()

    def failing(*inputs: Any) -> torch.Tensor:
        if next(calls) == 3 + number:
            raise RuntimeError(f"in part {number}")
        return generate(*inputs)

    model.generate = failing
    step = Accumulation(model.train_step, update, 3)
    update.begin(0, 0.0)
    with pytest.raises(RuntimeError, match=f"in part {number}"):
        step(image_batches(SIZE), update)
    before = weights(model)
    update.begin(1, 0.0)
    assert {"d_real", "g"} <= step(image_batches(SIZE), update).keys()
    assert all(not torch.equal(value, before[name]) for name, value in weights(model).items())


def test_a_micro_batch_that_divides_no_batch_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY, "model=gan", "data.batch_size=6", "trainer.micro_batch=4"]) == 2
    assert_mentions(capsys.readouterr().err, "trainer.micro_batch=4", "6 images", "1, 2, 3, 6")
