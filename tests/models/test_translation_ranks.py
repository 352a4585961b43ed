"""Models that translate, on two ranks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import assert_same_bits
from tiny import (
    CPU,
    adam_updates,
    build_translator,
    play,
    unet,
)
from translation_batches import batches_for, noise, part
from two_ranks import as_two_ranks

from gantrain.networks.patch_head import PatchHead
from gantrain.optim import buckets
from gantrain.runtime import distributed
from gantrain.runtime.seeding import StepRandom

ADA = {"augment_every": 1, "augment_kimg": 0.01, "augment_target": 0.0}
GAMES: dict[str, dict[str, Any]] = {
    "pix2pix": {"generator": unet},
    "pix2pix with a penalty": {"generator": unet, "gradient_penalty": 10.0, "augment": ["color", "translation"]},
    "pix2pix relativistic": {"generator": unet, "loss": "relativistic", "r1": 1.0, "r2": 1.0, "r1_every": 2},
    "cyclegan": {},
    "cyclegan relativistic": {"loss": "relativistic", "r2": 1.0},
    "pix2pix with features": {"generator": unet, "lambda_features": 10.0, "augment": "ada", **ADA},
    "cyclegan with features": {"lambda_features": 10.0, "augment": "ada", **ADA},
    "cut": {"nce_layers": [0, 4, 8, 10]},
    "cyclegan with a penalty": {"loss": "wasserstein", "gradient_penalty": 10.0},
}


def three_steps(game: str, *, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
    """The networks after three steps on a global batch of two, and what this rank logs."""
    name = game.split()[0]
    model = build_translator(name, **GAMES[game])
    if model.adaptive is not None:
        model.adaptive.p.fill_(0.5)
    update = adam_updates(model)
    update.draws = StepRandom(7, CPU, rank=rank, world_size=world_size)
    share = range(rank, 2, world_size)
    logged = play(model, (part(batch, share) for batch in batches_for(name)), update, steps=3)
    # Without biases, which have no effect before an instance norm: Adam amplifies their rounding errors.
    weights = {key: value for key, value in model.state_dict().items() if key.endswith("weight")}
    networks = [*model.generators(), *model.discriminators()]
    images = [n for n in networks if not isinstance(n, PatchHead)]
    outputs = [n(noise(1, next(n.parameters()).size(1), 32, 32)).detach() for n in images]
    return {"weights": weights, "outputs": outputs, "logged": logged}


def work() -> None:
    """What each of the processes does."""
    distributed.join(CPU)
    buckets.BUCKET_BYTES = 2000  # Several messages for each of these small networks.
    rank = distributed.rank()
    torch.save({game: three_steps(game, rank=rank, world_size=2) for game in GAMES}, f"rank_{rank}.pt")


@pytest.mark.usefixtures("warm_python")
def test_two_ranks_make_the_same_updates_as_one_rank() -> None:
    ranks = as_two_ranks(__file__)
    for game in GAMES:
        one, two, other = three_steps(game), ranks[0][game], ranks[1][game]
        for key in ("weights", "outputs"):
            assert_same_bits(two[key], other[key])
            torch.testing.assert_close(two[key], one[key], atol=1e-9, rtol=0)
        for whole, *halves in zip(one["logged"], two["logged"], other["logged"], strict=True):
            assert halves[0] != halves[1]  # Each rank has its own image.
            for key, value in whole.items():
                assert (halves[0][key] + halves[1][key]) / 2 == pytest.approx(value, abs=1e-9)
