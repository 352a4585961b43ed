"""Moving averages, compared with their formula."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tiny import CPU, mlp_generator, sgd, weights
from torch import Tensor, nn

from gantrain.optim.ema import EMA
from gantrain.optim.monitor import RunMonitor
from gantrain.optim.updates import SideOptimizer


def followed(norm: str = "batch", decay: float = 0.9) -> tuple[nn.Module, EMA]:
    torch.manual_seed(0)
    network = mlp_generator(norm=norm).double()
    return network, EMA([network], decay)


def wander(network: nn.Module, averages: EMA, steps: int) -> list[dict[str, Tensor]]:
    """Change weights and buffers at random; returns the states before and after each step."""
    seen = [copy.deepcopy(network.state_dict())]
    for _ in range(steps):
        network(torch.randn(8, 3, dtype=torch.float64))  # Changes the running statistics.
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        averages.update()
        seen.append(copy.deepcopy(network.state_dict()))
    return seen


@pytest.mark.parametrize("rampup", [0.0, 1e9])
@pytest.mark.parametrize("decay", [0.9, 0.5])
def test_parameters_and_statistics_are_averaged_with_the_decay(decay: float, rampup: float) -> None:
    network = mlp_generator(norm="batch").double()
    averages = EMA([network], decay, rampup=rampup)
    states = wander(network, averages, 3)
    assert {"layers.0.weight", "layers.1.running_mean", "layers.1.running_var"} < states[0].keys()
    assert states[-1]["layers.1.num_batches_tracked"] == 3
    with averages.swapped_in():
        for name, value in network.state_dict().items():
            w0, w1, w2, w3 = (state[name] for state in states)
            if "tracked" in name or ("running" in name and not rampup):
                expected = w3
            else:  # It starts as the first weights, which a ramp-up forgets at the first update.
                first = w1 if rampup else decay * w0 + (1 - decay) * w1
                expected = decay**2 * first + (1 - decay) * (decay * w2 + w3)
            torch.testing.assert_close(value, expected, atol=1e-12, rtol=1e-12)


def test_the_networks_values_are_restored_even_after_an_error() -> None:
    network, averages = followed()
    wander(network, averages, 2)
    before = copy.deepcopy(network.state_dict())
    with averages.swapped_in():
        assert not torch.equal(network.state_dict()["layers.0.weight"], before["layers.0.weight"])
    torch.testing.assert_close(network.state_dict(), before, atol=0, rtol=0)
    with pytest.raises(KeyError, match="inside"), averages.swapped_in():
        raise KeyError("inside")
    torch.testing.assert_close(network.state_dict(), before, atol=0, rtol=0)


def test_statistics_of_the_averages_do_not_reach_the_network() -> None:
    network, averages = followed()
    wander(network, averages, 1)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with averages.swapped_in():
        network(torch.randn(8, 3, dtype=torch.float64))
    torch.testing.assert_close(dict(network.named_buffers()), before, atol=0, rtol=0)


def test_training_continues_with_the_networks_own_weights() -> None:
    network, averages = followed("none")
    wander(network, averages, 2)
    side = SideOptimizer(sgd([network], lr=0.1), CPU, scaled=False)
    saved, before = copy.deepcopy(averages.state_dict()), weights(network)
    with averages.swapped_in():
        pass
    side.update(sum(parameter.sum() for parameter in network.parameters()), RunMonitor(), "generator")  # of gradient 1
    for name, value in network.named_parameters():
        torch.testing.assert_close(value.detach(), before[name] - 0.1)
    torch.testing.assert_close(averages.state_dict(), saved, atol=0, rtol=0)


def test_spectrally_normalised_networks_average_their_raw_weights() -> None:
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


def test_restored_averages_continue_identically() -> None:
    network, averages = followed()
    wander(network, averages, 2)
    twin = copy.deepcopy(network)
    resumed = EMA([twin], 0.9)
    resumed.load_state_dict(copy.deepcopy(averages.state_dict()))
    for modules, ema in ((network, averages), (twin, resumed)):
        torch.manual_seed(1)
        wander(modules, ema, 2)
    torch.testing.assert_close(resumed.state_dict(), averages.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize("rampup", [0.05, 1.0])
def test_a_ramp_up_has_the_half_life_of_a_share_of_the_updates(rampup: float) -> None:
    torch.manual_seed(0)
    network = mlp_generator().double()
    averages = EMA([network], 0.9, rampup=rampup)
    seen = wander(network, averages, 200)
    decays = []
    for update in range(200):
        longest = math.log(0.5) / math.log(0.9)  # Updates, 6.6.
        half_life = min(longest, update * rampup)
        decays.append(2 ** (-1 / half_life) if half_life else 0.0)
    assert decays[-1] == pytest.approx(0.9)
    with averages.swapped_in():
        for name, value in network.named_parameters():
            expected = seen[0][name]
            for decay, now in zip(decays, seen[1:], strict=True):
                expected = decay * expected + (1 - decay) * now[name]
            torch.testing.assert_close(value.detach(), expected, atol=1e-12, rtol=1e-12)


def test_a_ramp_up_forgets_the_initial_weights() -> None:
    network = nn.Linear(1, 1, bias=False)
    for rampup, share in ((0.0, 0.999**1000), (0.05, 0.0)):
        nn.init.ones_(network.weight)
        averages = EMA([network], 0.999, rampup=rampup)
        nn.init.zeros_(network.weight)
        for _ in range(1000):
            averages.update()
        assert float(averages.state_dict()["0.weight"].detach()) == pytest.approx(share, rel=1e-3)


def test_averages_that_have_ramped_up_have_the_bits_of_constant_ones() -> None:
    network = nn.Linear(3, 3)
    ramped, constant = EMA([network], 0.9, rampup=1.0), EMA([network], 0.9)
    assert constant.decay() == 0.9
    for _ in range(8):
        ramped.update()
    assert ramped.decay() == 0.9
    ramped.restart()
    assert ramped.decay() == 0.0
