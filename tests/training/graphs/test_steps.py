"""A captured step, repeated operation by operation on its own tensors, trains as the step itself does."""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from recorded_graphs import WAITS, RecordedGraphs
from tiny import build, build_translator, image_batches, translation_batches, updates_of, weights
from torch.utils._pytree import tree_flatten

from gantrain.data.base import Batch
from gantrain.models.base import GAN
from gantrain.optim.ema import EMA
from gantrain.optim.optimizers import SGD, Adam, AdamW, RMSprop
from gantrain.optim.schedules import Linear
from gantrain.optim.updates import Updates
from gantrain.training.graphs.steps import GraphedSteps

STEPS = 9
ADA = {"augment": "ada", "augment_every": 2, "augment_kimg": 0.1, "augment_target": 0.0}
DIFFERENTIABLE = {"augment": ["color", "translation", "cutout"]}
LATENT: dict[str, dict[str, Any]] = {
    "gan": {"ema": 0.9},
    "dcgan": {"pool_size": 9, "ema": 0.9, "ema_rampup": 0.5},
    "lsgan": {"label_smoothing": 0.1, "critic_steps": 2, **ADA},
    "wgan": {"clip": 0.1, "warmup_critic_steps": 3, "warmup_steps": 2, "warmup_every": 5, "loss": "wasserstein"},
    "wgan_gp": {"gradient_penalty": 10.0, "critic_steps": 2, "loss": "wasserstein"},
    "cgan": {"r1": 1.0, "r2": 1.0, "r1_every": 3, "loss": "relativistic", **DIFFERENTIABLE},
    "acgan": {"lambda_class": 1.0, "classify_generated": True, "pool_size": 9},
    "sgan": {"lambda_class": 1.0, "critic_lambda_class": 1.0},
    "infogan": {"categories": 3, "continuous": 2, "lambda_categorical": 1.0, "lambda_continuous": 0.1},
}
TRANSLATORS: dict[str, dict[str, Any]] = {
    "pix2pix": {"lambda_features": 10.0, **ADA},
    "cyclegan": {"pool_size": 5, "lambda_identity": 0.5},
    "colorization": {},
    "cut": {"nce_layers": [0, 4, 8, 10], "flip_equivariance": True, "pool_size": 3, "ema": 0.5},
}


def fresh(name: str) -> tuple[GAN, Iterator[Batch]]:
    if name in LATENT:
        return build(name, **LATENT[name]), image_batches(4, labels=True)
    model = build_translator(name, **TRANSLATORS[name])
    return model, translation_batches(2, spec=model.spec)


def updates(model: GAN, optimizer: str = "adam") -> Updates:
    kinds: dict[str, Any] = {
        "adam": lambda params: Adam(params=params, fused=True, lr=2e-3, betas=(0.5, 0.999), weight_decay=0.0),
        "adamw": lambda params: AdamW(params=params, fused=True, lr=2e-3, betas=(0.5, 0.999), weight_decay=0.1),
        "sgd": lambda params: SGD(params=params, fused=True, lr=1e-2, momentum=0.9, weight_decay=0.0),
        "rmsprop": lambda params: RMSprop(params=params, lr=1e-3, alpha=0.99, momentum=0.0),
    }
    sides = [
        kinds[optimizer]([parameter for network in side for parameter in network.parameters()])
        for side in (model.generators(), model.discriminators())
    ]
    ema = EMA(model.generators(), model.ema, rampup=model.ema_rampup) if model.ema else None
    return updates_of(*sides, schedule=Linear(start=0.4, extend=False), ema=ema)


def trained(model: GAN, batches: Iterator[Batch], update: Updates, step: Any, *, first: int = 0) -> list[Any]:
    """The losses, weights, averages and records of each step."""
    seen = []
    for number in range(first, STEPS):
        update.begin(number, number / STEPS)
        losses = step(batches, update)
        seen.append((dict(losses), weights(model), update.monitor.gradient_norms(), update.monitor.poll(sync=True)))
    with update.averaged():
        return [*seen, weights(model), model.state_dict(), update.state_dict()]


def assert_same(found: Any, expected: Any) -> None:
    (leaves, structure), (others, other) = tree_flatten(found), tree_flatten(expected)
    assert structure == other
    for place, (value, wanted) in enumerate(zip(leaves, others, strict=True)):
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, wanted, rtol=0, atol=0, check_dtype=value.dim() > 0, msg=str(place))
        else:
            assert value == wanted


@pytest.mark.parametrize("name", [*LATENT, *TRANSLATORS])
def test_replayed_steps_train_as_computed_ones(name: str) -> None:
    model, batches = fresh(name)
    expected = trained(model, batches, update := updates(model), model.train_step)
    model, batches = fresh(name)
    update = updates(model)
    graphs = RecordedGraphs(update.draws.generator)
    found = trained(model, batches, update, GraphedSteps(model, update, graphs))
    assert graphs.captures >= 1
    assert graphs.replays >= 2
    assert_same(found, expected)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_other_optimizers_are_replayed(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a GPU, RMSprop computes with tensors of rates; on the CPU it does if it is let.
    module = sys.modules[torch.optim.RMSprop.__module__]
    monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda: ["cpu"])
    monkeypatch.setattr("recorded_graphs.WAITS", WAITS[:2])  # It counts steps with a tensor, on the CPU only.
    runs = []
    for captures in (False, True):
        model, batches = fresh("gan")
        update = updates(model, optimizer)
        for side in update.sides:
            side.optimizer.param_groups[0]["foreach"] = optimizer == "rmsprop"
        graphs = RecordedGraphs(update.draws.generator)
        step = GraphedSteps(model, update, graphs) if captures else model.train_step
        runs.append(trained(model, batches, update, step)[STEPS])
    assert graphs.replays == STEPS - 3
    for name, value in runs[0].items():
        # Divided by minus the rate and then added, RMSprop's change is rounded differently.
        torch.testing.assert_close(runs[1][name], value, rtol=0, atol=1e-12 if optimizer == "rmsprop" else 0)


@pytest.mark.parametrize("graphed", list(itertools.product([False, True], repeat=2)))
def test_a_run_resumes_with_graphs_and_without(graphed: tuple[bool, bool]) -> None:
    def stepping(model: GAN, update: Updates, captures: bool) -> Any:
        return GraphedSteps(model, update, RecordedGraphs(update.draws.generator)) if captures else model.train_step

    model, batches = fresh("dcgan")
    update = updates(model)
    whole = trained(model, batches, update, model.train_step)
    model, batches = fresh("dcgan")
    update = updates(model)
    step = stepping(model, update, graphed[0])
    for number in range(5):
        update.begin(number, number / STEPS)
        step(batches, update)
    saved = copy.deepcopy((model.state_dict(), update.state_dict()))
    # The run that goes on has graphs of tensors that are replaced by the loaded ones.
    for other in ((model, update, step), None):
        if other is None:
            model, _ = fresh("dcgan")
            update = updates(model)
            step = stepping(model, update, graphed[1])
        model.load_state_dict(copy.deepcopy(saved[0]))
        update.load_state_dict(copy.deepcopy(saved[1]))
        _, rest = fresh("dcgan")
        for _ in range(5):
            next(rest)
        resumed = trained(model, rest, update, step, first=5)
        assert_same([each[0] for each in resumed[:4]], [each[0] for each in whole[5:STEPS]])
        assert_same(resumed[4:], whole[STEPS:])


def test_a_kind_of_steps_is_captured_once_and_rare_ones_never() -> None:
    for name, kinds in (("gan", 1), ("cgan", 2), ("wgan", 1)):  # ``cgan`` has a penalty in every third step.
        model, batches = fresh(name)
        update = updates(model)
        graphs = RecordedGraphs(update.draws.generator)
        trained(model, batches, update, GraphedSteps(model, update, graphs))
        assert graphs.captures == kinds
        # The first three are computed as usual, as are those of ``wgan`` with more critic updates: 0, 1 and 5.
        assert graphs.replays == STEPS - 3 - 3 * (name == "wgan")


def test_batches_of_other_shapes_are_computed_as_usual(capsys: pytest.CaptureFixture[str]) -> None:
    def mixed() -> Iterator[Batch]:
        several = zip(image_batches(2, labels=True), image_batches(4, labels=True), strict=True)
        for number, (few, many) in enumerate(several):
            yield few if number in (7, 10) else many

    model, _ = fresh("lsgan")
    expected = trained(model, mixed(), update := updates(model), model.train_step)
    model, _ = fresh("lsgan")
    update = updates(model)
    graphs = RecordedGraphs(update.draws.generator)
    found = trained(model, mixed(), update, GraphedSteps(model, update, graphs))
    assert_same(found, expected)
    assert graphs.replays >= 2
    assert capsys.readouterr().err.count("other shapes") == 1


@pytest.mark.parametrize("fails", ["reads", "waits"])
def test_what_cannot_be_captured_is_computed_as_usual(fails: str, capsys: pytest.CaptureFixture[str]) -> None:
    class Reading(type(build("gan"))):  # type: ignore[misc]
        def generator_loss(self, *arguments: Any) -> Any:
            loss, parts = super().generator_loss(*arguments)
            return (loss * (2 if loss.item() > 0 else 1) if fails == "reads" else loss), parts

        def step_kind(self, step: int) -> int:
            return 0

    runs = []
    for captures in (False, True):
        model, batches = fresh("gan")
        model.__class__ = Reading
        update = updates(model)
        graphs = RecordedGraphs(update.draws.generator)
        graphs.waits += ["mine.py:7"] * (fails == "waits")
        runs.append(
            trained(model, batches, update, GraphedSteps(model, update, graphs) if captures else model.train_step)
        )
        assert graphs.replays == 0
    assert_same(runs[1], runs[0])
    lines = [line for line in capsys.readouterr().err.splitlines() if "trainer.cuda_graphs=true" in line]
    assert len(lines) == 1
    assert ("mine.py:7" if fails == "waits" else "_local_scalar_dense") in lines[0]


def test_averages_of_two_updates_per_step_are_not_captured(capsys: pytest.CaptureFixture[str]) -> None:
    class Twice(type(build("gan"))):  # type: ignore[misc]
        def train_step(self, batches: Iterator[Batch], update: Updates) -> Any:
            super().train_step(batches, update)
            return super().train_step(batches, update)

        def step_kind(self, step: int) -> int:
            return 0

    model, batches = fresh("gan")
    model.__class__ = Twice
    update = updates(model)
    trained(model, batches, update, GraphedSteps(model, update, RecordedGraphs(update.draws.generator)))
    assert "more than once" in capsys.readouterr().err
    assert update.ema is not None
    assert update.ema.updates == 2 * STEPS


def test_only_the_step_whose_loss_is_infinite_has_diverged() -> None:
    class Infinite(type(build("gan"))):  # type: ignore[misc]
        def discriminator_loss(self, real: Batch, *others: Any) -> Any:
            loss, parts = super().discriminator_loss(real, *others)
            return loss + torch.where(real["image"].max() > 5, torch.inf, 0.0), parts  # Its gradient stays finite.

        def step_kind(self, step: int) -> int:
            return 0

    model, batches = fresh("gan")
    model.__class__ = Infinite
    update = updates(model)
    step = GraphedSteps(model, update, RecordedGraphs(update.draws.generator))
    marked = ({**batch, "image": batch["image"] + 9 * (number == 6)} for number, batch in enumerate(batches))
    statuses = [each[3] for each in trained(model, marked, update, step)[:STEPS]]
    assert [status.diverged for status in statuses] == [None] * 6 + [7] + [None] * (STEPS - 7)
