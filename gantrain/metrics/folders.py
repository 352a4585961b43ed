"""Measuring any folder of images against another, or against stored statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gantrain.config.overrides import refuse_idle
from gantrain.data.base import ImageDataset, Selection, to_uint8
from gantrain.data.sets.single import SingleFolder
from gantrain.data.stream import in_order
from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted, FeatureMetric, Features, PairMetric, spaced
from gantrain.metrics.build import build_features
from gantrain.metrics.features.extraction import extract
from gantrain.metrics.frechet import FrechetDistance, Moments, moments, moments_distance
from gantrain.metrics.samples import block_size
from gantrain.metrics.settings import OF_TRAINING, ChosenMetrics

ALL = "all images of both folders are compared; give folders with fewer"
OF_RUNS = {"samples": ALL, "real": ALL, "against": "the real images are those of real=FOLDER"}


def measure_folders(
    config: Mapping[str, Any],
    fake: Path,
    real: Path,
    *,
    size: int | None,
    device: torch.device,
    overrides: Sequence[str] = (),
) -> tuple[dict[str, float], str]:
    """The metrics of two folders of images, and their protocol.

    Args:
        config: The keys under ``metrics``.
        fake: The generated images.
        real: The real images, or a ``.npz`` with the mean ``mu`` (D,) and the covariance ``sigma`` (D, D) of features.
        size: The side to which images are scaled; None for as they are.
        device: The device of the feature network.
        overrides: As typed, to be refused where they change nothing.

    Raises:
        ConfigError: There are no such images or statistics, or the metrics don't suit them.
    """
    chosen = ChosenMetrics.split(config)
    if chosen is None:
        raise ConfigError("no metrics are chosen: give metrics=fid, or several as metrics=[fid,kid]")
    features = build_features(chosen, "inception", device)
    idle = OF_TRAINING | OF_RUNS | chosen.without_effect(features, noise=False)
    refuse_idle(overrides, "metrics", idle)
    channels = 3 if features is None or chosen.settings.channels is not None else features.channels
    generated = _images(fake, size, channels)
    chosen.prepare(generated.spec.shape("image"), device)
    networks = chosen.networks(features)
    words = chosen.protocol(networks)
    if real.suffix == ".npz":
        statistics = _statistics(real, features)
        if features is None or any(not isinstance(each, FrechetDistance) for each in chosen.metrics.values()):
            raise ConfigError(f"real={real} contains only the statistics of metrics=fid; give real=FOLDER for others")
        distance = moments_distance(moments(_features(generated, features, chosen).features), statistics)
        return {"fid": distance}, ", ".join([*words, f"{len(generated)} fake vs {real.name}"])
    reals = _images(real, size, channels)
    for name, metric in chosen.metrics.items():
        network = networks.get(name, features)
        metric.check(network, generated.spec.shape("image"), generated=len(generated), real=len(reals))
        if isinstance(metric, PairMetric):
            _check_pairs(name, metric, generated, reals)
    drawn = [f"seed {chosen.settings.seed}"] if chosen.draws else []
    protocol = ", ".join([*words, f"{len(generated)} fake vs {len(reals)} real", *drawn])
    numbers: dict[str, float] = {}
    pairs = _pairs(chosen, generated, reals)
    both = {
        name: (_features(generated, network, chosen), _features(reals, network, chosen))
        for name, network in networks.items()
    }
    for name, metric in chosen.metrics.items():
        if isinstance(metric, FeatureMetric):
            numbers |= metric.compute(*both[name if name in both else ""], seed=chosen.settings.seed)
        elif isinstance(metric, PairMetric):
            numbers |= {key: metric.reduce(key, pairs[key]) for key in metric.higher_is_better if key in pairs}
    return numbers, protocol


def _images(folder: Path, size: int | None, channels: int) -> SingleFolder:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder of images")
    return SingleFolder(
        root=str(folder),
        list=None,
        channels=channels,
        load_size=size or 1,
        crop_size=size or 1,
        crop="center",
        flip=False,
        phase="test",
        preprocess="resize_and_crop" if size else "none",
        range=None,
        depth="auto",
        decoder="exact",
    )


def _check_pairs(name: str, metric: PairMetric, generated: SingleFolder, reals: SingleFolder) -> None:
    if metric.of_generated:
        raise ConfigError(f"metrics={name} compares images that a model generates: give run=RUN instead of folders")
    if _names(generated) != _names(reals):
        raise ConfigError(f"metrics={name} compares pairs of images: the files of both folders need the same names")


def _names(dataset: SingleFolder) -> list[str]:
    """The names of the images without their suffixes."""
    return [str(Path(name).with_suffix("")) for name in dataset.readers["image"].names]


def _batches(dataset: ImageDataset) -> Any:
    size = block_size(dataset.spec.height, dataset.spec.width)
    for batch in in_order(dataset, size, torch.device("cpu"), torch.float32):
        yield to_uint8(batch["image"])


def _features(dataset: ImageDataset, network: Features, chosen: ChosenMetrics) -> Extracted:
    count = len(dataset)
    if network.limit is not None:
        dataset = Selection(dataset, spaced(count, min(count, network.limit)))
    return Extracted.joined([extract(network, images, chosen.settings.channels).cpu() for images in _batches(dataset)])


def _pairs(chosen: ChosenMetrics, generated: ImageDataset, reals: ImageDataset) -> dict[str, Tensor]:
    """The numbers of each pair, by name."""
    metrics = [metric for metric in chosen.metrics.values() if isinstance(metric, PairMetric)]
    found: dict[str, list[Tensor]] = {}
    for fake, real in zip(_batches(generated), _batches(reals), strict=False) if metrics else ():
        if fake.shape != real.shape:
            raise ConfigError(
                f"images of a pair differ in size: {tuple(fake.shape)} and {tuple(real.shape)}; give size=N"
            )
        for metric in metrics:
            for name, values in metric.compute(fake, real).items():
                found.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in found.items()}


def _statistics(path: Path, features: Features | None) -> Moments:
    try:
        with np.load(path) as file:
            mean, covariance = (torch.from_numpy(file[key]).double() for key in ("mu", "sigma"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"real={path}: no statistics with mu and sigma ({type(error).__name__}: {error})") from None
    dim = features.dim if features is not None else len(mean)
    if mean.shape != (dim,) or covariance.shape != (dim, dim):
        raise ConfigError(f"real={path}: statistics of {tuple(mean.shape)} features, and the network has {dim}")
    return Moments(mean, covariance)
