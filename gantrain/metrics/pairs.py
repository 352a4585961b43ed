"""Numbers of pairs of images: the absolute error, the signal-to-noise ratio, and two kinds of similarity."""

from __future__ import annotations

import math

from torch import Tensor

from gantrain.errors import ConfigError
from gantrain.metrics.base import Features, PairMetric, Shape
from gantrain.metrics.features.lpips import LPIPS, SMALLEST, lpips_weights
from gantrain.metrics.similarity import WINDOW, l1_distance, psnr, ssim
from gantrain.registry import METRICS

RANGE = 255  # Of uint8.


@METRICS.register("l1")
class AbsoluteError(PairMetric):
    """The mean absolute difference of values in [0, 1]."""

    higher_is_better = {"l1": False}

    def compute(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        return {"l1": l1_distance(generated.double() / RANGE, real.double() / RANGE)}


@METRICS.register("psnr")
class SignalToNoise(PairMetric):
    """The peak signal-to-noise ratio of each pair in decibels, averaged over pairs.

    It would be infinite for equal images: they count as if one of their values differed by one grey level.
    """

    higher_is_better = {"psnr": True}

    def compute(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        most = 10 * math.log10(RANGE**2 * math.prod(generated.shape[1:]))
        return {"psnr": psnr(generated.double() / RANGE, real.double() / RANGE).clamp(max=most)}


@METRICS.register("ssim")
class StructuralSimilarity(PairMetric):
    """The structural similarity, the mean over windows and channels: 1 for equal images.

    Wang et al. 2004, doi:10.1109/TIP.2003.819861: Gaussian windows of 11 x 11 pixels with a standard deviation of 1.5
    that lie inside the image, K1 = 0.01, K2 = 0.03.
    """

    higher_is_better = {"ssim": True}

    def check(self, features: Features | None, shape: Shape, *, generated: int, real: int) -> None:
        _, height, width = shape
        if min(height, width) < WINDOW:
            raise ConfigError(
                f"metrics=ssim needs images of {WINDOW} x {WINDOW} pixels or more, not {height} x {width}: "
                "give a larger data.load_size (and data.crop_size)"
            )

    def compute(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        found = ssim(generated.double() / RANGE, real.double() / RANGE)
        return {} if found is None else {"ssim": found}


@METRICS.register("lpips")
class PerceptualDistance(PairMetric):
    """LPIPS: the distance of the images of a pair in the layers of AlexNet, weighted as people judge similarity.

    Zhang et al. 2018, arXiv:1801.03924, version 0.1. Gray images are repeated to three channels. The weights of AlexNet
    are those of torchvision; those of the layers come with the package ``lpips``, which is not imported.
    """

    higher_is_better = {"lpips": False}

    def __init__(self) -> None:
        (name,) = self.higher_is_better
        self.network = LPIPS(*lpips_weights(f"metrics={name}", remedy="leave the metric out"))

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
