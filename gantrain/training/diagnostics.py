"""Faults of a run that its losses do not show, each measured: collapse, a discriminator that has won, decline."""

from __future__ import annotations

import torch
from torch import Tensor

from gantrain.data.base import Batch
from gantrain.models.base import LatentGAN
from gantrain.training.objective import Objective

IMAGES = 64  # Real images that samples are compared with.
IN_A_ROW = 3  # A fault is reported when it has been observed so many times.
MIN_VARIETY = 0.15  # Of samples, as a share of that of the real images.
MIN_CONTRAST = 0.1  # Likewise as a share of the contrast of the images, where the real ones are all alike.
WON = 0.999  # The share of pairs of a real and a generated image that a winning discriminator ranks correctly.
DECLINE = 1 / 3  # The share of the length of a run after which an objective that is no better has got worse.


class Diagnostics:
    """Watches a model that generates from noise, and reports each fault once, until it is over.

    Args:
        real: A batch of real images.
        counts: How often each fault has just been observed, by its name; part of the state of the run.
    """

    def __init__(self, real: Batch, counts: dict[str, int]) -> None:
        self._real = real
        self._counts = counts

    @torch.no_grad()
    def observe(self, model: LatentGAN) -> list[str]:
        """What is wrong with the model, in evaluation mode, at this step, in one sentence each."""
        samples = model.sample(model.preview_latent, model.preview_labels)
        return [*self._collapse(samples, model.preview_labels), *self._won(model, samples)]

    def _collapse(self, samples: Tensor, labels: Tensor | None) -> list[str]:
        real, real_labels = self._real["image"], None if labels is None else self._real.get("label")
        found, usual = variety(samples, labels), variety(real, real_labels)
        contrast = real.float().std().item()
        alike = usual < MIN_CONTRAST * contrast
        limit = MIN_CONTRAST * contrast if alike else MIN_VARIETY * usual
        if not self._persists("collapse", found < limit):
            return []
        data = "and the real images are all alike" if alike else f"{found / usual:.0%} as much as in real ones"
        which = "generated images" if labels is None else "generated images of a class"
        return [f"mode collapse: {which} are alike, their pixels vary by {found:.2g} (of 2), {data}"]

    def _won(self, model: LatentGAN, samples: Tensor) -> list[str]:
        count = min(len(samples), len(self._real["image"]))
        chosen = torch.linspace(0, len(samples) - 1, count).long().to(samples.device)
        labels = None if model.preview_labels is None else model.preview_labels[chosen]
        fake = model.discriminate(samples[chosen], labels).flatten(1).mean(dim=1)
        real_labels = self._real.get("label")
        real = model.discriminate(self._real["image"][:count], None if real_labels is None else real_labels[:count])
        ranked = (real.flatten(1).mean(dim=1, keepdim=True) > fake).float().mean().item()
        if not self._persists("won", ranked >= WON):
            return []
        return [
            f"the discriminator has won: it ranks {ranked:.1%} of pairs of a real and a generated image correctly; a "
            "lower optimizer.discriminator_lr, or a gradient penalty, gives the generator a chance"
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

    def _persists(self, fault: str, observed: bool, *, times: int = IN_A_ROW) -> bool:
        """Whether a fault has just been observed so many times in a row."""
        self._counts[fault] = self._counts.get(fault, 0) + 1 if observed else 0
        return self._counts[fault] == times


def variety(images: Tensor, labels: Tensor | None = None) -> float:
    """How much images (N, C, H, W) differ: the standard deviation of each pixel over the images, averaged.

    With labels (N,), of the images of one class, averaged over the classes of which there are several.
    """
    groups = [images] if labels is None else [images[labels == label] for label in labels.unique()]
    spread = [group.float().std(dim=0, correction=0).mean() for group in groups if len(group) > 1]
    return torch.stack(spread).mean().item() if spread else 0.0
