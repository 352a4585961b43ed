"""Gradients that two ranks exchange during the backward pass, against those exchanged after it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import assert_same_bits
from tiny import CPU, adam_updates, build, build_translator, image_batches, sgd, translation_batches, updates_of
from torch import Tensor, nn
from two_ranks import as_two_ranks

from gantrain.optim import buckets
from gantrain.optim.accumulation import Accumulation
from gantrain.optim.updates import SideOptimizer
from gantrain.runtime import distributed

LATENT: dict[str, dict[str, Any]] = {
    "wgan_gp": {"gradient_penalty": 10.0, "critic_steps": 2},
    "cgan": {"r1": 1.0, "r2": 1.0, "loss": "relativistic"},
}
TRANSLATORS: dict[str, dict[str, Any]] = {"cyclegan": {"lambda_identity": 0.5}, "cut": {"nce_layers": [0, 4, 8, 10]}}
GAMES = (*LATENT, *TRANSLATORS, "cyclegan micro-batches", "wgan_gp scaled", "cyclegan sync_batch")


class After:
    """Gradients and message averaged after the backward pass, without buckets."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters

    def begin(self) -> None:
        """Nothing is sent yet."""

    def finish(self, message: Tensor) -> None:
        distributed.average([*(p.grad for p in self.parameters if p.grad is not None), message])


def trained(game: str, *, after: bool) -> dict[str, Any]:
    """The parameters after three steps, and whether gradients were sent before the end of a backward pass."""
    name, _, kind = game.partition(" ")
    norm = {"norm": "sync_batch"} if kind == "sync_batch" else {}
    model = build(name, **LATENT[name]) if name in LATENT else build_translator(name, **TRANSLATORS[name], **norm)
    whole = image_batches(4, labels=True) if name in LATENT else translation_batches(4, spec=model.spec)
    update = adam_updates(model)
    if kind == "scaled":
        update = updates_of(*(side.optimizer for side in update.sides), scaled=True)
    for side in update.sides if after else ():
        side._mean = After(side.parameters)
    step = Accumulation(model.train_step, update, 2) if kind == "micro-batches" else model.train_step
    batches = ({key: value[distributed.rank() :: 2] for key, value in batch.items()} for batch in whole)
    for number in range(3):
        update.begin(number, 0.0)
        step(batches, update)
    return {
        "weights": dict(model.named_parameters()),
        "norms": [each["norm"] for each in update.monitor.gradient_norms()],
    }


def unlike(used: bool) -> list[Tensor | None]:
    """The gradients of three layers; no rank uses the first one, and only rank 0 the second, unless it is ``used``.

    The backward passes of the ranks come to the second and the third one in opposite order.
    """
    torch.manual_seed(0)
    layers = [nn.Linear(3, 3).double() for _ in range(3)]
    side = SideOptimizer(sgd([nn.ModuleList(layers)]), CPU, scaled=False)
    _, a, b = layers
    inputs = torch.ones(1, 3).double()
    outputs = a(b(inputs)) if distributed.rank() == 0 else b(a(inputs)) if used else b(inputs)
    side.accumulate(outputs.square().sum(), first=True, last=True)
    side._mean.finish(torch.zeros(3))
    return [parameter.grad for layer in layers for parameter in layer.parameters()]


def work() -> None:
    """What each of the processes does."""
    distributed.join(CPU)
    result: dict[str, Any] = {"after": {game: trained(game, after=True) for game in GAMES}}
    buckets.BUCKET_BYTES = 300
    early = []
    start = distributed.start_sum

    def seen(tensor: Tensor) -> Any:
        early.append(torch._C._current_graph_task_id() != -1)
        return start(tensor)

    distributed.start_sum = seen
    result["buckets"], result["early"] = {}, {}
    for game in GAMES:
        early.clear()
        result["buckets"][game] = trained(game, after=False)
        result["early"][game] = sum(early) / len(early)
    buckets.BUCKET_BYTES = 90  # One layer.
    result["unlike"] = [unlike(used) for used in (True, False)]
    torch.save(result, f"rank_{distributed.rank()}.pt")


@pytest.mark.usefixtures("warm_python")
def test_gradients_sent_during_the_backward_pass_are_those_sent_after_it() -> None:
    first, second = as_two_ranks(__file__)
    for game in GAMES:
        assert_same_bits(first["buckets"][game], second["buckets"][game])
        torch.testing.assert_close(
            first["buckets"][game],
            first["after"][game],
            atol=1e-12,
            rtol=0,
            msg=lambda text, game=game: f"{game}: {text}",
        )
        assert first["early"][game] > 0.2, game
    assert_same_bits(first["unlike"], second["unlike"])

    torch.manual_seed(0)
    _, a, b = (nn.Linear(3, 3).double() for _ in range(3))
    inputs = torch.ones(1, 3).double()
    for other, gradients in zip((b(a(inputs)), b(inputs)), first["unlike"], strict=True):
        loss = (a(b(inputs)).square().sum() + other.square().sum()) / 2
        expected = torch.autograd.grad(loss, [*a.parameters(), *b.parameters()])
        assert gradients[:2] == [None, None]
        torch.testing.assert_close(gradients[2:], list(expected), atol=1e-12, rtol=0)
