"""Optimizers, averages and updates against their formulas."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import CPU, mlp_generator, sgd, updates_of, weights
from torch import Tensor, nn

from gantrain.errors import ConfigError
from gantrain.networks.common import set_precision
from gantrain.optim.ema import EMA
from gantrain.optim.monitor import RunMonitor
from gantrain.optim.updates import SideOptimizer
from gantrain.registry import OPTIMIZERS

# what each optimizer is told; a weight decay wherever there is one
KEYS: dict[str, dict[str, Any]] = {
    "adam": {"lr": 0.1, "betas": [0.5, 0.99], "weight_decay": 0.05},
    "adamw": {"lr": 0.1, "betas": [0.5, 0.99], "weight_decay": 0.05},
    "rmsprop": {"lr": 0.1, "alpha": 0.9, "momentum": 0.3},
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05},
}
FUSABLE = ["adam", "adamw", "sgd"]

WATCH = RunMonitor(CPU)


def player(name: str, parameters: list[nn.Parameter], *, fused: bool = False, scaled: bool = False) -> SideOptimizer:
    return SideOptimizer(
        OPTIMIZERS.build({"name": name, **KEYS[name]}, params=parameters, fused=fused), CPU, scaled=scaled
    )


def start() -> Tensor:
    return torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)


def slope(weight: Tensor, step: int) -> Tensor:
    """The gradient of ``valley``."""
    return weight**3 + torch.tensor([1.0, 0.0, -step, 0.1], dtype=torch.float64)


def valley(weight: Tensor, step: int) -> Tensor:
    return (weight**4 / 4 + torch.tensor([1.0, 0.0, -step, 0.1], dtype=torch.float64) * weight).sum()


def adam_by_hand(steps: int, *, decoupled: bool) -> Tensor:
    """Algorithm 1 of arXiv:1412.6980; the decay joins the gradient, or stands beside it (arXiv:1711.05101)."""
    lr, (beta1, beta2), decay = KEYS["adam"].values()
    weight, mean, square = start(), torch.zeros(4).double(), torch.zeros(4).double()
    for t in range(1, steps + 1):
        gradient = slope(weight, t - 1) + (0 if decoupled else decay * weight)
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        shrunk = weight * (1 - lr * decay) if decoupled else weight
        weight = shrunk - lr * (mean / (1 - beta1**t)) / ((square / (1 - beta2**t)).sqrt() + 1e-8)
    return weight


def rmsprop_by_hand(steps: int) -> Tensor:
    lr, alpha, momentum = KEYS["rmsprop"].values()
    weight, square, velocity = start(), torch.zeros(4).double(), torch.zeros(4).double()
    for step in range(steps):
        gradient = slope(weight, step)
        square = alpha * square + (1 - alpha) * gradient**2
        velocity = momentum * velocity + gradient / (square.sqrt() + 1e-8)
        weight = weight - lr * velocity
    return weight


def sgd_by_hand(steps: int) -> Tensor:
    lr, momentum, decay = KEYS["sgd"].values()
    weight, velocity = start(), torch.zeros(4).double()
    for step in range(steps):
        velocity = momentum * velocity + slope(weight, step) + decay * weight
        weight = weight - lr * velocity
    return weight


BY_HAND: dict[str, Callable[[int], Tensor]] = {
    "adam": lambda steps: adam_by_hand(steps, decoupled=False),
    "adamw": lambda steps: adam_by_hand(steps, decoupled=True),
    "rmsprop": rmsprop_by_hand,
    "sgd": sgd_by_hand,
}


def descend(side: SideOptimizer, steps: int) -> Tensor:
    (weight,) = side.parameters
    for step in range(steps):
        side.update(valley(weight, step), WATCH, "generator")
    return weight.detach()


@pytest.mark.parametrize("name", BY_HAND)
def test_five_steps_of_each_optimizer_follow_its_formula(name: str) -> None:
    reached = descend(player(name, [nn.Parameter(start())]), 5)
    torch.testing.assert_close(reached, BY_HAND[name](5), atol=1e-10, rtol=1e-10)


def test_every_optimizer_is_checked_above() -> None:
    assert set(OPTIMIZERS) == set(BY_HAND) == set(KEYS)


@pytest.mark.parametrize("name", FUSABLE)
def test_the_fused_kernels_compute_the_same(name: str) -> None:
    plain, fused = (descend(player(name, [nn.Parameter(start())], fused=fused), 5) for fused in (False, True))
    torch.testing.assert_close(fused, plain, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", KEYS)
def test_an_optimizer_taken_up_again_goes_on_alike(name: str) -> None:
    whole = player(name, [nn.Parameter(start())])
    descend(whole, 3)
    resumed = player(name, [nn.Parameter(whole.parameters[0].detach().clone())])
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    assert torch.equal(descend(resumed, 3), descend(whole, 3))


def test_an_optimizer_of_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\.name=adan: no such optimizer; did you mean 'adam'\?$"):
        OPTIMIZERS.build({"name": "adan"}, params=[], fused=False)


# ---- whose gradients


def two_sides() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(2, 2).double(), nn.Linear(2, 1).double()


def gradients(network: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


def test_an_update_moves_its_own_side_by_its_own_gradient_alone() -> None:
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


def test_an_update_leaves_the_other_sides_gradients_as_they_were() -> None:
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


def test_gradients_do_not_pile_up_from_update_to_update() -> None:
    weight = nn.Parameter(torch.zeros(1))
    side = SideOptimizer(torch.optim.SGD([weight], lr=1.0), CPU, scaled=False)
    for expected in (-1.0, -2.0, -3.0):
        side.update(weight.sum(), WATCH, "generator")
        torch.testing.assert_close(weight.detach(), torch.tensor([expected]))


def test_a_weight_that_the_loss_does_not_reach_stays() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    player("adam", [used, unused]).update(used.sum(), WATCH, "generator")
    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))


# ---- a step's beginning


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


def test_ranks_share_their_draws_but_not_torchs_own_numbers() -> None:
    sides = two_sides()
    seen = []
    for rank in (0, 1):
        update = updates_of(sgd(sides[:1]), sgd(sides[1:]))
        update.draws.rank = rank
        update.begin(4, 0.0)
        seen.append(torch.rand(3))
    assert not torch.equal(seen[0], seen[1])


# ---- averages


def followed(norm: str = "batch", decay: float = 0.9) -> tuple[nn.Module, EMA]:
    torch.manual_seed(0)
    network = mlp_generator(norm=norm).double()
    return network, EMA([network], decay)


def wander(network: nn.Module, averages: EMA, steps: int) -> list[dict[str, Tensor]]:
    """Move the weights and buffers about; what the parameters were at the start and after each step."""
    seen = [weights(network)]
    for _ in range(steps):
        network(torch.randn(8, 3, dtype=torch.float64))  # moves the running statistics
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        averages.update()
        seen.append(weights(network))
    return seen


@pytest.mark.parametrize("decay", [0.9, 0.5])
def test_parameters_are_averaged_with_the_decay_and_buffers_copied(decay: float) -> None:
    network, averages = followed(decay=decay)
    seen = wander(network, averages, 3)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    assert any("running_mean" in name for name in buffers)
    with averages.swapped_in():
        for name, value in network.named_parameters():
            # starts as the first weights: d^3 w0 + (1 - d) (d^2 w1 + d w2 + w3)
            w0, w1, w2, w3 = (weights_then[name] for weights_then in seen)
            expected = decay**3 * w0 + (1 - decay) * (decay**2 * w1 + decay * w2 + w3)
            torch.testing.assert_close(value.detach(), expected, atol=1e-12, rtol=1e-12)
        for name, buffer in network.named_buffers():
            assert torch.equal(buffer, buffers[name])


def test_the_networks_hold_their_own_values_again_afterwards_even_after_an_error() -> None:
    network, averages = followed()
    wander(network, averages, 2)
    before = copy.deepcopy(network.state_dict())
    with averages.swapped_in():
        assert not torch.equal(network.state_dict()["layers.0.weight"], before["layers.0.weight"])
    torch.testing.assert_close(network.state_dict(), before, atol=0, rtol=0)
    with pytest.raises(KeyError, match="inside"), averages.swapped_in():
        raise KeyError("inside")
    torch.testing.assert_close(network.state_dict(), before, atol=0, rtol=0)


def test_statistics_gathered_while_averages_are_applied_do_not_reach_the_network() -> None:
    network, averages = followed()
    wander(network, averages, 1)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with averages.swapped_in():
        network(torch.randn(8, 3, dtype=torch.float64))
    torch.testing.assert_close(dict(network.named_buffers()), before, atol=0, rtol=0)


def test_training_goes_on_with_the_networks_own_weights_after_averages_were_shown() -> None:
    network, averages = followed("none")
    wander(network, averages, 2)
    side = SideOptimizer(sgd([network], lr=0.1), CPU, scaled=False)
    kept, before = copy.deepcopy(averages.state_dict()), weights(network)
    with averages.swapped_in():
        pass
    side.update(sum(parameter.sum() for parameter in network.parameters()), WATCH, "generator")  # of gradient 1
    for name, value in network.named_parameters():
        torch.testing.assert_close(value.detach(), before[name] - 0.1)
    torch.testing.assert_close(averages.state_dict(), kept, atol=0, rtol=0)


def test_averages_of_a_spectrally_normalised_network_are_those_of_its_raw_weights() -> None:
    network, averages = followed("spectral", decay=0.75)
    twin = copy.deepcopy(network)
    first, last = wander(network, averages, 1)
    with torch.no_grad():
        for name, value in twin.named_parameters():
            value.copy_(0.75 * first[name] + 0.25 * last[name])
        for name, buffer in twin.named_buffers():  # the singular vectors
            buffer.copy_(dict(network.named_buffers())[name])
    latent = torch.randn(4, 3, dtype=torch.float64)
    network.eval()
    own = network(latent)
    with averages.swapped_in():
        torch.testing.assert_close(network(latent), twin.eval()(latent))
        assert not torch.allclose(network(latent), own)
    torch.testing.assert_close(network(latent), own, atol=0, rtol=0)


def test_averages_taken_up_again_go_on_alike() -> None:
    network, averages = followed()
    wander(network, averages, 2)
    twin = copy.deepcopy(network)
    resumed = EMA([twin], 0.9)
    resumed.load_state_dict(copy.deepcopy(averages.state_dict()))
    for modules, kept in ((network, averages), (twin, resumed)):
        torch.manual_seed(1)
        wander(modules, kept, 2)
    torch.testing.assert_close(resumed.state_dict(), averages.state_dict(), atol=0, rtol=0)


def test_only_a_generator_update_moves_the_averages_and_they_show_where_asked() -> None:
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


def test_without_averages_the_networks_are_shown_as_they_are() -> None:
    generator, discriminator = two_sides()
    update = updates_of(sgd([generator]), sgd([discriminator]))
    before = weights(generator)
    with update.averaged():
        torch.testing.assert_close(weights(generator), before, atol=0, rtol=0)


@pytest.mark.parametrize("ema", [False, True])
def test_updates_taken_up_again_go_on_alike(ema: bool) -> None:
    def made(generator: nn.Module, discriminator: nn.Module) -> Any:
        sides = [player("adam", list(network.parameters())).optimizer for network in (generator, discriminator)]
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


# ---- float16


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_scaled_gradients_make_the_same_steps(name: str, fused: bool) -> None:
    reached = []
    for scaled in (False, True):
        side = player(name, [nn.Parameter(start().float())], fused=fused, scaled=scaled)
        reached.append(descend(side, 5))
    # the scale is a power of two, so scaling loses nothing
    torch.testing.assert_close(reached[1], reached[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", KEYS)
def test_a_step_with_an_infinite_gradient_is_left_out_and_the_scale_halved(name: str) -> None:
    weight = nn.Parameter(start().float())
    side = player(name, [weight], fused=name in FUSABLE, scaled=True)
    scale = side.scaler.get_scale()
    side.update((weight * torch.tensor([1.0, float("inf"), 1.0, 1.0])).sum(), WATCH, "generator")
    assert torch.equal(weight.detach(), start().float())
    assert side.scaler.get_scale() == scale / 2
    side.update(weight.sum(), WATCH, "generator")
    assert not torch.equal(weight.detach(), start().float())
    assert weight.detach().isfinite().all()


def test_without_float16_no_gradient_is_scaled() -> None:
    side = player("sgd", [nn.Parameter(start())])
    side.update(side.parameters[0].sum(), WATCH, "generator")
    torch.testing.assert_close(side.parameters[0].grad, torch.ones(4, dtype=torch.float64))


def test_the_scale_is_kept_with_the_optimizer() -> None:
    side = player("adam", [nn.Parameter(start().float())], scaled=True)
    side.update(side.parameters[0].sum() * float("inf"), WATCH, "generator")
    resumed = player("adam", [nn.Parameter(start().float())], scaled=True)
    resumed.load_state_dict(copy.deepcopy(side.state_dict()))
    assert (
        resumed.scaler.get_scale()
        == side.scaler.get_scale()
        < player("adam", side.parameters, scaled=True).scaler.get_scale()
    )


def test_a_network_in_float16_learns_what_it_learns_in_float32() -> None:
    losses = []
    for half in (False, True):
        torch.manual_seed(0)
        network = mlp_generator()
        set_precision(network, device=CPU, autocast=torch.float16 if half else None, compiled=False)
        side = player("adam", list(network.parameters()), fused=True, scaled=half)
        latent, target = torch.randn(8, 3), torch.rand(8, 1, 4, 4) - 0.5
        for _ in range(10):
            loss = (network(latent) - target).square().mean()
            side.update(loss, WATCH, "generator")
            losses.append(loss.detach())
    full, half_precision = torch.stack(losses).view(2, 10)
    assert full[-1] < 0.6 * full[0]
    torch.testing.assert_close(half_precision, full, atol=0.01, rtol=0)
    assert not torch.equal(half_precision, full)
