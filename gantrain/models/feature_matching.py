"""Feature matching: the generator's images shall have the discriminator's features of real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.errors import ConfigError
from gantrain.runtime import distributed

FeatureMaps = Sequence[Sequence[Tensor]]  # For each scale of a discriminator, maps (N, C, H, W), and then its logits.


def feature_matching(fake: FeatureMaps, real: FeatureMaps, distance: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The sum of the distances of all feature maps, without its weight lambda; gradients flow into ``fake`` only.

    As in the code of pix2pixHD (Wang et al. 2018, arXiv:1711.11585), each of K scales with M maps has the weight
    ``1 / K * 4 / M``, where M is 4 for its discriminator.
    """
    distances = [
        4 / (len(maps) - 1) * distance(one, other.detach())
        for maps, others in zip(fake, real, strict=True)
        for one, other in zip(maps[:-1], others[:-1], strict=True)
    ]
    return torch.stack(distances).sum() / len(fake)


def paired_distance(fake: Tensor, real: Tensor) -> Tensor:
    """The mean absolute difference of maps (N, C, H, W) of images that belong together (Wang et al. 2018)."""
    return F.l1_loss(fake, real)


def unpaired_distance(fake: Tensor, real: Tensor) -> Tensor:
    """The mean absolute difference of the mean features of a batch, for images that do not belong together.

    Means are over images and positions of maps (N, C, H, W), whose sizes may differ, of the batches of all ranks
    (Salimans et al. 2016, arXiv:1606.03498, section 3.1, who take the square). The gradient is that of the mean over
    ranks.
    """
    dtype = torch.promote_types(fake.dtype, torch.float32)  # Half precision would round the difference of the means.
    own = fake.mean(dim=(0, 2, 3), dtype=dtype) - real.mean(dim=(0, 2, 3), dtype=dtype)
    everywhere = own.detach().clone()
    distributed.average([everywhere])
    return (own + (everywhere - own.detach())).abs().mean()


def feature_maps(discriminator: Any, images: Tensor) -> FeatureMaps:
    """The feature maps of images (N, C, H, W)."""
    check_features(discriminator)
    maps: FeatureMaps = discriminator.feature_maps(images)
    return maps


def logits_of(maps: FeatureMaps) -> tuple[Tensor, ...]:
    """The logits of each scale."""
    return tuple(scale[-1] for scale in maps)


def check_features(discriminator: nn.Module) -> None:
    """Refuse a discriminator that does not return its features."""
    if not hasattr(discriminator, "feature_maps"):
        raise ConfigError(
            "model.lambda_features above 0 needs a discriminator that returns its features, which "
            f"{type(discriminator).__name__} does not: give network/discriminator=patchgan, or set it to 0"
        )
