"""Updates: which weights they change, the randomness of a step, and restored states."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tiny import CPU, sgd, updates_of, weights
from torch import Tensor, nn

from gantrain.optim.ema import EMA
from gantrain.optim.monitor import RunMonitor
from gantrain.optim.updates import SideOptimizer

MONITOR = RunMonitor()


def two_sides() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(2, 2).double(), nn.Linear(2, 1).double()


def gradients(network: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


def test_an_update_changes_only_its_own_side() -> None:
    generator, discriminator = two_sides()
    update = updates_of(sgd([generator], lr=0.5), sgd([discriminator], lr=0.25))
    noise = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    for side, other, act, lr in (
        (generator, discriminator, update.generator, 0.5),
        (discriminator, generator, update.discriminator, 0.25),
    ):
        before, others = weights(side), weights(other)
        loss = discriminator(generator(noise)).square().sum()
        slopes = torch.autograd.grad(loss, list(side.parameters()), retain_graph=True)
        act(loss)
        for (name, value), gradient in zip(before.items(), slopes, strict=True):
            torch.testing.assert_close(weights(side)[name], value - lr * gradient)
        assert all(torch.equal(weights(other)[name], value) for name, value in others.items())


def test_an_update_does_not_change_the_other_sides_gradients() -> None:
    generator, discriminator = two_sides()
    update = updates_of(sgd([generator]), sgd([discriminator]))
    noise = torch.ones(1, 2, dtype=torch.float64)
    update.generator(discriminator(generator(noise)).sum())
    assert gradients(discriminator) == [None, None]
    update.discriminator(discriminator(generator(noise)).sum())
    kept_discriminator, kept_generator = gradients(discriminator), gradients(generator)
    update.generator(discriminator(generator(3 * noise)).sum())
    torch.testing.assert_close(gradients(discriminator), kept_discriminator, atol=0, rtol=0)
    assert not torch.equal(gradients(generator)[0], kept_generator[0])


def test_gradients_do_not_accumulate_over_updates() -> None:
    weight = nn.Parameter(torch.zeros(1))
    side = SideOptimizer(torch.optim.SGD([weight], lr=1.0), CPU, scaled=False)
    for expected in (-1.0, -2.0, -3.0):
        side.update(weight.sum(), MONITOR, "generator")
        torch.testing.assert_close(weight.detach(), torch.tensor([expected]))


def test_a_weight_without_a_gradient_does_not_change() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    adam = SideOptimizer(torch.optim.Adam([used, unused]), CPU, scaled=False)
    adam.update(used.sum(), MONITOR, "generator")
    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))


# ---- the beginning of a step


def test_a_step_begins_with_random_numbers_of_its_own() -> None:
    sides = two_sides()
    update = updates_of(sgd(sides[:1]), sgd(sides[1:]), seed=3)

    def numbers(step: int) -> tuple[Tensor, Tensor]:
        update.begin(step, 0.0)
        return update.draws.normal(3), torch.rand(3)

    first, second, again = numbers(0), numbers(1), numbers(0)
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    assert update.step == 0


def test_ranks_share_their_draws_but_not_torchs_random_state() -> None:
    sides = two_sides()
    seen = []
    for rank in (0, 1):
        update = updates_of(sgd(sides[:1]), sgd(sides[1:]))
        update.draws.rank = rank
        update.begin(4, 0.0)
        seen.append(torch.rand(3))
    assert not torch.equal(seen[0], seen[1])


# ---- moving averages and state


def test_only_generator_updates_move_the_averages() -> None:
    generator, discriminator = two_sides()
    averages = EMA([generator], 0.5)
    update = updates_of(sgd([generator], lr=1.0), sgd([discriminator]), ema=averages)
    first = generator.bias.detach().clone()
    update.discriminator(discriminator(generator(torch.ones(1, 2).double()).detach()).sum())
    torch.testing.assert_close(averages.state_dict()["0.bias"], first, atol=0, rtol=0)
    update.generator(generator.bias.sum())  # of gradient 1
    with update.averaged():
        torch.testing.assert_close(generator.bias.detach(), first - 0.5)
    torch.testing.assert_close(generator.bias.detach(), first - 1)


def test_without_averages_the_networks_own_weights_are_used() -> None:
    generator, discriminator = two_sides()
    update = updates_of(sgd([generator]), sgd([discriminator]))
    before = weights(generator)
    with update.averaged():
        torch.testing.assert_close(weights(generator), before, atol=0, rtol=0)


@pytest.mark.parametrize("ema", [False, True])
def test_restored_updates_continue_identically(ema: bool) -> None:
    def made(generator: nn.Module, discriminator: nn.Module) -> Any:
        sides = [torch.optim.Adam(network.parameters(), lr=0.1) for network in (generator, discriminator)]
        return updates_of(sides[0], sides[1], ema=EMA([generator], 0.9) if ema else None)

    def play(update: Any, generator: nn.Module, discriminator: nn.Module, steps: range) -> None:
        for step in steps:
            update.begin(step, step / 8)
            update.discriminator(discriminator(update.draws.normal(4, 2).double()).square().sum())
            update.generator(discriminator(generator(update.draws.normal(4, 2).double())).sum())

    sides = two_sides()
    whole = made(*sides)
    play(whole, *sides, range(3))
    twins = copy.deepcopy(sides)
    resumed = made(*twins)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    play(whole, *sides, range(3, 6))
    play(resumed, *twins, range(3, 6))
    for own, twin in zip(sides, twins, strict=True):
        torch.testing.assert_close(weights(twin), weights(own), atol=0, rtol=0)
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), atol=0, rtol=0)
