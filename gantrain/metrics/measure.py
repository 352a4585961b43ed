"""Measuring a model: its images against real ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gantrain.data.base import Batch, ImageDataset, ImageSpec, Selection, to_uint8
from gantrain.data.errors import OnError
from gantrain.data.stream import in_order
from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted, FeatureMetric, Features, PairMetric
from gantrain.metrics.reference import stored_features
from gantrain.metrics.samples import block_size, blocks, generate
from gantrain.metrics.settings import ChosenMetrics
from gantrain.models.base import GAN, LatentGAN
from gantrain.models.translation import Direction, TranslationGAN
from gantrain.runtime import console, distributed

MAX_CLASSES = 100  # With more, there are no numbers per class.


class MeasurementError(Exception):
    """The images of a model could not be measured."""


@dataclass(frozen=True)
class Reference:
    """The real images that generated ones are compared with."""

    dataset: ImageDataset
    key: str  # Of the images in its items.
    label: str  # Their number and phase, for protocols: ``140 test``.
    identity: Mapping[str, Any]  # Plain values that determine them.

    @property
    def labels(self) -> Tensor | None:
        """The classes of all images, if they have any."""
        return None if self.dataset.labels is None else torch.tensor(list(self.dataset.labels))


@dataclass(frozen=True)
class Comparison:
    """One thing that is measured: a model's images, or one direction of a translation, against real images."""

    real: Reference
    direction: Direction | None = None  # None for images from noise.
    source: ImageDataset | None = None  # The images that are translated.
    suffix: str = ""  # Of the names of its numbers.


@dataclass(frozen=True)
class Measurement:
    """Measures a model by the chosen metrics. Every rank must have one, and call it together."""

    chosen: ChosenMetrics
    features: Features | None  # None if no metric needs any.
    comparisons: list[Comparison]
    spec: ImageSpec
    on_error: OnError = "raise"

    def check(self) -> None:
        """Refuse what can't be measured, before any step.

        Raises:
            ConfigError: A number of channels or images, or a metric that needs pairs where there are none.
        """
        for each in self.comparisons:
            if self.features is not None:
                fit_channels(
                    self.features,
                    torch.zeros(1, each.real.dataset.spec.channels[each.real.key], 1, 1),
                    self.chosen.settings.channels,
                )
            for name, metric in self.chosen.metrics.items():
                if isinstance(metric, PairMetric) and (each.source is None or not each.source.paired):
                    raise ConfigError(f"metrics={name} compares pairs of images, and this data set has none")
                metric.check(
                    self.features,
                    each.real.dataset.spec.shape(each.real.key),
                    generated=self.count(each),
                    real=len(each.real.dataset),
                )

    def is_due(self, step: int, *, last: bool) -> bool:
        """Whether the weights after so many steps are measured; those of the last one always are."""
        every = self.chosen.settings.every
        return last or (every is not None and step % every == 0)

    def count(self, comparison: Comparison) -> int:
        """The number of generated images."""
        samples = self.chosen.settings.samples
        return samples if comparison.source is None else min(samples, len(comparison.source))

    def protocol(self, *, averaged: bool) -> str:
        """How the numbers are measured: ``clean, digits 1a2b3c4d, 1000 fake vs 4500 train, moving average, seed 0``.

        ``averaged`` is whether the weights are moving averages.
        """
        settings, network = self.chosen.settings, self.features
        words = [settings.resize, network.identity] if network is not None else []
        for each in self.comparisons:
            name = f"{each.suffix[1:]}: " if each.suffix else ""
            words.append(f"{name}{self.count(each)} fake vs {each.real.label}")
        words += ["moving average"] if averaged else []
        return ", ".join([*words, *([f"seed {settings.seed}"] if self.comparisons[0].source is None else [])])

    def __call__(self, model: GAN) -> dict[str, float]:
        """The numbers by name, the same on every rank. The model is in evaluation mode, with the weights of rank 0.

        Raises:
            MeasurementError: An image could not be generated or read.
        """
        numbers: dict[str, float] = {}
        for each in self.comparisons:
            generated, pairs = self._generated(model, each)
            real = self._real(each.real)
            if generated is None:
                continue  # Another rank has them.
            found = self._computed(generated, real, pairs)
            numbers |= {name + each.suffix: value for name, value in found.items()}
        return distributed.all_gather_object(numbers)[0]

    def _computed(self, generated: Extracted, real: Extracted | None, pairs: Mapping[str, Tensor]) -> dict[str, float]:
        """The numbers of one comparison; a metric that fails is reported and left out."""
        numbers: dict[str, float] = {}
        for name, metric in self.chosen.metrics.items():
            try:
                if isinstance(metric, PairMetric):
                    own = {key: value for key, value in pairs.items() if key in metric.higher_is_better}
                    numbers |= {key: metric.reduce(key, value) for key, value in own.items()}
                elif isinstance(metric, FeatureMetric) and real is not None:
                    numbers |= metric.compute(generated, real, seed=self.chosen.settings.seed)
                    numbers |= self._per_class(metric, generated, real)
            except Exception as error:  # A plug-in's may raise anything, and a run must not end by it.
                console.above_bars(f"warning: metrics={name} failed: {type(error).__name__}: {error}")
        if self.features is not None and self.features.num_classes == self.spec.num_classes > 0:
            numbers |= self._accuracy(generated)
        return numbers

    def _per_class(self, metric: FeatureMetric, generated: Extracted, real: Extracted) -> dict[str, float]:
        if generated.labels is None or real.labels is None or self.spec.num_classes > MAX_CLASSES:
            return {}
        numbers: dict[str, float] = {}
        for label, name in enumerate(self.spec.class_names):
            parts = generated.of_class(label), real.of_class(label)
            if min(map(len, parts)) >= 2:
                found = metric.compute(*parts, seed=self.chosen.settings.seed)
                numbers |= {f"{key}_class_{name}": value for key, value in found.items()}
        return numbers

    def _accuracy(self, generated: Extracted) -> dict[str, float]:
        """The share of images that the feature network assigns to the class that was asked for."""
        if generated.labels is None or generated.logits is None or self.features is None:
            return {}
        found = self.features.classes(generated.logits)
        return {"accuracy": (found == generated.labels).double().mean().item()}

    def _generated(self, model: GAN, comparison: Comparison) -> tuple[Extracted | None, dict[str, Tensor]]:
        """What the feature network makes of the generated images, and the numbers of each pair, on rank 0."""
        count, size = self.count(comparison), block_size(self.spec.height, self.spec.width)
        rank, ranks = distributed.rank(), distributed.world_size()
        parts: dict[int, tuple[Extracted, dict[str, Tensor]]] = {}
        failure = ""
        try:
            for numbers in blocks(count, size, rank=rank, world_size=ranks):
                parts[numbers.start] = self._block(model, comparison, numbers, count)
        except Exception as error:  # The other ranks wait for this one.
            failure = f"{type(error).__name__}: {error}"
        gathered = distributed.gather_object((failure, _to_cpu(parts)))
        failures = distributed.all_gather_object(failure)
        if any(failures):
            raise MeasurementError(next(filter(None, failures)))
        if gathered is None:
            return None, {}
        everything = {start: part for _, own in gathered for start, part in own.items()}
        ordered = [everything[start] for start in sorted(everything)]
        pairs = {name: torch.cat([pair[name] for _, pair in ordered]) for name in ordered[0][1]}
        return Extracted.joined([extracted for extracted, _ in ordered]), pairs

    def _block(
        self, model: GAN, comparison: Comparison, numbers: range, count: int
    ) -> tuple[Extracted, dict[str, Tensor]]:
        if comparison.source is None:
            assert isinstance(model, LatentGAN)
            images, labels = generate(model, numbers, seed=self.chosen.settings.seed)
            kept = slice(max(0, min(len(numbers), count - numbers.start)))
            extracted = self._extract(images)
            whole = Extracted(extracted.features, extracted.logits, labels)
            return whole.part(kept), {}
        assert isinstance(model, TranslationGAN)
        assert comparison.direction is not None
        found: list[Extracted] = []
        pairs: dict[str, list[Tensor]] = {}
        chosen = Selection(comparison.source, [number for number in numbers if number < count])
        device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
        for batch in in_order(chosen, len(numbers), device, dtype, on_error=self.on_error):
            images, targets = _translated(model, batch, comparison.direction)
            found.append(self._extract(images))
            for metric in self.chosen.metrics.values():
                if isinstance(metric, PairMetric) and targets is not None:
                    for name, value in metric.compute(images, targets).items():
                        pairs.setdefault(name, []).append(value)
        return Extracted.joined(found), {name: torch.cat(values) for name, values in pairs.items()}

    def _extract(self, images: Tensor) -> Extracted:
        if self.features is None:
            return Extracted(torch.empty(len(images), 0))
        return extract(self.features, images, self.chosen.settings.channels)

    def _real(self, real: Reference) -> Extracted | None:
        """What the feature network makes of the real images, on rank 0; from the cache, if they have been measured."""
        network = self.features
        if network is None or not any(isinstance(each, FeatureMetric) for each in self.chosen.metrics.values()):
            return None
        size, count = block_size(self.spec.height, self.spec.width), len(real.dataset)
        ranges = [range(first, min(first + size, count)) for first in range(0, count, size)]

        def of_block(numbers: range) -> Tensor:
            rows = torch.full((len(numbers), network.dim), torch.nan)  # Unreadable images have no features.
            start = 0
            chosen = Selection(real.dataset, numbers)
            for batch in in_order(chosen, size, torch.device("cpu"), torch.float32, on_error=self.on_error):
                features = self._extract(to_uint8(batch[real.key])).features
                rows[start : start + len(features)] = features.cpu()
                start += len(features)
            return rows

        settings = self.chosen.settings
        identity = {
            "images": dict(real.identity),
            "features": network.identity,
            "resize": settings.resize,
            "channels": settings.channels,
            "torch": torch.__version__,
        }
        rows = stored_features(identity, ranges, network.dim, of_block)
        if distributed.rank():
            return None
        readable = rows.isfinite().all(dim=1)
        labels = real.labels
        return Extracted(rows[readable], labels=None if labels is None else labels[readable])


def extract(network: Features, images: Tensor, channels: Sequence[int] | None) -> Extracted:
    """What a feature network makes of images (N, C, H, W) uint8, of which it is given these ``channels``."""
    with torch.no_grad(), _float32():
        return Extracted(*network(fit_channels(network, images.to(next(network.parameters()).device), channels)))


def fit_channels(network: Features, images: Tensor, channels: Sequence[int] | None) -> Tensor:
    """Images (N, C, H, W) with the channels that the network takes: those chosen, and gray is repeated to three.

    Raises:
        ConfigError: They have other channels.
    """
    wanted = network.channels
    if channels is not None:
        if max(channels, default=0) >= images.shape[1]:
            raise ConfigError(f"metrics.channels={list(channels)}: the images have {images.shape[1]}, counted from 0")
        images = images[:, list(channels)]
    found = images.shape[1]
    if found == 1 and wanted == 3:
        return images.expand(-1, 3, -1, -1)
    if found != wanted:
        remedy = "metrics.channels=[0,1,2]" if wanted == 3 else "metrics.channels=[0] or metrics.features=inception"
        raise ConfigError(
            f"the feature network {network.identity.split()[0]} takes {wanted} channel{'s' * (wanted > 1)}, and the "
            f"images have {found}: give {remedy}"
        )
    return images


def _translated(model: TranslationGAN, batch: Batch, direction: Direction) -> tuple[Tensor, Tensor | None]:
    """Translated images and, if the batch has them, the images that they should equal, (N, C, H, W) uint8."""
    shown = model.results(batch, direction)
    target = shown.get(f"real_{direction[-1]}")
    return to_uint8(shown[f"fake_{direction[-1]}"]), None if target is None else to_uint8(target)


@contextmanager
def _float32() -> Iterator[None]:
    """Inside, convolutions and matrix products on a GPU are in full float32."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def _to_cpu(parts: dict[int, tuple[Extracted, dict[str, Tensor]]]) -> dict[int, tuple[Extracted, dict[str, Tensor]]]:
    """The parts of this rank with tensors on the CPU."""
    return {
        start: (extracted.cpu(), {name: value.cpu() for name, value in pairs.items()})
        for start, (extracted, pairs) in parts.items()
    }
