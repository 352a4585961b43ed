"""Faults of a run that its losses do not show, each measured: collapse, a discriminator that has won, decline.

Collapse is measured in the pixels of the images that are shown and, where images are measured, in their features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gantrain.data.base import IMAGE_KEYS, Batch
from gantrain.errors import listed
from gantrain.metrics.base import Extracted, spaced
from gantrain.metrics.reference import Comparison
from gantrain.models.adversarial import scores
from gantrain.models.base import GAN, LatentGAN
from gantrain.training.objective import Objective

IMAGES = 64  # Real images that samples are compared with.
IN_A_ROW = 3  # A fault is reported when it has been observed so many times.
MIN_VARIETY = 0.15  # Of samples, as a share of that of the real images.
MIN_CONTRAST = 0.1  # Likewise as a share of the contrast of the images, where the real ones are all alike.
WON = 0.999  # The share of pairs of a real and a generated image that a winning discriminator ranks correctly.
NEARLY_WON = 0.95  # The same where the gradient of the generators has vanished:
VANISHED = 0.01  # as a share of the largest one.
MEMORISED = 0.3  # The distance to the nearest image of training, as a share of that of held-out images.
NEAREST = 100  # Images at most whose nearest images of training are found.
FEATURES = 1000  # Images at most whose features are compared, of each class.
FEW = 8  # Images whose features say nothing of their class.
UNTRAINED = 1 / 2  # The share of a run in which images whose features have never differed are no collapse.
EARLY = 1 / 4  # The share of a run in which a discriminator that has never been less than perfect has not won yet.
DECLINE = 1 / 3  # The share of the length of a run after which an objective that is no better has got worse.


class Diagnostics:
    """Watches a model, and reports each fault once, until it is over.

    Args:
        real: Reads a batch of real images; called once, for models that generate from noise.
        counts: How often each fault has just been observed, by its name, and the largest gradient of the generators;
            part of the state of the run.
    """

    def __init__(self, real: Callable[[], Batch], counts: dict[str, float]) -> None:
        self._read = real
        self._counts = counts
        self._shares: dict[str, dict[str, tuple[float, float]]] = {}  # By comparison and class.
        self._nearness = 1.0  # The distance of generated images to those of training, as a share of the usual one:
        self._usual: float | None = None  # that of held-out images.

    @cached_property
    def _real(self) -> Batch:
        return self._read()

    @torch.no_grad()
    def observe(
        self, model: GAN, visuals: Mapping[str, Tensor], gradients: Sequence[Mapping[str, Any]], progress: float
    ) -> list[str]:
        """What is wrong with the model, in evaluation mode, at this step, in one sentence each.

        Args:
            model: One that generates from noise, or translates.
            visuals: The images that it shows.
            gradients: The norms of the last ones, oldest first: ``gradient_norms`` of the run's monitor.
            progress: The completed share of the run; 1 or more at its end.
        """
        try:
            if not isinstance(model, LatentGAN):
                return self._collapsed_translations(visuals, progress)
            samples = model.sample(model.preview_latent, model.preview_labels)
            gradient = self._gradient(gradients)
            collapse = self._collapse(samples, model.preview_labels, progress)
            return [*collapse, *self._won(model, samples, gradient, progress)]
        except Exception:  # A plug-in's networks may return anything.
            return []

    def _gradient(self, gradients: Sequence[Mapping[str, Any]]) -> float:
        """The norm of the generators' last gradient, as a share of the largest one so far."""
        norm: float = next((each["norm"] for each in reversed(gradients) if each["side"] == "generator"), math.nan)
        if not math.isfinite(norm):  # As with float16, whose scale is too large then.
            return 1.0
        largest = self._counts["gradient"] = max(norm, self._counts.get("gradient", 0.0))
        return norm / largest if largest else 1.0

    def _collapse(self, samples: Tensor, labels: Tensor | None, progress: float) -> list[str]:
        real, real_labels = self._real["image"], None if labels is None else self._real.get("label")
        found, usual = variety(samples, labels), variety(real, real_labels)
        contrast = real.float().std().item()
        alike = usual < MIN_CONTRAST * contrast
        limit = MIN_CONTRAST * contrast if alike else MIN_VARIETY * usual
        if not self._persists("collapse", found < limit, last=progress >= 1):
            return []
        data = "and the real images are all alike" if alike else f"{found / usual:.0%} as much as in real ones"
        which = "generated images" if labels is None else "generated images of a class"
        return [f"mode collapse: {which} are alike, their pixels vary by {found:.2g} (of 2), {data}"]

    def _collapsed_translations(self, visuals: Mapping[str, Tensor], progress: float) -> list[str]:
        """Outputs of different inputs that are nearly equal, while real images of that domain are not."""
        notes = []
        for domain in IMAGE_KEYS:
            fake, real = (
                next((images for name, images in visuals.items() if name.startswith(f"{kind}_{domain}")), None)
                for kind in ("fake", "real")
            )
            if fake is None or real is None:
                continue
            found, usual = variety(fake), variety(real)
            differ = usual > MIN_CONTRAST * real.float().std().item()
            if self._persists(f"collapse_{domain}", differ and found < MIN_VARIETY * usual, last=progress >= 1):
                notes.append(
                    f"mode collapse: translations of different images to {domain} are alike, their pixels vary by "
                    f"{found:.2g} (of 2), {found / usual:.0%} as much as in real ones"
                )
        return notes

    def observe_features(
        self, comparison: Comparison, generated: Extracted, real: Extracted, unseen: Extracted | None
    ) -> None:
        """Measure, for ``measured``, how much the features of generated images differ, and how near real ones are.

        ``unseen`` are held-out images, if the real ones are those of training.
        """
        if unseen is not None and min(len(generated), len(unseen)) >= FEW:
            if self._usual is None:  # It is the same at every measurement.
                self._usual = distance_to(real.features, unseen.features)
            self._nearness = distance_to(real.features, generated.features) / self._usual if self._usual else 1.0
        groups = [("", generated, real)]
        if generated.labels is not None and real.labels is not None:
            names = enumerate(comparison.real.dataset.spec.class_names)
            groups = [(name, generated.of_class(label), real.of_class(label)) for label, name in names]
        self._shares[comparison.suffix] = {
            name: spread_share(own.features, others.features) for name, own, others in groups
        }

    def measured(self, progress: float) -> list[str]:
        """What is wrong with the images of the last measurement, at which the run is completed to ``progress``.

        Memorised images are nearer to those of training than held-out ones are: Meehan et al. 2020, arXiv:2004.05675.
        """
        collapsed = any(min(share) < MIN_VARIETY for shares in self._shares.values() for share in shares.values())
        notes, found = self._collapse_of_features(progress), self._nearness
        self._shares, self._nearness = {}, 1.0
        if self._persists("memorised", found < MEMORISED and not collapsed):
            notes.append(
                f"memorising: generated images are {found:.0%} as far from the nearest image of training as held-out "
                "ones, in features; the results of gantrain test show both side by side"
            )
        return notes

    def _collapse_of_features(self, progress: float) -> list[str]:
        """Whether the images of the last measurement are alike.

        Those of an untrained generator are, too: they must have differed before, or half of the run must be over.
        """
        notes = []
        in_pixels = any(name.startswith("collapse") and count >= IN_A_ROW for name, count in self._counts.items())
        for suffix, shares in self._shares.items():
            alike = {name: share for name, share in shares.items() if min(share) < MIN_VARIETY}
            least = min(map(min, shares.values()))
            most = self._counts[f"variety{suffix}"] = max(least, self._counts.get(f"variety{suffix}", 0.0))
            observed = bool(alike) and (most >= MIN_VARIETY or progress > UNTRAINED)
            last = progress >= 1 and most >= MIN_VARIETY
            if self._persists(f"features{suffix}", observed, last=last) and not in_pixels:
                classes = [name for name in alike if name]
                which = f" of {'the classes' if len(classes) > 1 else 'the class'} {listed(classes)}" * bool(classes)
                distance, nearest = min(alike.values(), key=min)
                notes.append(
                    f"mode collapse: generated images{suffix.replace('_', ' ')}{which} are alike, their features vary "
                    f"by {distance:.0%} as much as those of real ones, and the nearest are {nearest:.0%} as far apart"
                )
        return notes

    def _won(self, model: LatentGAN, samples: Tensor, gradient: float, progress: float) -> list[str]:
        """Whether the discriminator recognises all images; it always does those of the first quarter of some runs."""
        count = min(len(samples), len(self._real["image"]))
        chosen = torch.linspace(0, len(samples) - 1, count).long().to(samples.device)
        labels = None if model.preview_labels is None else model.preview_labels[chosen]
        fake = scores(model.discriminate(samples[chosen], labels))
        real_labels = self._real.get("label")
        real = model.discriminate(self._real["image"][:count], None if real_labels is None else real_labels[:count])
        ranked = (scores(real)[:, None] > fake).float().mean().item()
        vanished = gradient < VANISHED
        observed = ranked >= (NEARLY_WON if vanished else WON)
        if observed and progress <= EARLY and "won absent" not in self._counts:
            return []
        if not self._persists("won", observed):
            return []
        pull = f", and the generator's gradient is {gradient:.1%} of its largest" * vanished
        return [
            f"the discriminator has won: it ranks {ranked:.1%} of pairs of a real and a generated image correctly"
            f"{pull}; a lower optimizer.discriminator_lr, or a gradient penalty, gives the generator a chance"
        ]

    def decline(self, objective: Objective, step: int, progress: float) -> list[str]:
        """Whether the objective has not improved for a third of the run, of which ``step`` completes ``progress``."""
        worse = objective.best is not None and (step - objective.best_at) / step * progress > DECLINE
        if not self._persists("decline", worse, times=1):
            return []
        return [
            f"{objective.settings.metric} has not improved for a third of the run: best was step {objective.best_at}, "
            f"with {objective.best:.4g}, and it is {objective.value:.4g} now; best.pt has those weights, and "
            "objective.patience stops such runs"
        ]

    def _persists(self, fault: str, observed: bool, *, times: int = IN_A_ROW, last: bool = False) -> bool:
        """Whether a fault has just been observed so many times in a row.

        At the last step of a run, once is enough for a fault that was absent before: no other observation follows.
        """
        count = self._counts.get(fault, 0) + 1 if observed else 0
        absent = f"{fault} absent"
        if not observed:
            self._counts[absent] = 1
        elif last and absent in self._counts:
            count = max(count, times)
        self._counts[fault] = count
        return count == times


def distance_to(real: Tensor, features: Tensor) -> float:
    """The median distance of features (N, D), of at most ``NEAREST`` images, to the nearest of real ones."""
    shown = features[spaced(len(features), min(len(features), NEAREST))]
    return torch.cdist(shown.float(), real.float()).min(dim=1).values.median().item()


def spread_share(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """The ``spread`` of generated features (N, D) as shares of that of as many real ones; 1 where it is unknown."""
    count = min(len(generated), len(real), FEATURES)
    if count < FEW:
        return 1.0, 1.0
    found, usual = (spread(each[spaced(len(each), count)].double()) for each in (generated, real))
    return found[0] / usual[0] if usual[0] else 1.0, found[1] / usual[1] if usual[1] else 1.0


def spread(features: Tensor) -> tuple[float, float]:
    """How much features (N, D) differ: their standard deviation, and the mean distance to the nearest of the others."""
    distances = torch.cdist(features, features, compute_mode="use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    return features.var(dim=0).sum().sqrt().item(), distances.min(dim=1).values.mean().item()


def variety(images: Tensor, labels: Tensor | None = None) -> float:
    """How much images (N, C, H, W) differ: the standard deviation of each pixel over the images, averaged.

    With labels (N,), of the images of one class, averaged over the classes of which there are several.
    """
    groups = [images] if labels is None else [images[labels == label] for label in labels.unique()]
    spread = [group.float().std(dim=0, correction=0).mean() for group in groups if len(group) > 1]
    return torch.stack(spread).mean().item() if spread else 0.0
