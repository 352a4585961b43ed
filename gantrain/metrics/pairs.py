"""Numbers of pairs of images: the absolute error, the signal-to-noise ratio, and two kinds of similarity."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from gantrain.errors import ConfigError
from gantrain.metrics.base import Features, PairMetric, Shape
from gantrain.metrics.features.lpips import LPIPS, SMALLEST, lpips_weights
from gantrain.registry import METRICS

RANGE = 255  # Of uint8.


@METRICS.register("l1")
class AbsoluteError(PairMetric):
    """The mean absolute difference of values in [0, 1]."""

    higher_is_better = {"l1": False}

    def compute(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        return {"l1": (generated.double() - real.double()).abs().mean(dim=(1, 2, 3)) / RANGE}


@METRICS.register("psnr")
class SignalToNoise(PairMetric):
    """The peak signal-to-noise ratio of each pair in decibels, averaged over pairs.

    It would be infinite for equal images: they count as if one of their values differed by one grey level.
    """

    higher_is_better = {"psnr": True}

    def compute(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        error = (generated.double() - real.double()).square().mean(dim=(1, 2, 3))
        least = 1 / math.prod(generated.shape[1:])
        return {"psnr": 10 * torch.log10(RANGE**2 / error.clamp(min=least))}


@METRICS.register("ssim")
class StructuralSimilarity(PairMetric):
    """The structural similarity, the mean over windows and channels: 1 for equal images.

    Wang et al. 2004, doi:10.1109/TIP.2003.819861: Gaussian windows of 11 x 11 pixels with a standard deviation of 1.5
    that lie inside the image, K1 = 0.01, K2 = 0.03.
    """

    higher_is_better = {"ssim": True}

    window = 11
    sigma = 1.5

    def check(self, features: Features | None, shape: Shape, *, generated: int, real: int) -> None:
        _, height, width = shape
        if min(height, width) < self.window:
            raise ConfigError(
                f"metrics=ssim needs images of {self.window} x {self.window} pixels or more, not {height} x {width}: "
                "give a larger data.load_size (and data.crop_size)"
            )

    def compute(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        x, y = generated.double(), real.double()
        mean_x, mean_y = self._blurred(x), self._blurred(y)
        variance_x = self._blurred(x * x) - mean_x.square()
        variance_y = self._blurred(y * y) - mean_y.square()
        covariance = self._blurred(x * y) - mean_x * mean_y
        c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
        means = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
        structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
        return {"ssim": (means * structure).mean(dim=(1, 2, 3))}

    def _blurred(self, values: Tensor) -> Tensor:
        """The weighted mean of each window that lies inside (N, C, H, W)."""
        offsets = torch.arange(self.window, dtype=values.dtype, device=values.device) - self.window // 2
        weights = (-offsets.square() / (2 * self.sigma**2)).softmax(dim=0)
        flat = F.conv2d(values.flatten(0, 1)[:, None], weights[None, None, :, None])
        return F.conv2d(flat, weights[None, None, None]).unflatten(0, values.shape[:2]).squeeze(2)


@METRICS.register("lpips")
class PerceptualDistance(PairMetric):
    """LPIPS: the distance of the images of a pair in the layers of AlexNet, weighted as people judge similarity.

    Zhang et al. 2018, arXiv:1801.03924, version 0.1. Gray images are repeated to three channels. The weights of AlexNet
    are those of torchvision; those of the layers come with the package ``lpips``, which is not imported.
    """

    higher_is_better = {"lpips": False}

    def __init__(self) -> None:
        self.network = LPIPS(*lpips_weights(*self.higher_is_better))

    def check(self, features: Features | None, shape: Shape, *, generated: int, real: int) -> None:
        (name,) = self.higher_is_better
        channels, height, width = shape
        if channels not in (1, 3):
            raise ConfigError(f"metrics={name} compares images of 1 or 3 channels, not {channels}")
        if min(height, width) < SMALLEST:
            raise ConfigError(
                f"metrics={name} needs images of {SMALLEST} x {SMALLEST} pixels or more, not {height} x {width}: "
                "give a larger data.load_size (and data.crop_size)"
            )

    def compute(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        (name,) = self.higher_is_better
        return {name: self.network.to(generated.device)(generated, real).double()}


@METRICS.register("lpips_diversity")
class PerceptualDiversity(PerceptualDistance):
    """The mean LPIPS of pairs of images that are generated from noise: small if they are alike."""

    higher_is_better = {"lpips_diversity": True}
    of_generated = True
