"""Translation between unpaired images: CycleGAN and DiscoGAN."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.config.schema import NonNegativeFloat, NonNegativeInt
from gantrain.data.base import Batch
from gantrain.errors import ConfigError
from gantrain.models.adversarial import total
from gantrain.models.base import MakeNetwork
from gantrain.models.feature_matching import (
    feature_maps,
    feature_matching,
    logits_of,
    unpaired_distance,
)
from gantrain.models.pool import ImagePool
from gantrain.models.translation import Direction, NetworkMode, TranslationGAN, in_mode, names_of
from gantrain.optim.updates import Updates
from gantrain.registry import MODELS
from gantrain.runtime.seeding import StepRandom


@MODELS.register("cyclegan")
class CycleGAN(TranslationGAN):
    """Translates a to b and b to a, trained without pairs: Zhu et al. 2017 (arXiv:1703.10593).

    The paper calls ``generator_ab`` G and ``generator_ba`` F, its code G_A and G_B. ``discriminator_b``, which
    classifies images of b, is the paper's D_Y and its code's D_A. Losses are logged under the code's names: ``g_a`` and
    ``d_a`` belong to ``generator_ab`` and ``discriminator_b``, ``idt_a`` to ``generator_ab`` on images of b.

    With squared reconstruction, the logistic loss and no pool it is DiscoGAN (Kim et al. 2017, arXiv:1703.05192).

    Args:
        lambda_a: Weight of the cycle loss a to b to a.
        lambda_b: Weight of the cycle loss b to a to b.
        lambda_identity: Weight, relative to those, of the identity loss: the mean absolute difference between images of
            a generator's target domain and its outputs for them; 0 is off.
        cycle_loss: ``l1`` is the mean absolute, ``l2`` the mean squared error of reconstruction.
        pool_size: Number of generated images stored per domain to train the discriminator on again; 0 is off.
        lambda_features: Weight of feature matching with the weights of Wang et al. 2018 (arXiv:1711.11585), logged as
            ``g_features``; 0 is off. There are no pairs whose features could be compared at each position, so what is
            compared are a discriminator's mean features of a batch of real and of generated images, over images and
            positions (Salimans et al. 2016, arXiv:1606.03498, section 3.1).
    """

    directions: tuple[Direction, ...] = ("a_to_b", "b_to_a")

    def __init__(
        self,
        *,
        make_generator: MakeNetwork,
        make_discriminator: MakeNetwork,
        lambda_a: NonNegativeFloat,
        lambda_b: NonNegativeFloat,
        lambda_identity: NonNegativeFloat,
        cycle_loss: Literal["l1", "l2"],
        pool_size: NonNegativeInt,
        lambda_features: NonNegativeFloat,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        a, b = self.spec.shape("a"), self.spec.shape("b")
        self.same_channels = a[0] == b[0]
        if lambda_identity and not self.same_channels:
            raise ConfigError(
                f"model.lambda_identity ({lambda_identity}): the identity loss compares images of both domains, which "
                f"have {a[0]} and {b[0]} channels: set it to 0"
            )
        self.lambda_a, self.lambda_b, self.lambda_identity = lambda_a, lambda_b, lambda_identity
        self.reconstruction = F.l1_loss if cycle_loss == "l1" else F.mse_loss
        self.generator_ab = make_generator(input_shape=a, shape=b)
        self.generator_ba = make_generator(input_shape=b, shape=a)
        self.discriminator_b = make_discriminator(shape=b)
        self.discriminator_a = make_discriminator(shape=a)
        self.lambda_features = lambda_features
        self.pool_b = ImagePool(pool_size)
        self.pool_a = ImagePool(pool_size)

    def train_step(self, batches: Iterator[Batch], update: Updates) -> dict[str, Tensor]:
        """The generators' update, then the discriminators', on one batch."""
        batch = self.check_sizes(next(batches))
        a, b = batch["a"], batch["b"]
        # The running statistics of batch norm depend on this order, which is that of the authors' code.
        fake_b = self.generator_ab(a)
        rec_a = self.generator_ba(fake_b)
        fake_a = self.generator_ba(b)
        rec_b = self.generator_ab(fake_a)
        (g_a, *features_a), (g_b, *features_b) = (
            self._generator_terms(self.discriminator_b, b, fake_b, update.draws),
            self._generator_terms(self.discriminator_a, a, fake_a, update.draws),
        )
        losses = {
            "g_a": g_a,
            "g_b": g_b,
            **({"g_features": total([*features_a, *features_b])} if self.lambda_features else {}),
            "cycle_a": self.lambda_a * self.reconstruction(rec_a, a),
            "cycle_b": self.lambda_b * self.reconstruction(rec_b, b),
            **self._identity_losses(a, b),
        }
        update.generator(torch.stack(list(losses.values())).sum())
        (old_b,), (old_a,) = self.pool_b(fake_b), self.pool_a(fake_a)
        losses["d_a"], _ = self.discriminator_loss(self.discriminator_b, b, old_b, update.draws)
        losses["d_b"], _ = self.discriminator_loss(self.discriminator_a, a, old_a, update.draws)
        update.discriminator(losses["d_a"] + losses["d_b"])
        losses |= self.adapt_augmentation(update.draws, len(a))
        return {name: value.detach() for name, value in losses.items()}

    def step_kind(self, step: int) -> Hashable | None:
        return self.adversarial_kind(step)

    def _generator_terms(
        self, discriminator: nn.Module, real: Tensor, fake: Tensor, draws: StepRandom
    ) -> tuple[Tensor, ...]:
        """The adversarial term and, if it is on, that of feature matching."""
        if not self.lambda_features:
            logits = discriminator(self.augmented(fake, draws))
            return (self.adversarial_term(logits, self.compared(discriminator, real, draws)),)
        maps = feature_maps(discriminator, self.augmented(fake, draws))
        with torch.no_grad():
            others = feature_maps(discriminator, self.augmented(real, draws))
        features = self.lambda_features * feature_matching(maps, others, unpaired_distance)
        return self.adversarial_term(logits_of(maps), logits_of(others)), features

    def _identity_losses(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        if not self.lambda_identity:
            return {"idt_a": a.new_zeros(()), "idt_b": a.new_zeros(())}  # Logged as in the authors' code.
        return {
            "idt_a": self.lambda_identity * self.lambda_b * F.l1_loss(self.generator_ab(b), b),
            "idt_b": self.lambda_identity * self.lambda_a * F.l1_loss(self.generator_ba(a), a),
        }

    def generator_of(self, direction: Direction) -> nn.Module:
        return self.generator_ab if direction == "a_to_b" else self.generator_ba

    def results(self, batch: Batch, direction: Direction, *, network_mode: NetworkMode = "train") -> dict[str, Tensor]:
        """Input, output, reconstruction, output of the other generator for the input (its identity), and the target."""
        source, target = direction[0], direction[-1]
        back: Direction = "b_to_a" if direction == "a_to_b" else "a_to_b"
        mode = in_mode(names_of(batch), network_mode)
        images = super().results(batch, direction, network_mode=network_mode)
        images[f"rec_{source}"] = self.translate(images[f"fake_{target}"], back, **mode)
        if self.same_channels:
            # The authors' code names it by the generator: idt_b is the output of G_B for images of a.
            images[f"idt_{target}"] = self.translate(batch[source], back, **mode)
        return images

    def visuals(self, batch: Batch) -> dict[str, Tensor]:
        """The results of both directions, without targets, and without identities unless there is an identity loss."""
        names = {"a": batch["name"], "b": batch.get("name_b", batch["name"])}
        shown: dict[str, Tensor] = {}
        for direction in self.directions:
            source = direction[0]
            shown |= self.results({source: batch[source], "name": names[source]}, direction)
        return {name: images for name, images in shown.items() if self.lambda_identity or not name.startswith("idt")}
