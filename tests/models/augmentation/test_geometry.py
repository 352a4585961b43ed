"""Geometric operations compared with those of numpy and scipy."""

from __future__ import annotations

import itertools

import augmented_by_hand
import numpy as np
import pytest
import torch
from torch import Tensor

from gantrain.models.augmentation.geometry import SYM6, copied, resampled

SIDES = [(12, 12), (7, 7), (16, 9), (1, 5), (3, 4)]


def images(height: int, width: int, *, count: int = 1, channels: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(count, channels, height, width, dtype=torch.float64, generator=generator) * 2 - 1


def turned(angle: float, *, scale: float = 1.0) -> Tensor:
    angles = torch.tensor([angle], dtype=torch.float64)
    return scale * torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], dim=1).view(1, 2, 2)


@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_pixels_are_copied_to_their_places(sides: tuple[int, int]) -> None:
    given = images(*sides)
    turns = range(4) if sides[0] == sides[1] else (0, 2)
    cases = list(itertools.product((0, 1), turns, (0, 2, -1, 13), (0, -2, 3)))
    whole = copied(given.expand(len(cases), -1, -1, -1), *torch.tensor(cases, dtype=torch.float64).unbind(1))
    for found, case in zip(whole, cases, strict=True):
        assert np.array_equal(found.numpy(), augmented_by_hand.copied(given[0].numpy(), *case)), case


def test_the_filter_is_orthogonal_with_six_vanishing_moments() -> None:
    taps = np.array(SYM6) * np.sqrt(2)
    for shift in range(6):
        product = (taps[2 * shift :] * taps[: 12 - 2 * shift]).sum()
        assert product == pytest.approx(float(shift == 0), abs=1e-11)
    places = np.arange(12.0)
    for power in range(6):
        moment = ((-1.0) ** places * (places / 11) ** power * taps).sum()
        assert moment == pytest.approx(0, abs=1e-10), power
    center = (places * taps).sum() / taps.sum()
    assert abs(center - 5.5) < 0.7  # Of Daubechies' filters, this is the one that is nearly symmetric.


@pytest.mark.parametrize("sides", SIDES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_images_are_resampled_as_by_scipy(sides: tuple[int, int], seed: int) -> None:
    given, numbers = images(*sides), np.random.default_rng(seed)
    names = ("size", "before", "aspect", "after", "move_x", "move_y")
    change = dict(zip(names, numbers.normal(size=6) * [0.3, 2, 0.3, 2, 0.3, 0.3], strict=True))
    forward = augmented_by_hand.forward_matrix(change, *sides)
    inverse = torch.from_numpy(np.linalg.inv(forward))
    found = resampled(given, inverse[None, :2, :2], inverse[None, :2, 2])
    expected = augmented_by_hand.resampled(given[0].numpy(), forward)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_images_that_stay_or_move_by_whole_pixels_are_copied(sides: tuple[int, int]) -> None:
    given = images(*sides)
    for right, down in ((0, 0), (3, -2), (-40, 1)):
        offset = torch.tensor([[-right, -down]], dtype=torch.float64)
        amounts = torch.tensor([[0.0], [0.0], [right], [down]])
        torch.testing.assert_close(resampled(given, turned(0), offset), copied(given, *amounts), atol=1e-10, rtol=0)


def test_a_pattern_that_is_too_fine_vanishes_instead_of_becoming_coarse() -> None:
    rows = torch.arange(64)
    fine = ((-1.0) ** (rows[:, None] + rows)).double()[None, None]
    smaller = resampled(fine, turned(0.3, scale=1.7), torch.zeros(1, 2, dtype=torch.float64))
    assert fine.std() > 0.99
    assert smaller.std() < 0.1
    coarse = torch.sin(rows / 5).double().expand(1, 1, 64, 64)
    place = torch.arange(64) - 31.5
    expected = torch.sin((1.2 * place + 31.5) / 5).double().expand(64, 64)
    larger = resampled(coarse, 1.2 * turned(0), torch.zeros(1, 2, dtype=torch.float64))[0, 0]
    assert (larger - expected)[:, 8:-8].abs().max() < 0.01


def test_gradients_and_those_of_gradients_equal_finite_differences() -> None:
    given = images(4, 3, count=2, channels=1).requires_grad_()
    linear = torch.cat([turned(0.7, scale=1.3), turned(-2.0, scale=0.6)])
    offset = torch.tensor([[0.3, -1.2], [2.5, 0.1]], dtype=torch.float64)

    def change(x: Tensor) -> Tensor:
        return resampled(x, linear, offset).square()

    assert torch.autograd.gradcheck(change, [given])
    assert torch.autograd.gradgradcheck(change, [given])
