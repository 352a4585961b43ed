"""A measurement from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gantrain.config.schema import takes
from gantrain.data.base import BUILT_IN, ImageDataset, Selection
from gantrain.data.errors import OnError
from gantrain.data.joined import Joined
from gantrain.data.settings import CACHE_KEYS, STREAM_KEYS
from gantrain.errors import ConfigError
from gantrain.metrics.base import FeatureMetric, Features, spaced
from gantrain.metrics.measure import Measurement
from gantrain.metrics.reference import Comparison, Reference
from gantrain.metrics.settings import Against, ChosenMetrics, MetricsSettings
from gantrain.models.base import GAN, LatentGAN
from gantrain.models.translation import TranslationGAN
from gantrain.registry import FEATURES

UNSEEN = 100  # Held-out images at most whose distances to those of training are compared with generated ones'.


def build_measurement(
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    model: GAN,
    train_set: ImageDataset,
    test_set: ImageDataset | None,
    device: torch.device,
    on_error: OnError = "raise",
) -> Measurement | None:
    """The measurement of a model, checked; None if no metrics are chosen.

    Args:
        config: The keys under ``metrics``.
        data: The keys under ``data``.
        model: The model to be measured.
        train_set: The images of training.
        test_set: Held-out images, if there are any.
        device: The device of the feature network.
        on_error: The response to unreadable images.

    Raises:
        ConfigError: Weights are missing, or the images don't suit a metric or the feature network.
    """
    chosen = ChosenMetrics.split(config)
    if chosen is None:
        return None
    if chosen.settings.optional and not isinstance(model, (LatentGAN, TranslationGAN)):
        return None
    features = build_features(chosen, "digits" if data.get("mode") in BUILT_IN else "inception", device)
    spec, channels = train_set.spec, chosen.settings.channels
    count = max(spec.channels.values()) if channels is None else len(channels)
    chosen.prepare((count, spec.height, spec.width), device)
    sets = {"train": train_set, "test": test_set}
    comparisons = list(_comparisons(model, sets, chosen.settings, data))
    measurement = Measurement(chosen, features, comparisons, train_set.spec, on_error)
    try:
        measurement.check()
    except ConfigError:
        if chosen.settings.optional:
            return None
        raise
    return measurement


def build_features(chosen: ChosenMetrics, usual: str, device: torch.device) -> Features | None:
    """The feature network, the ``usual`` one if none is named; None if no metric needs any."""
    if not any(isinstance(metric, FeatureMetric) and metric.needs_features for metric in chosen.metrics.values()):
        return None
    settings = chosen.settings
    config = {"name": settings.features or usual}
    if settings.weights is not None and not takes(FEATURES[config["name"]], "weights"):
        raise ConfigError(
            f"metrics.weights={settings.weights}: the feature network {config['name']} has its own weights"
        )
    features: Features = FEATURES.build(config, weights=settings.weights, resize=settings.resize)
    return features.to(device)


def _comparisons(
    model: GAN, sets: Mapping[str, ImageDataset | None], settings: MetricsSettings, data: Mapping[str, Any]
) -> list[Comparison]:
    if isinstance(model, LatentGAN):
        against = settings.against or "train"
        has_unseen = against == "train" and sets["test"] is not None
        unseen = _reference(sets, "test", "image", data, UNSEEN) if has_unseen else None
        return [Comparison(_reference(sets, against, "image", data, settings.real), unseen=unseen)]
    if isinstance(model, TranslationGAN):
        against = settings.against or ("test" if sets["test"] is not None else "train")
        found = []
        for direction in model.directions:
            colours = "image" in model.needs  # Both domains are of the same images, as in colorization.
            source, target = ("image", "image") if colours else (direction[0], direction[-1])
            # Models of unpaired domains are compared with each other, whether they translate one way or both.
            unpaired = model.needs >= {"a", "b"} and not model.needs_pairs
            suffix = f"_{direction}" if unpaired or len(model.directions) > 1 else ""
            whole = _chosen(sets, against)
            images = whole if whole.paired else whole.of_domain(source)
            found.append(Comparison(_reference(sets, against, target, data, settings.real), direction, images, suffix))
        return found
    raise ConfigError(f"metrics: {type(model).__name__} neither generates images from noise nor translates any")


def _chosen(sets: Mapping[str, ImageDataset | None], against: Against) -> ImageDataset:
    if against != "train" and sets["test"] is None:
        raise ConfigError(f"metrics.against={against}: the data set holds no images out; give metrics.against=train")
    found = [each for phase, each in sets.items() if against in (phase, "both") and each is not None]
    return found[0] if len(found) == 1 else Joined(found)


def _reference(
    sets: Mapping[str, ImageDataset | None], against: Against, key: str, data: Mapping[str, Any], limit: int | None
) -> Reference:
    dataset = _chosen(sets, against).of_domain(key).distinct()
    if limit is not None and limit < len(dataset):
        dataset = Selection(dataset, spaced(len(dataset), limit))
    stamp = dataset.stamp()
    left_out = (
        *STREAM_KEYS,
        *CACHE_KEYS,
        *(["root"] if stamp else []),
    )  # A stamp tells images of another folder apart.
    named = {name: value for name, value in data.items() if name not in left_out}
    identity = {"data": named, "images": stamp, "against": against, "domain": key}
    words = {"train": "train", "test": "test", "both": "train and test"}
    return Reference(dataset, key, f"{len(dataset)} {words[against]}", identity)
