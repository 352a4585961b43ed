"""The keys under ``metrics``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeAlias

import torch

from gantrain.config.schema import NonNegativeInt, PositiveInt, Range, construct, takes
from gantrain.errors import ConfigError, nearest
from gantrain.metrics.base import FeatureMetric, Features, Metric, Resize, Shape
from gantrain.registry import METRICS

Against: TypeAlias = Literal["train", "test", "both"]
SampleCount: TypeAlias = Annotated[int, Range(at_least=2, at_most=10_000_000)]


# Keys under ``metrics`` without a meaning after training, each with the reason.
OF_TRAINING = dict.fromkeys(("every", "optional"), "it is for training")


@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    """The keys under ``metrics`` that do not belong to one metric."""

    every: PositiveInt | None  # Steps between measurements; None for one at the end of the run.
    samples: SampleCount  # The number of images that are generated from noise, or translated at most.
    features: str | None  # The feature network; None for ``digits`` on the built-in data, ``inception`` on any other.
    weights: str | None  # The path of its weights; None for where it looks for them itself.
    resize: Resize  # How images are resized for it.
    channels: list[NonNegativeInt] | None  # The channels that it is given of images with other numbers than 1 and 3.
    # The real images: of the phase train or test, or both; None for train from noise, and test in translation.
    against: Against | None
    real: SampleCount | None  # The real images at most; None for all.
    seed: int  # Of the noise, and of subsets.
    segmenter: str | None = None  # The path of a network that finds the classes of the pixels of photos.
    optional: bool  # Whether models that can't be measured are left alone instead of refused.


@dataclass(frozen=True)
class ChosenMetrics:
    """What is to be measured, and how."""

    settings: MetricsSettings
    metrics: dict[str, Metric]  # By name.

    @classmethod
    def split(cls, config: Mapping[str, Any]) -> ChosenMetrics | None:
        """Split the keys under ``metrics`` and build the metrics; None if there are none.

        Raises:
            ConfigError: A key or value is wrong.
        """
        shared = {field.name for field in fields(MetricsSettings)}
        own = {key: value for key, value in config.items() if key not in shared}
        for key, value in own.items():
            if not isinstance(value, Mapping):
                raise ConfigError(f"metrics.{key}={value}: unknown key; {nearest(key, [*shared, *METRICS])}")
        segmenter = config.get("segmenter")
        metrics = {key: METRICS.build(value, key=f"metrics.{key}", segmenter=segmenter) for key, value in own.items()}
        settings = {key: config[key] for key in config if key in shared}
        return cls(construct(MetricsSettings, settings, key="metrics"), metrics) if metrics else None

    def prepare(self, shape: Shape, device: torch.device) -> None:
        """Build the networks of metrics with one of their own, for images of this shape."""
        for metric in self.metrics.values():
            if isinstance(metric, FeatureMetric):
                metric.prepare(shape)
                if metric.own is not None:
                    metric.own.to(device)

    def networks(self, features: Features | None) -> dict[str, Features]:
        """The networks of metrics with one of their own, by metric, and ``features``, under the empty name."""
        metrics = self.metrics.items()
        own = {name: each.own for name, each in metrics if isinstance(each, FeatureMetric) and each.own is not None}
        return own if features is None else {"": features, **own}

    @property
    def draws(self) -> bool:
        """Whether a metric depends on the seed, besides the noise."""
        return any(isinstance(metric, FeatureMetric) and metric.draws for metric in self.metrics.values())

    def without_effect(self, features: Features | None, *, noise: bool) -> dict[str, str]:
        """The keys that change nothing, each with the reason; ``noise`` is whether images are generated from noise."""
        reasons: dict[str, str] = {}
        if features is None:
            reasons |= dict.fromkeys(("features", "weights", "resize"), "no chosen metric needs metrics.features")
        elif not takes(type(features), "resize"):
            name = features.identity.split()[0]
            reasons["resize"] = f"the feature network {name} has its own way; metrics.features=inception takes it"
        if not noise and not self.draws:
            reasons["seed"] = "no chosen metric draws anything at random"
        if not any(takes(type(metric), "segmenter") for metric in self.metrics.values()):
            reasons["segmenter"] = "only metrics=cityscapes needs it"
        return reasons

    def protocol(self, networks: Mapping[str, Features]) -> list[str]:
        """What determines the features, in words."""
        usual = [networks[""].identity] if "" in networks else []
        if usual and takes(type(networks[""]), "resize"):
            usual.insert(0, self.settings.resize)
        own = [f"{name}: {network.identity}" for name, network in networks.items() if name]
        return [*usual, *own, *(metric.identity for metric in self.metrics.values() if metric.identity)]

    def higher_is_better(self) -> dict[str, bool]:
        """Whether more is better, by the name of each number."""
        return {name: more for metric in self.metrics.values() for name, more in metric.higher_is_better.items()}
