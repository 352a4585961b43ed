"""Fully connected generator and discriminator on flattened images (Goodfellow et al. 2014, arXiv:1406.2661)."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from gantrain.config.schema import NonNegativeInt, PositiveInt, RepeatCountOrZero, UnitFloat
from gantrain.errors import ConfigError
from gantrain.networks.common import NO_LABELS, ImageShape, Network, Norm, needs_bias
from gantrain.networks.sync_batch import SyncBatchNorm1d
from gantrain.registry import DISCRIMINATORS, GENERATORS

NORMS_1D = {"batch": nn.BatchNorm1d, "sync_batch": SyncBatchNorm1d}


class MLP(Network):
    """Linear layers with LeakyReLU 0.2, on vectors and, optionally, labels.

    Args:
        num_classes: 0, or the number of labels, whose learned embeddings are concatenated to the vectors.
        hidden: Size of the narrowest hidden layer.
        num_layers: Number of hidden layers.
        doubling: Whether sizes double from layer to layer, away from the narrowest.
        label_dim: Length of the learned embedding of a label; of conditional models alone.
        dropout: After every activation; 0 is off.
        norm: Of every hidden layer; not ``instance``.
    """

    def __init__(
        self,
        *,
        num_classes: NonNegativeInt,
        hidden: PositiveInt,
        num_layers: RepeatCountOrZero,
        doubling: bool,
        label_dim: PositiveInt,
        dropout: UnitFloat,
        norm: Norm,
        **init: Any,
    ) -> None:
        super().__init__(norm=norm, **init)
        if norm == "instance":
            raise ConfigError(
                "norm=instance is undefined for a fully connected network; use batch, sync_batch, none or spectral"
            )
        if not num_classes:
            self.without_effect["label_dim"] = NO_LABELS
        if num_layers < 2:
            self.without_effect["doubling"] = f"there is no second hidden layer with num_layers={num_layers}"
        if num_layers == 0:
            self.without_effect |= dict.fromkeys(["hidden", "norm", "dropout"], "num_layers=0 leaves no hidden layer")
        self.norm = norm
        self.dropout = dropout
        self.label = nn.Embedding(num_classes, label_dim) if num_classes else None
        self.label_size = label_dim if num_classes else 0
        self.hidden_sizes = [hidden * 2 ** (doubling * i) for i in range(num_layers)]

    def build_layers(self, sizes: list[int]) -> list[nn.Module]:
        """Layers from each size to the next; the last one is linear alone."""
        layers: list[nn.Module] = []
        for inputs, outputs in zip(sizes[:-2], sizes[1:-1], strict=True):
            layers.append(nn.Linear(inputs, outputs, bias=needs_bias(self.norm)))
            if self.norm in NORMS_1D:
                layers.append(NORMS_1D[self.norm](outputs))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
        return [*layers, nn.Linear(sizes[-2], sizes[-1])]

    def with_labels(self, vectors: Tensor, labels: Tensor | None) -> Tensor:
        """Vectors (N, ...) with the embeddings of the labels (N,) concatenated, if the network has classes."""
        if self.label is None:
            return vectors
        return torch.cat([vectors, self.label(labels).to(vectors.dtype)], dim=1)


@GENERATORS.register("mlp")
class MLPGenerator(MLP):
    """Linear layers that double in size, LeakyReLU 0.2, tanh, for images of any size."""

    def __init__(self, *, latent_dim: PositiveInt, shape: ImageShape, **others: Any) -> None:
        super().__init__(**others)
        self.shape = shape
        sizes = [latent_dim + self.label_size, *self.hidden_sizes, prod(shape)]
        self.layers = nn.Sequential(*self.build_layers(sizes), nn.Tanh())
        self.init_weights()

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, latent_dim), and (N,) labels if the network has classes, to images (N, C, H, W) in [-1, 1]."""
        return self.layers(self.with_labels(latent, labels)).view(-1, *self.shape)


@DISCRIMINATORS.register("mlp")
class MLPDiscriminator(MLP):
    """Linear layers that halve in size down to ``hidden``, LeakyReLU 0.2, for images of any size."""

    def __init__(self, *, shape: ImageShape, num_outputs: PositiveInt, **others: Any) -> None:
        super().__init__(**others)
        sizes = [prod(shape) + self.label_size, *reversed(self.hidden_sizes), num_outputs]
        self.layers = nn.Sequential(*self.build_layers(sizes))
        self.init_weights()

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W), and (N,) labels if the network has classes, to logits (N, num_outputs)."""
        return self.layers(self.with_labels(image.flatten(1), labels))
