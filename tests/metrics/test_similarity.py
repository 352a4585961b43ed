"""PSNR and SSIM equal those of scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gantrain.metrics.similarity import l1_distance, psnr, ssim


def pairs(channels: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two similar images, one of noise, and one that is nearly identical."""
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(3, channels, height, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(3, channels, height, width, generator=generator, dtype=torch.float64)
    strength = torch.tensor([0.1, 1.0, 1e-4], dtype=torch.float64).view(3, 1, 1, 1)
    return one, (one + strength * noise).clamp(0, 1)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 32, 32), (3, 20, 37), (1, 11, 11)])
def test_metrics_equal_those_of_scikit_image(channels: int, height: int, width: int) -> None:
    one, other = pairs(channels, height, width)
    found = {"psnr": psnr(one, other), "ssim": ssim(one, other), "l1": l1_distance(one, other)}
    assert all(values.dtype == torch.float64 and values.shape == (3,) for values in found.values())
    for number in range(3):
        a, b = (image[number].permute(1, 2, 0).numpy() for image in (one, other))
        assert found["l1"][number].item() == pytest.approx(np.abs(a - b).mean(), rel=1e-12)
        assert found["psnr"][number].item() == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1), rel=1e-12)
        # The settings of Wang et al. 2004, from scikit-image's documentation.
        wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        expected = structural_similarity(a, b, channel_axis=2, **wang)
        assert found["ssim"][number].item() == pytest.approx(expected, rel=1e-9)


def test_equal_images_have_the_best_values() -> None:
    one, _ = pairs(1, 16, 16)
    assert l1_distance(one, one).tolist() == [0, 0, 0]
    assert psnr(one, one).tolist() == [math.inf] * 3
    assert ssim(one, one).tolist() == pytest.approx([1, 1, 1])


def test_images_smaller_than_the_window_have_no_ssim() -> None:
    one, other = pairs(1, 10, 40)
    assert ssim(one, other) is None
    assert psnr(one, other).isfinite().all()
