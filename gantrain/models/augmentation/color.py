"""Color operations of adaptive augmentation."""

from __future__ import annotations

import torch
from torch import Tensor


def recolored(
    images: Tensor, brightness: Tensor, contrast: Tensor, luma: Tensor, hue: Tensor, saturation: Tensor
) -> Tensor:
    """Images with other colors (Karras et al. 2020, arXiv:2006.06676, appendix B).

    The values of a pixel are a vector, whose component along (1, 1, 1) is its luma. ``brightness`` is added to all
    values, which are then multiplied; the luma changes its sign; the rest is rotated around that axis and multiplied.
    Images of another number of channels than 3 have neither hue nor saturation.

    Args:
        images: (N, C, H, W) in [-1, 1]; the result may exceed this range.
        brightness: (N,), what is added.
        contrast: (N,), the factor.
        luma: (N,), whether its sign changes.
        hue: (N,), an angle.
        saturation: (N,), the factor.
    """
    gain = contrast * (1 - 2 * luma)
    brighter = images + brightness[:, None, None, None]
    if images.size(1) != 3:
        return brighter * gain[:, None, None, None]
    # Made on the device: a copy of numbers would wait for it. The last is the cross product with the axis.
    identity = torch.eye(3, dtype=images.dtype, device=images.device)
    gray = torch.full_like(identity, 1 / 3)
    turned = (identity.roll(1, dims=0) - identity.roll(-1, dims=0)) / 3**0.5
    cosine, sine, factor, gain = (each[:, None, None] for each in (hue.cos(), hue.sin(), contrast * saturation, gain))
    matrix = gain * gray + factor * (cosine * (identity - gray) + sine * turned)
    return (matrix @ brighter.flatten(2)).view_as(images)
