"""Batch norm of all ranks, on two ranks, against batch norm on the whole batch."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from conftest import assert_same_bits
from tiny import (
    CPU,
    build_translator,
    dcgan_discriminator,
    dcgan_generator,
    mlp_discriminator,
    mlp_generator,
    play,
    resnet_gan_discriminator,
    resnet_gan_generator,
    sgd,
    translation_batches,
    unet,
    updates_of,
)
from tiny_keys import LATENT_KEYS
from torch import Tensor, nn
from translation_batches import noise, part
from two_ranks import as_two_ranks

from gantrain.data.base import ImageSpec
from gantrain.networks.common import norm_2d
from gantrain.networks.sync_batch import SyncBatchNorm1d, SyncBatchNorm2d
from gantrain.optim import buckets
from gantrain.registry import MODELS
from gantrain.runtime import distributed
from gantrain.runtime.seeding import StepRandom

MLP, DCGAN = (mlp_generator, mlp_discriminator), (dcgan_generator, dcgan_discriminator)
RESNET_GAN = (resnet_gan_generator, resnet_gan_discriminator)
GAMES: dict[str, tuple[Any, dict[str, Any]]] = {
    "gan": (MLP, {}),
    "dcgan": (DCGAN, {}),
    "wgan": (
        DCGAN,
        {
            "loss": "wasserstein",
            "clip": 0.01,
            "critic_steps": 2,
            "warmup_steps": 0,
            "warmup_every": 0,
            "warmup_critic_steps": 2,
        },
    ),
    "lsgan": (DCGAN, {"loss": "least_squares"}),
    "cgan": (RESNET_GAN, {"loss": "hinge"}),
    "pix2pix": (None, {"generator": unet}),
    "cyclegan": (None, {}),
}


def model_of(name: str, norm: str) -> Any:
    networks, keys = GAMES[name]
    if networks is None:
        return build_translator(name, norm=norm, **keys)
    torch.manual_seed(0)
    side = 4 if networks is MLP else 16 if networks is DCGAN else 32
    channels = 1 if networks is MLP else 3
    labels = ("zero", "one", "two") if name == "cgan" else ()
    spec = ImageSpec(side, side, {"image": channels}, {"image": "uint8"}, labels)
    make = [partial(network, norm=norm) for network in networks]
    config = {"name": name, **LATENT_KEYS, **keys}
    return MODELS.build(config, spec=spec, make_generator=make[0], make_discriminator=make[1]).double()


def two_steps(name: str, norm: str, *, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
    """The state and the logged losses after two steps on a global batch of four."""
    model = model_of(name, norm)
    update = updates_of(sgd(model.generators(), 0.01), sgd(model.discriminators(), 0.01))
    update.draws = StepRandom(7, CPU, rank=rank, world_size=world_size)
    share = list(range(rank, 4, world_size))
    labels = {"label": torch.tensor([0, 1, 2, 0])[share]}
    batches = (part(batch, share) | labels for batch in translation_batches(4, spec=model.spec))
    logged = play(model, batches, update, steps=2)
    return {"state": model.state_dict(), "logged": logged}


def layer(norm: nn.Module, features: Tensor) -> list[Tensor]:
    """Outputs, and gradients, of which some are of the second order; statistics."""
    norm.double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
    features = features.clone().requires_grad_()
    output = norm(features)
    (slope,) = torch.autograd.grad(output.pow(3).mean(), features, create_graph=True)
    ((slope * len(features)).square().sum() / len(features)).backward()
    assert features.grad is not None
    gradients = [norm.weight.grad]
    distributed.average(gradients)
    return [output.detach(), features.grad * len(features), *gradients, norm.running_mean, norm.running_var]


SHAPES = {SyncBatchNorm1d: (4, 3), SyncBatchNorm2d: (4, 3, 2, 5)}


def work() -> None:
    """What each of the processes does."""
    distributed.join(CPU)
    buckets.BUCKET_BYTES = 2000  # Several messages for each of these small networks.
    rank = distributed.rank()
    games = {name: two_steps(name, "sync_batch", rank=rank, world_size=2) for name in GAMES}
    layers = [layer(kind(3), noise(*shape)[rank::2]) for kind, shape in SHAPES.items()]
    half = SyncBatchNorm2d(3)(noise(*SHAPES[SyncBatchNorm2d])[rank::2].bfloat16())
    torch.save({"games": games, "layers": layers, "half": half}, f"rank_{rank}.pt")


@pytest.mark.usefixtures("warm_python")
def test_two_ranks_normalise_as_one_process_with_the_whole_batch() -> None:
    ranks = as_two_ranks(__file__)

    for place, (kind, shape) in enumerate(SHAPES.items()):
        one = layer({4: nn.BatchNorm2d, 2: nn.BatchNorm1d}[len(shape)](3), noise(*shape))
        two = [rank["layers"][place] for rank in ranks]
        for number, whole in enumerate(one):
            if len(whole) == len(noise(*shape)):  # Outputs and gradients of images; all others are of both ranks.
                torch.testing.assert_close(torch.stack([t[number] for t in two], 1).flatten(0, 1), whole, msg=str(kind))
            else:
                torch.testing.assert_close(two[0][number], whole)
                torch.testing.assert_close(two[1][number], whole)
    assert ranks[0]["half"].dtype == torch.bfloat16

    for name in GAMES:
        one, first, second = two_steps(name, "batch"), ranks[0]["games"][name], ranks[1]["games"][name]
        assert_same_bits(first["state"], second["state"])
        for key, value in one["state"].items():
            torch.testing.assert_close(
                first["state"][key], value, atol=1e-9, rtol=0, msg=lambda text, key=key: f"{key}: {text}"
            )
        for whole, *halves in zip(one["logged"], first["logged"], second["logged"], strict=True):
            for key, value in whole.items():
                assert (halves[0][key] + halves[1][key]) / 2 == pytest.approx(value, abs=1e-9)


def test_a_single_process_computes_what_batch_norm_does() -> None:
    for name in ("dcgan", "gan"):
        assert_same_bits(two_steps(name, "sync_batch"), two_steps(name, "batch"))


def test_an_average_in_evaluation_needs_no_other_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    (norm,) = norm_2d("sync_batch", 3)
    images = noise(4, 3, 2, 2).float()
    assert torch.equal(norm.eval()(images), nn.BatchNorm2d(3).eval()(images))
