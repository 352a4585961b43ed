"""GANs whose discriminator also classifies: ACGAN, and the semi-supervised GAN."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gantrain.config.schema import NonNegativeFloat
from gantrain.data.base import Batch
from gantrain.models.base import LatentGAN
from gantrain.registry import MODELS


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of (N, K) logits and (N,) labels, summed over the known labels and divided by N; -1 is unknown.

    It is divided by N, not by the number of known labels, so that the mean over ranks is the loss of the global batch.
    """
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / len(labels)


class ClassifyingGAN(LatentGAN):
    """A GAN whose discriminator has one output for real against generated, and one per class.

    Both networks minimise the classification loss, the generator with the weight ``lambda_class``.
    """

    needs = frozenset({"image", "label"})
    uses_labels = True
    reads_unknown_labels = True
    classify_generated: bool = False  # Whether the discriminator is trained to classify generated images, too.

    def __init__(self, *, lambda_class: NonNegativeFloat, **others: Any) -> None:
        super().__init__(**others)
        self.lambda_class = self.critic_lambda_class = lambda_class

    @property
    def num_outputs(self) -> int:
        return 1 + self.spec.num_classes

    @abstractmethod
    def split(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, 1 + K) to (N, 1) for real against generated, and (N, K) for the classes."""

    def discriminate(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.split(self.discriminator(images))[0]

    def discriminator_loss(
        self, real: Batch, fake: Tensor, latent: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        real_logits, real_classes = self.split(self.discriminator(real["image"]))
        fake_logits, fake_classes = self.split(self.discriminator(fake))
        loss, parts = self.adversarial_terms(real_logits, fake_logits)
        parts["d_class"] = class_loss(real_classes, real["label"])
        if self.classify_generated:
            assert labels is not None
            parts["d_class"] = parts["d_class"] + class_loss(fake_classes, labels)
        return loss + self.critic_lambda_class * parts["d_class"], parts

    def generator_loss(self, fake: Tensor, latent: Tensor, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        assert labels is not None
        logits, classes = self.split(self.discriminator(fake))
        parts = {"g": self.generator_term(logits), "g_class": class_loss(classes, labels)}
        return parts["g"] + self.lambda_class * parts["g_class"], parts


@MODELS.register("acgan")
class ACGAN(ClassifyingGAN):
    """GAN with an auxiliary classifier: Odena et al. 2017, arXiv:1610.09585.

    Args:
        lambda_class: Weight of the classification loss, for both networks.
        classify_generated: Whether the discriminator is trained to classify generated images, as in the paper, or real
            images alone. In the former case it may learn a class of generated images that does not look like it.
        others: See ``LatentGAN``.
    """

    def __init__(self, *, classify_generated: bool, **others: Any) -> None:
        super().__init__(**others)
        self.classify_generated = classify_generated

    def split(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return logits[:, :1], logits[:, 1:]


@MODELS.register("sgan")
class SGAN(ClassifyingGAN):
    """Semi-supervised GAN, whose critic has K classes and "fake": Salimans et al. 2016, arXiv:1606.03498, section 5.

    The critic's probability of "real" is that of not being fake, so its logit is logsumexp(classes) - fake; with the
    logistic loss, that term and the classification among the K classes add up to the cross entropy over all K + 1.
    Real images of unknown label (-1, see ``data.labelled``) count as not fake. The generator, too, is conditioned on
    classes, which the paper's is not.

    Args:
        lambda_class: Weight of the classification loss of the generator.
        critic_lambda_class: Weight of the classification loss of the critic, 1 in the paper. A low one makes a worse
            classifier, and keeps the generator from drawing one image for each class.
        others: See ``LatentGAN``.
    """

    def __init__(self, *, critic_lambda_class: NonNegativeFloat, **others: Any) -> None:
        super().__init__(**others)
        self.critic_lambda_class = critic_lambda_class

    def split(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        classes, fake = logits[:, :-1], logits[:, -1:]
        return classes.logsumexp(dim=1, keepdim=True) - fake, classes

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """``held_out_accuracy``: the fraction of held-out images that the critic classifies correctly."""
        correct = total = 0
        for batch in batches:
            _, classes = self.split(self.discriminator(batch["image"]))
            correct += int((classes.argmax(dim=1) == batch["label"]).sum())
            total += len(batch["label"])
        return {"held_out_accuracy": correct / total} if total else {}
