"""Optimizers, compared with their formulas, with and without scaled gradients."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import CPU, mlp_generator
from torch import Tensor, nn

from gantrain.errors import ConfigError
from gantrain.networks.common import set_precision
from gantrain.optim.monitor import RunMonitor
from gantrain.optim.updates import SideOptimizer
from gantrain.registry import OPTIMIZERS

# The keys of each optimizer, with weight decay where it has one.
KEYS: dict[str, dict[str, Any]] = {
    "adam": {"lr": 0.1, "betas": [0.5, 0.99], "weight_decay": 0.05},
    "adamw": {"lr": 0.1, "betas": [0.5, 0.99], "weight_decay": 0.05},
    "rmsprop": {"lr": 0.1, "alpha": 0.9, "momentum": 0.3},
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05},
}
FUSABLE = ["adam", "adamw", "sgd"]

MONITOR = RunMonitor()


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
    """Algorithm 1 of arXiv:1412.6980; the decay is part of the gradient, or decoupled (arXiv:1711.05101)."""
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
        side.update(valley(weight, step), MONITOR, "generator")
    return weight.detach()


@pytest.mark.parametrize("name", BY_HAND)
def test_five_steps_of_each_optimizer_follow_its_formula(name: str) -> None:
    reached = descend(player(name, [nn.Parameter(start())]), 5)
    torch.testing.assert_close(reached, BY_HAND[name](5), atol=1e-10, rtol=1e-10)


def test_every_optimizer_is_tested() -> None:
    own = {name for name in OPTIMIZERS if OPTIMIZERS[name].__module__.startswith("gantrain.")}
    assert own == set(BY_HAND) == set(KEYS)


@pytest.mark.parametrize("name", FUSABLE)
def test_the_fused_kernels_compute_the_same(name: str) -> None:
    plain, fused = (descend(player(name, [nn.Parameter(start())], fused=fused), 5) for fused in (False, True))
    torch.testing.assert_close(fused, plain, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", KEYS)
def test_a_restored_optimizer_continues_identically(name: str) -> None:
    whole = player(name, [nn.Parameter(start())])
    descend(whole, 3)
    resumed = player(name, [nn.Parameter(whole.parameters[0].detach().clone())])
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    assert torch.equal(descend(resumed, 3), descend(whole, 3))


def test_an_optimizer_of_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.name=adan: .*'adam'"):
        OPTIMIZERS.build({"name": "adan"}, params=[], fused=False)


# ---- float16


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_scaled_gradients_make_the_same_steps(name: str, fused: bool) -> None:
    reached = []
    for scaled in (False, True):
        side = player(name, [nn.Parameter(start().float())], fused=fused, scaled=scaled)
        reached.append(descend(side, 5))
    # The scale is a power of two, so scaling is exact.
    torch.testing.assert_close(reached[1], reached[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", KEYS)
def test_an_infinite_gradient_skips_the_step_and_halves_the_scale(name: str) -> None:
    weight = nn.Parameter(start().float())
    side = player(name, [weight], fused=name in FUSABLE, scaled=True)
    scale = side.scaler.get_scale()
    side.update((weight * torch.tensor([1.0, float("inf"), 1.0, 1.0])).sum(), MONITOR, "generator")
    assert torch.equal(weight.detach(), start().float())
    assert side.scaler.get_scale() == scale / 2
    side.update(weight.sum(), MONITOR, "generator")
    assert not torch.equal(weight.detach(), start().float())
    assert weight.detach().isfinite().all()


def test_without_float16_no_gradient_is_scaled() -> None:
    side = player("sgd", [nn.Parameter(start())])
    side.update(side.parameters[0].sum(), MONITOR, "generator")
    torch.testing.assert_close(side.parameters[0].grad, torch.ones(4, dtype=torch.float64))


def test_the_scale_is_stored_with_the_optimizer() -> None:
    side = player("adam", [nn.Parameter(start().float())], scaled=True)
    side.update(side.parameters[0].sum() * float("inf"), MONITOR, "generator")
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
            side.update(loss, MONITOR, "generator")
            losses.append(loss.detach())
    full, half_precision = torch.stack(losses).view(2, 10)
    assert full[-1] < 0.6 * full[0]
    torch.testing.assert_close(half_precision, full, atol=0.01, rtol=0)
    assert not torch.equal(half_precision, full)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_training_imports_neither_torchs_compiler_nor_unused_libraries(optimizer: str, train, monkeypatch) -> None:
    compiler = ("torch._dynamo", "torch._inductor", "torch._inductor.config")
    for module in (*compiler, "fsspec", "lmdb", "matplotlib", "scipy", "tensorboard", "torchvision"):
        monkeypatch.setitem(sys.modules, module, None)  # Importing it is an error.
    train("run", "model=gan", f"optimizer={optimizer}", "trainer.steps=2", "trainer.save_every=1")
