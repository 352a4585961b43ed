"""GANs whose discriminator also classifies: ACGAN, and the semi-supervised GAN."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gantrain.config.schema import NonNegativeFloat
from gantrain.data.base import Batch
from gantrain.models.base import LatentGAN
from gantrain.registry import MODELS


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy (N, K) against (N,), summed over the known labels and divided by N; -1 is unknown.

    N, not the number of known labels, so that the mean over ranks is the loss of the global batch.
    """
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / len(labels)


@MODELS.register("acgan")
class ACGAN(LatentGAN):
    """GAN with an auxiliary classifier: Odena et al. 2017, arXiv:1610.09585.

    The discriminator puts out one logit for real against generated and one per class; both networks want real and
    generated images to be classified rightly.

    Args:
        lambda_class: Weight of the classification.
        others: The keys of ``LatentGAN``.
    """

    needs = frozenset({"image", "label"})
    uses_labels = True
    reads_unknown_labels = True

    def __init__(self, *, lambda_class: NonNegativeFloat, **others: Any) -> None:
        super().__init__(**others)
        self.lambda_class = lambda_class

    @property
    def num_outputs(self) -> int:
        """One, and one per class."""
        return 1 + self.spec.num_classes

    def split(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, 1 + K) to (N, 1) for real against generated, and (N, K) for the classes."""
        return logits[:, :1], logits[:, 1:]

    def discriminator_loss(
        self, real: Batch, fake: Tensor, latent: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The adversarial terms, and the classification of real and of generated images."""
        assert labels is not None
        real_logits, real_classes = self.split(self.discriminator(real["image"]))
        fake_logits, fake_classes = self.split(self.discriminator(fake))
        loss, parts = self.adversarial_terms(real_logits, fake_logits)
        parts["d_class"] = class_loss(real_classes, real["label"]) + class_loss(fake_classes, labels)
        return loss + self.lambda_class * parts["d_class"], parts

    def generator_loss(self, fake: Tensor, latent: Tensor, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """To pass for real, and for the class that was asked for."""
        assert labels is not None
        logits, classes = self.split(self.discriminator(fake))
        parts = {"g": self.loss.generator(logits), "g_class": class_loss(classes, labels)}
        return parts["g"] + self.lambda_class * parts["g_class"], parts

    def penalty_critic(self, real: Batch) -> Callable[[Tensor], Tensor]:
        """The logit for real against generated."""
        return lambda images: self.split(self.discriminator(images))[0]


@MODELS.register("sgan")
class SGAN(LatentGAN):
    """Semi-supervised GAN, whose critic has K classes and "fake": Salimans et al. 2016, arXiv:1606.03498, section 5.

    The critic's probability of "real" is that of not being fake, so its logit is logsumexp(classes) - fake; with the
    logistic loss, that term and the classification among the K classes add up to the cross entropy over all K + 1.
    The generator asks for its own label. Real images of unknown label (-1, see ``data.labelled``) count as not fake.
    """

    needs = frozenset({"image", "label"})
    uses_labels = True
    reads_unknown_labels = True

    @property
    def num_outputs(self) -> int:
        """One per class, and one for "fake"."""
        return self.spec.num_classes + 1

    def split(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K + 1) to (N, 1) for real against generated, and (N, K) for the classes."""
        classes, fake = logits[:, :-1], logits[:, -1:]
        return classes.logsumexp(dim=1, keepdim=True) - fake, classes

    def discriminator_loss(
        self, real: Batch, fake: Tensor, latent: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The adversarial terms, and the classification of the real images whose labels are known."""
        real_logits, classes = self.split(self.discriminator(real["image"]))
        fake_logits, _ = self.split(self.discriminator(fake))
        loss, parts = self.adversarial_terms(real_logits, fake_logits)
        parts["d_class"] = class_loss(classes, real["label"])
        return loss + parts["d_class"], parts

    def generator_loss(self, fake: Tensor, latent: Tensor, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """To pass for real, and for the class that was asked for."""
        assert labels is not None
        logits, classes = self.split(self.discriminator(fake))
        parts = {"g": self.loss.generator(logits), "g_class": class_loss(classes, labels)}
        return parts["g"] + parts["g_class"], parts

    def penalty_critic(self, real: Batch) -> Callable[[Tensor], Tensor]:
        """The logit for real against generated."""
        return lambda images: self.split(self.discriminator(images))[0]

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """``accuracy``: the share of held-out images that the critic classifies rightly."""
        right = total = 0
        for batch in batches:
            _, classes = self.split(self.discriminator(batch["image"]))
            right += int((classes.argmax(dim=1) == batch["label"]).sum())
            total += len(batch["label"])
        return {"accuracy": right / total} if total else {}
