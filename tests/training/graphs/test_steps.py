"""A captured step, repeated operation by operation on its own tensors, trains as the step itself does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from recorded_graphs import RecordedGraphs
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
    "sgan": {"lambda_class": 1.0},
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
