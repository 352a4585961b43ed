"""PatchNCE, the contrastive loss of patches: Park et al. 2020 (arXiv:2007.15651)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Of the authors' code: the vectors of an untrained network are so short that both show in the losses.
EPSILON = 1e-7  # It is added to the length that a vector is divided by.
OWN_LOGIT = -10.0  # The similarity, before the division by the temperature, of a patch to itself as a negative.


def patches(features: Tensor, places: Tensor) -> Tensor:
    """The vectors (N * P, C) of features (N, C, H, W) at P places, image by image: row * W + column, for all images."""
    return features.flatten(2)[:, :, places].transpose(1, 2).flatten(0, 1)


def unit_length(vectors: Tensor) -> Tensor:
    """Vectors (M, C), each divided by its length plus 1e-7."""
    return vectors / (torch.linalg.vector_norm(vectors, dim=1, keepdim=True) + EPSILON)


def patch_nce(queries: Tensor, keys: Tensor, *, images: int, temperature: float) -> Tensor:
    """Mean cross-entropy of finding the key of each query's own place among those of its image.

    Park et al. 2020 (arXiv:2007.15651), equation 3, as in the authors' code: the negatives are the other patches of
    the same image, and the patch itself at a similarity of -10.

    Args:
        queries: (images * P, C) of unit length, image by image.
        keys: (images * P, C), likewise; gradients do not flow back into them.
        images: Their number.
        temperature: What similarities are divided by.

    Returns:
        Scalar tensor.
    """
    queries, keys = (vectors.unflatten(0, (images, -1)) for vectors in (queries, keys.detach()))
    positive = (queries * keys).sum(dim=2, keepdim=True)
    itself = torch.eye(keys.size(1), dtype=torch.bool, device=keys.device)
    negative = (queries @ keys.transpose(1, 2)).masked_fill(itself, OWN_LOGIT)
    logits = torch.cat([positive, negative], dim=2).flatten(0, 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
