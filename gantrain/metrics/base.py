"""The interfaces of metrics: networks that turn images into features, and numbers computed from features or pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

Resize: TypeAlias = Literal["clean", "legacy"]
Shape: TypeAlias = tuple[int, int, int]  # Channels, height and width of images.


class MeasurementError(Exception):
    """The images of a model could not be measured."""


class Features(nn.Module, ABC):
    """A network whose features of images are compared. It must treat every image of a batch alone.

    Attributes:
        identity: Its name and the start of its weights' hash, for protocols and caches: ``inception 6726825d``.
        channels: The number of channels that it takes: 1 or 3.
        dim: The number of features of an image.
        num_classes: The number of its logits; 0 if it is no classifier.
        class_names: The classes that it distinguishes, in the order of its logits; empty if they have no names.
        limit: The largest number of images of each kind that it is given; None for all.
    """

    identity: str
    channels: int
    dim: int
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    limit: int | None = None

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (N, dim) and, of a classifier, logits (N, classes), float32.

        Args:
            images: (N, channels, H, W) uint8, of any height and width; the network resizes them.
        """

    def classes(self, logits: Tensor) -> Tensor:
        """The most probable class of each image, (N,), from its logits."""
        return logits.argmax(dim=1)


@dataclass(frozen=True)
class Extracted:
    """What the feature network makes of N images."""

    features: Tensor  # (N, dim) float32.
    logits: Tensor | None = None  # (N, classes) float32, of a classifier.
    labels: Tensor | None = None  # (N,), the classes of real images or those that were asked for.

    def __len__(self) -> int:
        return len(self.features)

    @classmethod
    def joined(cls, parts: Sequence[Extracted]) -> Extracted:
        """The images of all parts, at least one, in order."""
        columns = zip(*(part.tensors for part in parts), strict=True)
        features, logits, labels = (torch.cat(column) if column[0] is not None else None for column in columns)
        assert features is not None
        return cls(features, logits, labels)

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """Features, logits and labels."""
        return self.features, self.logits, self.labels

    def part(self, chosen: slice | Tensor) -> Extracted:
        """Some of the images, by a slice or a mask (N,)."""
        logits, labels = (value if value is None else value[chosen] for value in (self.logits, self.labels))
        return Extracted(self.features[chosen], logits, labels)

    def cpu(self) -> Extracted:
        """The same with tensors on the CPU."""
        logits, labels = (value if value is None else value.cpu() for value in (self.logits, self.labels))
        return Extracted(self.features.cpu(), logits, labels)

    def of_class(self, label: int) -> Extracted:
        """The images with this label."""
        assert self.labels is not None
        return self.part(self.labels == label)


def spaced(length: int, count: int) -> list[int]:
    """The numbers of ``count`` of ``length`` images, evenly spaced."""
    return [number * length // count for number in range(count)]


class Metric(ABC):
    """Numbers that say how good generated images are. The keys of its YAML file are its arguments.

    Attributes:
        higher_is_better: Whether more is better, for each number by name.
        identity: What else than the images its numbers depend on, for protocols.
    """

    higher_is_better: ClassVar[Mapping[str, bool]]
    identity: str = ""

    def check(self, features: Features | None, shape: Shape, *, generated: int, real: int) -> None:
        """Raise ``ConfigError`` if the metric can't be computed from so many images of this shape by this network."""


class FeatureMetric(Metric):
    """A metric of the features of generated and real images.

    Attributes:
        needs_features: Whether the features are those of ``metrics.features``, and not of a network of its own.
        draws: Whether its numbers depend on the seed.
        own: That network, or None.
    """

    needs_features: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    own: Features | None = None

    def prepare(self, shape: Shape) -> None:
        """Build its own network, if it has one, for images of this shape. Called once, before ``check``."""

    @abstractmethod
    def compute(self, generated: Extracted, real: Extracted, *, seed: int) -> dict[str, float]:
        """Numbers by name; ``seed`` selects subsets, if it draws any."""


class PairMetric(Metric):
    """A metric of pairs of a generated and a real image, averaged over all pairs.

    Attributes:
        of_generated: Whether both images of a pair are generated, from noise: numbers 0 and 1, 2 and 3, and so on.
    """

    of_generated: ClassVar[bool] = False

    @abstractmethod
    def compute(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Numbers (N, ...) by name, a row per pair, in float64; both are (N, C, H, W) uint8."""

    def compute_from(self, generated: Tensor, real: Tensor, source: Tensor) -> dict[str, Tensor]:
        """``compute`` for translations of ``source``, (N, C, H, W) uint8, which a metric may need, too."""
        return self.compute(generated, real)

    def reduce(self, name: str, values: Tensor) -> float:
        """One number for all pairs, from the rows of ``compute``: the mean, unless a metric is defined otherwise."""
        return values.double().mean().item()
