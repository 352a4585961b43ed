"""Measuring a model: its images against real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from gantrain.data.base import Batch, ImageDataset, ImageSpec, Selection, to_uint8
from gantrain.data.errors import OnError
from gantrain.data.stream import in_order
from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted, FeatureMetric, Features, MeasurementError, PairMetric
from gantrain.metrics.features.extraction import Part, extract, fit_channels, full_float32, joined, on_cpu
from gantrain.metrics.reference import Comparison, Reference, real_features
from gantrain.metrics.samples import block_size, blocks, generate
from gantrain.metrics.settings import ChosenMetrics
from gantrain.models.base import GAN, LatentGAN
from gantrain.models.translation import Direction, TranslationGAN
from gantrain.runtime import console, distributed

# Is given the images of a comparison, the real ones, and held-out ones, if the real ones are those of training.
Observer: TypeAlias = Callable[[Comparison, Extracted, Extracted, "Extracted | None"], None]
MAX_CLASSES = 100  # With more, there are no numbers per class.


@dataclass
class Measurement:
    """Measures a model by the chosen metrics. Every rank must have one, and call it together."""

    chosen: ChosenMetrics
    features: Features | None  # None if no metric needs any.
    comparisons: list[Comparison]
    spec: ImageSpec
    on_error: OnError = "raise"
    observers: list[Observer] = field(default_factory=list)  # Are shown the features of every comparison, on rank 0.

    def check(self) -> None:
        """Refuse what can't be measured, before any step.

        Raises:
            ConfigError: A number of channels or images, or a metric that needs pairs where there are none.
        """
        for each in self.comparisons:
            shape = each.real.dataset.spec.shape(each.real.key)
            for own in self.networks.values():
                fit_channels(own, torch.zeros(1, shape[0], 1, 1, dtype=torch.uint8), self.chosen.settings.channels)
            for name, metric in self.chosen.metrics.items():
                if isinstance(metric, PairMetric):
                    _check_pairs(name, metric, each)
                network = self.networks.get(self._network(name))
                metric.check(network, shape, generated=self.count(each), real=len(each.real.dataset))

    def use_class_names(self, names: Sequence[str], spec: ImageSpec) -> None:
        """Number the classes of the real images as a run does, whose images have this ``spec`` now."""
        for each in self.comparisons:
            each.real.dataset.use_class_names(names)
        self.spec = spec

    @cached_property
    def networks(self) -> dict[str, Features]:
        """Those of ``ChosenMetrics.networks``."""
        return self.chosen.networks(self.features)

    def _network(self, metric: str) -> str:
        """The name of the network of a metric."""
        return metric if metric in self.networks else ""

    def is_due(self, step: int, *, last: bool) -> bool:
        """Whether the weights after so many steps are measured; those of the last one always are."""
        every = self.chosen.settings.every
        return last or (every is not None and step % every == 0)

    def names(self, model: GAN) -> list[str]:
        """The names of all numbers of this model that may be measured."""
        metrics = self.chosen.metrics.values()
        found = [
            key + each.suffix for metric in metrics for key in metric.higher_is_better for each in self.comparisons
        ]
        if not (isinstance(model, LatentGAN) and model.uses_labels):
            return found
        if self.spec.num_classes <= MAX_CLASSES:
            per_class = [key for each in metrics if isinstance(each, FeatureMetric) for key in each.higher_is_better]
            found += [f"{key}_class_{name}" for key in per_class for name in self.spec.class_names]
        return [*found, *(["accuracy"] if self._tells_classes() else [])]

    def count(self, comparison: Comparison) -> int:
        """The number of generated images whose features are compared."""
        samples = self.chosen.settings.samples
        return samples if comparison.source is None else min(samples, len(comparison.source))

    def _total(self, comparison: Comparison) -> int:
        """The number of images to be generated: also one for every pair that a metric compares."""
        in_pairs = any(isinstance(metric, PairMetric) for metric in self.chosen.metrics.values())
        return len(comparison.source) if comparison.source is not None and in_pairs else self.count(comparison)

    @property
    def without_effect(self) -> dict[str, str]:
        """The keys under ``metrics`` that change nothing, each with the reason."""
        noise = any(each.source is None for each in self.comparisons)
        reasons = self.chosen.without_effect(self.features, noise=noise)
        if not noise and all(isinstance(metric, PairMetric) for metric in self.chosen.metrics.values()):
            reasons["samples"] = "the chosen metrics compare all pairs"
        return reasons

    def protocol(self, *, averaged: bool) -> str:
        """How the numbers are measured: ``clean, digits 1a2b3c4d, 1000 fake vs 4500 train, moving average, seed 0``.

        ``averaged`` is whether the weights are moving averages.
        """
        words, seed = self.chosen.protocol(self.networks), self.chosen.settings.seed
        for each in self.comparisons:
            name = f"{each.suffix[1:]}: " if each.suffix else ""
            found = [f"{self.count(each)} fake vs {each.real.label}"] if self.networks else []
            pairs = self._total(each)
            found += [f"{pairs} pairs"] if each.source is not None and not found or pairs > self.count(each) else []
            words += [name + ", ".join(found)]
        words += ["moving average"] if averaged else []
        drawn = self.chosen.draws or self.comparisons[0].source is None
        return ", ".join([*words, *([f"seed {seed}"] if drawn else [])])

    def __call__(self, model: GAN) -> dict[str, float]:
        """The numbers by name, the same on every rank. The model is in evaluation mode, with the weights of rank 0.

        Raises:
            MeasurementError: An image could not be generated or read.
        """
        numbers: dict[str, float] = {}
        for each in self.comparisons:
            generated, pairs = self._generated(model, each)
            real = {name: self.real_features(network, each.real) for name, network in self.networks.items()}
            unseen = None
            if self.observers and self.features is not None and each.unseen is not None:
                with suppress(MeasurementError):  # No number depends on them.
                    unseen = self.real_features(self.features, each.unseen)
            if distributed.rank():
                continue  # Rank 0 has them.
            found = self._computed(generated, real, pairs)
            numbers |= {name + each.suffix: value for name, value in found.items()}
            if self.features is not None:
                for observe in self.observers:
                    observe(each, generated[""], real[""], unseen)
        return distributed.all_gather_object(numbers)[0]

    def _computed(
        self, generated: Mapping[str, Extracted], real: Mapping[str, Extracted], pairs: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """The numbers of one comparison; a metric that fails is reported and left out."""
        numbers: dict[str, float] = {}
        for name, metric in self.chosen.metrics.items():
            try:
                if isinstance(metric, PairMetric):
                    own = {key: value for key, value in pairs.items() if key in metric.higher_is_better}
                    numbers |= {key: metric.reduce(key, value) for key, value in own.items()}
                elif isinstance(metric, FeatureMetric):
                    both = generated[self._network(name)], real[self._network(name)]
                    numbers |= metric.compute(*both, seed=self.chosen.settings.seed)
                    numbers |= self._per_class(metric, *both)
            except Exception as error:  # A plug-in's may raise anything, and a run must not end by it.
                console.above_bars(f"warning: metrics={name} failed: {type(error).__name__}: {error}")
        return numbers | (self._accuracy(generated[""]) if self._tells_classes() else {})

    def _tells_classes(self) -> bool:
        """Whether the feature network distinguishes the classes of the data."""
        known = tuple(name.split()[0] for name in self.spec.class_names)  # MNIST's are `3 - three`.
        return self.features is not None and known != () and known == self.features.class_names

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

    def _generated(self, model: GAN, comparison: Comparison) -> Part:
        """What the networks make of all generated images, and the numbers of each pair, on rank 0."""
        count, size = self._total(comparison), block_size(self.spec.height, self.spec.width)
        rank, ranks = distributed.rank(), distributed.world_size()
        parts: dict[int, Part] = {}
        failure = ""
        try:
            for numbers in blocks(count, size, rank=rank, world_size=ranks):
                parts[numbers.start] = self._block(model, comparison, numbers, count)
        except Exception as error:  # The other ranks wait for this one.
            failure = f"{type(error).__name__}: {error}"
        gathered = distributed.gather_object((failure, on_cpu(parts)))
        found = distributed.all_gather_object((failure, any(map(any, parts.values()))))
        if failures := [each for each, _ in found if each]:
            raise MeasurementError(failures[0])
        if not any(is_any for _, is_any in found):
            raise MeasurementError("no image can be read")
        everything = {start: part for _, own in gathered or () for start, part in own.items()}
        return joined([everything[start] for start in sorted(everything)])

    def _block(self, model: GAN, comparison: Comparison, numbers: range, count: int) -> Part:
        kept = max(0, min(len(numbers), count - numbers.start))
        if comparison.source is None:
            assert isinstance(model, LatentGAN)
            images, labels = generate(model, numbers, seed=self.chosen.settings.seed)
            found = self._extracted(images, labels, numbers.start, count)
            even, odd = images[: kept // 2 * 2 : 2], images[1:kept:2]
            return found, self._pairs(even, odd)
        assert isinstance(model, TranslationGAN)
        assert comparison.direction is not None
        chosen = Selection(comparison.source, numbers[:kept])
        device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
        parts = []
        for batch in self._readable(chosen, device, dtype):
            images, source, targets = _translated(model, batch, comparison.direction)
            found = self._extracted(images, None, numbers.start, self.count(comparison))
            parts.append((found, {} if targets is None else self._pairs(images, targets, source)))
        return joined(parts)

    def _readable(self, dataset: ImageDataset, device: torch.device, dtype: torch.dtype) -> Iterator[Batch]:
        """The items of a block; without those that can't be read, which may be all, if they are to be skipped."""
        try:
            yield from in_order(dataset, len(dataset), device, dtype, on_error=self.on_error)
        except ConfigError:
            if self.on_error == "raise":
                raise

    def _extracted(self, images: Tensor, labels: Tensor | None, start: int, count: int) -> dict[str, Extracted]:
        """What each network makes of generated images, the first of which is number ``start`` of ``count``."""
        found: dict[str, Extracted] = {}
        for name, network in self.networks.items():
            shown = images if network.limit is None else images[: max(0, network.limit - start)]
            if len(shown) and start < count:
                extracted = extract(network, shown, self.chosen.settings.channels)
                own_labels = None if labels is None else labels[: len(shown)]
                whole = Extracted(extracted.features, extracted.logits, own_labels)
                found[name] = whole.part(slice(count - start))  # A network rounds differently for fewer images.
        return found

    def _pairs(self, one: Tensor, other: Tensor, source: Tensor | None = None) -> dict[str, Tensor]:
        """The numbers of each pair of images; those of a translation are translated from ``source``."""
        metrics = [metric for metric in self.chosen.metrics.values() if isinstance(metric, PairMetric)]
        with torch.no_grad(), full_float32():
            computed = [
                metric.compute(one, other) if source is None else metric.compute_from(one, other, source)
                for metric in metrics
            ]
        return {name: value for numbers in computed for name, value in numbers.items()}

    def real_features(self, network: Features, real: Reference) -> Extracted:
        """What a network makes of the real images, on rank 0; from the cache, if they have been measured."""
        size = block_size(self.spec.height, self.spec.width)
        return real_features(network, real, self.chosen.settings, size, on_error=self.on_error)


def _check_pairs(name: str, metric: PairMetric, comparison: Comparison) -> None:
    """Refuse a metric of pairs where there are none."""
    source = comparison.source
    if metric.of_generated and source is not None:
        raise ConfigError(f"metrics={name} compares images that are generated from noise, and this model translates")
    paired = source is not None and (source.paired or comparison.real.key == "image")
    if not metric.of_generated and not paired:
        raise ConfigError(f"metrics={name} compares pairs of images, and this data set has none")


def _translated(model: TranslationGAN, batch: Batch, direction: Direction) -> tuple[Tensor, Tensor, Tensor | None]:
    """Translated images, their sources, and the targets that they should equal, if any; all (N, C, H, W) uint8."""
    shown = model.results(batch, direction)
    suffix = "_rgb" if "image" in batch else ""  # Of colour that is shown with its lightness.
    target = shown.get(f"real_{direction[-1]}{suffix}")
    source = batch.get(direction[0], shown[f"real_{direction[0]}"])
    fake = shown[f"fake_{direction[-1]}{suffix}"]
    return to_uint8(fake), to_uint8(source), None if target is None else to_uint8(target)
