"""Initialisation and spectral norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from makers import MAKERS, inputs_of
from tiny import dcgan_discriminator, dcgan_generator, mlp_generator
from torch import Tensor, nn


def spread(weight: Tensor) -> tuple[float, float]:
    return weight.mean().item(), weight.std().item()


def assert_normal(weight: Tensor, mean: float, std: float) -> None:
    """Within five standard errors: std / sqrt(n) of a mean, std / sqrt(2 n) of a standard deviation."""
    error = std / weight.numel() ** 0.5
    assert spread(weight)[0] == pytest.approx(mean, abs=5 * error)
    assert spread(weight)[1] == pytest.approx(std, abs=5 * error / 2**0.5)


@pytest.mark.parametrize("gain", [0.02, 0.1])
@pytest.mark.parametrize("make", [dcgan_generator, dcgan_discriminator])
def test_normal_weights_have_the_standard_deviation_asked_for(make: Any, gain: float) -> None:
    torch.manual_seed(0)
    network = make(shape=(3, 64, 64), width=32, init="normal", init_gain=gain)
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    for layer in network.layers:
        if isinstance(layer, kinds):
            assert_normal(layer.weight, 0.0, gain)
    scales = torch.cat([layer.weight for layer in network.layers if isinstance(layer, nn.BatchNorm2d)])
    shifts = torch.cat([layer.bias for layer in network.layers if isinstance(layer, nn.BatchNorm2d)])
    assert_normal(scales, 1.0, gain)
    assert torch.equal(shifts, torch.zeros_like(shifts))


@pytest.mark.parametrize(
    ("init", "gain", "std"),
    [
        ("xavier", 0.5, 0.5 * (2 / (400 + 16)) ** 0.5),  # gain sqrt(2 / (in + out))
        ("kaiming", 9.9, (2 / (1 + 0.2**2) / 400) ** 0.5),  # sqrt(2 / (1 + slope^2) / in), whatever the gain
    ],
)
def test_xavier_and_kaiming_have_the_spread_of_their_formula(init: str, gain: float, std: float) -> None:
    torch.manual_seed(0)
    network = mlp_generator(hidden=400, init=init, init_gain=gain)
    last = network.layers[-2]
    assert_normal(last.weight, 0.0, std)
    assert torch.equal(last.bias, torch.zeros(16))


def test_orthogonal_rows_have_the_length_of_the_gain() -> None:
    weight = mlp_generator(hidden=400, init="orthogonal", init_gain=0.5).layers[-2].weight
    torch.testing.assert_close(weight @ weight.T, 0.25 * torch.eye(16), atol=1e-5, rtol=0)


def test_the_default_initialisation_is_torchs_own() -> None:
    torch.manual_seed(0)
    network = mlp_generator(init="default", init_gain=99.0)
    torch.manual_seed(0)
    first, last = nn.Linear(3, 5), nn.Linear(5, 16)
    assert torch.equal(network.layers[0].weight, first.weight)
    assert torch.equal(network.layers[-2].bias, last.bias)


# ---- spectral norm


def largest_singular_values(network: nn.Module) -> list[float]:
    values = []
    for layer in network.layers:
        if hasattr(layer, "weight"):
            weight = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
            values.append(torch.linalg.matrix_norm(weight.flatten(1), ord=2).item())
    return values


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("init", ["normal", "default"])
def test_spectral_norm_makes_every_largest_singular_value_one(make: Any, init: str) -> None:
    torch.manual_seed(0)
    network = make(norm="spectral", init=init).double()
    with torch.no_grad():
        for parameter in network.parameters():  # Far from the weights of the first power iteration.
            parameter.copy_(5 * torch.randn_like(parameter))
        for _ in range(150):
            network(inputs_of(network))
    network.eval()
    values = largest_singular_values(network)
    assert len(values) >= 2
    assert values == pytest.approx([1.0] * len(values), abs=1e-2)


def test_without_spectral_norm_singular_values_differ_from_one() -> None:
    torch.manual_seed(0)
    plain = dcgan_discriminator(norm="none", init="normal", init_gain=0.5)
    assert min(largest_singular_values(plain)) > 1.1
    assert not any("parametrizations" in key for key in plain.state_dict())
