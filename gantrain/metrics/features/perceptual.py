"""The perceptual loss of models that translate, whose network is that of a metric."""

from __future__ import annotations

import torch

from gantrain.errors import ConfigError
from gantrain.metrics.features.lpips import LPIPS, SMALLEST, lpips_weights
from gantrain.models.base import GAN
from gantrain.models.pix2pix import Pix2Pix


def attach_perceptual(model: GAN, device: torch.device, dtype: torch.dtype) -> None:
    """Give a model with ``lambda_lpips`` its network, which is not part of its state.

    Raises:
        ConfigError: The package, the weights or the images are not suitable.
    """
    if not isinstance(model, Pix2Pix) or not model.lambda_lpips:
        return
    key, remedy = f"model.lambda_lpips={model.lambda_lpips:g}", "set it to 0"
    channels, height, width = model.perceived_shape
    if channels not in (1, 3) or min(height, width) < SMALLEST:
        raise ConfigError(
            f"{key} compares images of 1 or 3 channels of {SMALLEST} x {SMALLEST} pixels or more, not {channels} of "
            f"{height} x {width}: {remedy}"
        )
    network = LPIPS(*lpips_weights(key, remedy=remedy)).to(device=device, dtype=dtype)
    model.perceptual = network.distances
