"""Tiny models for exports, whose weights and statistics differ from initial ones."""

from __future__ import annotations

from typing import Any

import torch
from foreign_models import config, spec_of
from tiny_keys import LATENT_KEYS, NETWORK_KEYS, OWN_KEYS, TRANSLATION_KEYS
from torch import nn

from gantrain.data.base import ImageSpec
from gantrain.exports.source import Source
from gantrain.models.translation import Direction
from gantrain.training.build import build_model

DISCRIMINATOR = {"name": "dcgan", **NETWORK_KEYS["discriminator"]["dcgan"]}


def source_of(
    model: str,
    generator: str,
    *,
    mode: Any = "train",
    direction: Direction = "a_to_b",
    spec: ImageSpec | None = None,
    **keys: Any,
) -> Source:
    """A model on a network with these keys, in evaluation mode; dropout is on in its configuration if it has any."""
    torch.manual_seed(1)
    network = {"name": generator, **NETWORK_KEYS["generator"][generator], **keys}
    network |= {"init": "xavier", "init_gain": 1.0}
    network |= {"dropout": 0.5} if "dropout" in network else {}
    own = TRANSLATION_KEYS[model] if model in TRANSLATION_KEYS else {**LATENT_KEYS, **OWN_KEYS[model]}
    spec = spec or spec_of(model)
    whole = config({"name": model, **own}, network, DISCRIMINATOR)
    built = build_model(whole, spec)
    for name, tensor in built.state_dict(keep_vars=True).items():
        if not name.startswith("generator") or not isinstance(tensor, torch.Tensor):
            continue
        if tensor.ndim == 1 or name.endswith((".gain.weight", ".bias.weight")):  # The latter are those of each class.
            low, high = (-0.5, 0.5) if name.endswith(("bias", "bias.weight", "running_mean")) else (0.5, 1.5)
            nn.init.uniform_(tensor.data, low, high)
    built.requires_grad_(False).eval()
    facts = {"format": 1, "gantrain": "0.0", "revision": "abc", "run": "run", "step": 7}
    facts |= {"model": whole["model"], "generator": network, "spec": spec.to_dict()}
    facts |= {"image_statistics": getattr(built, "image_statistics", False)}
    return Source(built, spec, None if model in OWN_KEYS else direction, mode, facts)
