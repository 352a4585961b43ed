"""The sliced Wasserstein distance of patches against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import assert_mentions
from scipy.ndimage import convolve1d
from torch import Tensor

from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted
from gantrain.metrics.features.patches import Patches
from gantrain.metrics.sliced import SlicedWasserstein


def images(count: int, channels: int, height: int, width: int, *, seed: int = 0) -> Tensor:
    """Random pixels."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, height, width), generator=draws, dtype=torch.uint8)


def blurred(image: np.ndarray) -> np.ndarray:
    """(H, W) under the binomial filter."""
    weights = np.array([1, 4, 6, 4, 1]) / 16
    return convolve1d(convolve1d(image, weights, axis=0, mode="mirror"), weights, axis=1, mode="mirror")


def pyramid(image: np.ndarray, levels: int) -> list[np.ndarray]:
    """The Laplacian pyramid of (H, W)."""
    found = []
    for _ in range(levels - 1):
        half = blurred(image)[::2, ::2]
        spread = np.zeros_like(image)
        spread[::2, ::2] = half
        found.append(image - 4 * blurred(spread))
        image = half
    return [*found, image]


@pytest.mark.parametrize(("height", "width", "levels"), [(64, 70, 3), (33, 47, 2), (16, 31, 1), (9, 9, 1)])
def test_patches_are_parts_of_the_levels_of_a_laplacian_pyramid(height: int, width: int, levels: int) -> None:
    network = Patches((2, height, width), count=4, size=7, limit=9)
    shown = images(3, 2, height, width)
    found, logits = network(shown)
    assert logits is None
    assert found.shape == (3, network.dim)
    assert network.levels == levels
    places = set()
    for number, patches in enumerate(found.view(3, levels, 4, 2, 7, 7).double().numpy()):
        levels_of = [pyramid(channel, levels) for channel in shown[number].double().numpy()]
        for level in range(levels):
            maps = np.stack([channel[level] for channel in levels_of])
            parts = np.lib.stride_tricks.sliding_window_view(maps, (7, 7), axis=(1, 2))
            for patch in patches[level]:
                errors = np.abs(parts - patch[:, None, None]).max(axis=(0, 3, 4))
                assert errors.min() < 1e-3
                places.add((level, errors.argmin()))
    assert len(places) > 6 * levels or min(height, width) < 16  # Images have them in different places.


def test_patches_of_an_image_do_not_depend_on_its_batch_but_on_its_pixels() -> None:
    network = Patches((3, 32, 32), count=5, size=7, limit=9)
    shown = images(4, 3, 32, 32)
    whole, _ = network(shown)
    assert torch.equal(torch.cat([network(each[None])[0] for each in shown]), whole)
    assert not torch.equal(whole[0], whole[1])


def distance(one: np.ndarray, other: np.ndarray, directions: np.ndarray) -> float:
    """The mean difference along each direction of the sorted rows (P, C, size^2), normalised per channel."""
    rows = []
    for patches in (one, other):
        normal = np.empty_like(patches)
        for channel in range(patches.shape[1]):
            values = patches[:, channel]
            normal[:, channel] = (values - values.mean()) / values.std()
        rows.append(normal.reshape(len(patches), -1))
    total = 0.0
    for direction in directions.T:
        a, b = (sorted(float(row @ direction) for row in each) for each in rows)
        total += sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a)
    return total / directions.shape[1]


def test_the_distance_is_that_of_loops_in_float64() -> None:
    metric = SlicedWasserstein(patches=3, patch_size=5, directions=40, images=100)
    metric.prepare((2, 32, 32))
    smooth = images(6, 2, 32, 32, seed=1) // 8 * 4 + torch.arange(32, dtype=torch.uint8) * 3
    fake, real = (metric.own(each)[0] for each in (images(12, 2, 32, 32), smooth))
    found = metric.compute(Extracted(fake), Extracted(real), seed=4)["swd"]
    directions = np.random.RandomState(4).standard_normal((2 * 25, 40))
    directions /= np.sqrt((directions**2).sum(axis=0))
    fakes, reals = (each.double().view(-1, 2, 3, 2, 25).numpy() for each in (fake[::2], real))
    expected = [
        distance(*(each[:, level].reshape(18, 2, 25) for each in (fakes, reals)), directions) for level in (0, 1)
    ]
    assert found == pytest.approx(1000 * sum(expected) / 2, rel=1e-5)
    assert found > 100


def test_the_same_images_in_another_order_have_no_distance() -> None:
    metric = SlicedWasserstein(patches=3, patch_size=7, directions=8, images=100)
    metric.prepare((1, 16, 16))
    shown = images(8, 1, 16, 16)
    shown[0] = 0
    one, other = (Extracted(metric.own(each)[0]) for each in (shown, shown.flip(0)))
    assert metric.compute(one, other, seed=0)["swd"] == pytest.approx(0, abs=1e-3)
    black = Extracted(metric.own(torch.zeros_like(shown))[0])
    assert np.isfinite(metric.compute(black, black, seed=0)["swd"])


def test_images_of_several_sizes_are_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        Patches((3, 16, 16), count=2, size=7, limit=9)(images(2, 3, 16, 20))
    assert_mentions(str(refusal.value), "16 x 16", "16 x 20", "size=N")


def test_images_smaller_than_a_patch_are_refused() -> None:
    metric = SlicedWasserstein(patches=3, patch_size=7, directions=8, images=100)
    with pytest.raises(ConfigError) as refusal:
        metric.check(None, (1, 6, 32), generated=4, real=4)
    assert_mentions(str(refusal.value), "metrics.swd.patch_size=7", "6 x 32")
