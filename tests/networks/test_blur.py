"""Halving and doubling without aliasing, pixel by pixel."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from gantrain.networks.blur import BlurDown, BlurUp, ReplicationPad2d


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("height", "width"), [(6, 8), (5, 7), (2, 3)])
def test_halving_is_a_binomial_mean_with_reflected_edges(height: int, width: int) -> None:
    image = noise(2, 3, height, width)
    small = BlurDown(3).double()(image)
    assert small.shape == (2, 3, (height + 1) // 2, (width + 1) // 2)
    weights = {-1: 1, 0: 2, 1: 1}
    for row, column in itertools.product(range(small.size(2)), range(small.size(3))):
        total = torch.zeros(2, 3, dtype=torch.float64)
        for (dy, wy), (dx, wx) in itertools.product(weights.items(), repeat=2):
            y, x = abs(2 * row + dy), abs(2 * column + dx)
            y, x = min(y, 2 * (height - 1) - y), min(x, 2 * (width - 1) - x)
            total += wy * wx / 16 * image[:, :, y, x]
        torch.testing.assert_close(small[:, :, row, column], total, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (1, 2)])
def test_doubling_weighs_the_nearest_pixels_and_repeats_the_edges(height: int, width: int) -> None:
    image = noise(2, 3, height, width)
    large = BlurUp(3).double()(image)
    assert large.shape == (2, 3, 2 * height, 2 * width)
    for row, column in itertools.product(range(2 * height), range(2 * width)):
        # A pixel is three quarters of that whose half it is, and one quarter of the next on its side.
        y, x = row // 2, column // 2
        other_y = min(max(y + (1 if row % 2 else -1), 0), height - 1)
        other_x = min(max(x + (1 if column % 2 else -1), 0), width - 1)
        expected = sum(
            wy * wx * image[:, :, b, a]
            for (b, wy), (a, wx) in itertools.product([(y, 0.75), (other_y, 0.25)], [(x, 0.75), (other_x, 0.25)])
        )
        torch.testing.assert_close(large[:, :, row, column], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", [BlurDown, BlurUp])
def test_channels_are_independent_and_gradients_are_those_of_the_sum(kind: type) -> None:
    layer = kind(2).double()
    assert [*layer.state_dict()] == ["filt"]
    assert not list(layer.parameters())
    image = noise(1, 2, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(layer, image)
    assert torch.equal(layer(image)[:, 1], kind(1).double()(image[:, 1:])[:, 0])
    torch.testing.assert_close(layer(torch.ones(1, 2, 4, 4).double()).unique(), torch.ones(1).double())


def test_edges_are_repeated_in_compiled_networks_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(2, 3, 4, 5).requires_grad_()
    weights = noise(2, 3, 9, 8)
    found = []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_dynamo_compiling", lambda compiling=compiling: compiling)
        padded = ReplicationPad2d((1, 2, 3, 2))(image)
        found.append((padded.detach(), *torch.autograd.grad((weights * padded).sum(), image)))
    torch.testing.assert_close(found[1], found[0], atol=1e-12, rtol=0)
