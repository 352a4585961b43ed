"""Numbers of pairs of images against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import assert_mentions
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from gantrain.errors import ConfigError
from gantrain.metrics.pairs import AbsoluteError, SignalToNoise, StructuralSimilarity


def pairs(channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Images and distorted ones, (4, C, H, W) uint8: smooth, so that they have structure."""
    draws = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, channels, 4, 4, generator=draws) * 255
    one = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    other = one + 25 * torch.randn(one.shape, generator=draws) * torch.arange(1, 5).view(4, 1, 1, 1)
    return one.round().to(torch.uint8), other.clamp(0, 255).round().to(torch.uint8)


def arrays(images: Tensor) -> list[np.ndarray]:
    """Each image as (H, W, C)."""
    return list(images.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("shape", [(3, 40, 23), (1, 11, 11)])
def test_psnr_and_ssim_are_scikit_images(shape: tuple[int, int, int]) -> None:
    one, other = pairs(*shape)
    for number, (mine, its) in enumerate(zip(arrays(one), arrays(other), strict=True)):
        ratio = SignalToNoise().compute(one, other)["psnr"][number].item()
        assert ratio == pytest.approx(peak_signal_noise_ratio(its, mine, data_range=255), rel=1e-12)
        similarity = StructuralSimilarity().compute(one, other)["ssim"][number].item()
        settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
        expected = structural_similarity(mine, its, channel_axis=2, **settings)
        assert 0 < expected < 1
        assert similarity == pytest.approx(expected, rel=1e-9)


def test_l1_is_of_values_from_0_to_1() -> None:
    one, other = pairs(3, 5, 7)
    found = AbsoluteError().compute(one, other)["l1"]
    expected = [abs(a / 255.0 - b / 255.0).mean() for a, b in zip(arrays(one), arrays(other), strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert AbsoluteError().reduce("l1", found) == pytest.approx(np.mean(expected), rel=1e-12)


def test_equal_images_have_the_best_numbers_all_finite() -> None:
    one, _ = pairs(3, 16, 16)
    nearly = one.clone()
    nearly[:, 0, 0, 0] ^= 1
    assert StructuralSimilarity().compute(one, one)["ssim"].tolist() == pytest.approx([1] * 4)
    assert AbsoluteError().compute(one, one)["l1"].tolist() == [0] * 4
    best = SignalToNoise().compute(one, one)["psnr"]
    assert torch.isfinite(best).all()
    assert torch.equal(best, SignalToNoise().compute(one, nearly)["psnr"])


def test_images_smaller_than_the_window_of_ssim_are_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        StructuralSimilarity().check(None, (1, 32, 10), generated=4, real=4)
    assert_mentions(str(refusal.value), "metrics=ssim", "32 x 10", "11 x 11", "data.load_size")
