"""Translation between paired images: pix2pix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.config.schema import NonNegativeFloat
from gantrain.data.base import Batch
from gantrain.models.augment import augmented
from gantrain.models.base import MakeNetwork
from gantrain.models.translation import Direction, TranslationGAN
from gantrain.optim.updates import Updates
from gantrain.registry import MODELS
from gantrain.runtime.seeding import StepRandom

EVALUATED = 64  # Pairs; each is translated independently, which is slow.


@MODELS.register("pix2pix")
class Pix2Pix(TranslationGAN):
    """Translates a to b, trained on pairs: Isola et al. 2017 (arXiv:1611.07004).

    The discriminator classifies pairs of input and output. The generator's dropout is its noise, in training and in
    inference.

    Args:
        lambda_l1: Weight of the mean absolute difference between output and target.
    """

    needs_pairs = True

    def __init__(
        self,
        *,
        make_generator: MakeNetwork,
        make_discriminator: MakeNetwork,
        lambda_l1: NonNegativeFloat,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.lambda_l1 = lambda_l1
        a, b = self.spec.shape("a"), self.spec.shape("b")
        self.generator = make_generator(input_shape=a, shape=b)
        self.pair_channels = (a[0], b[0])
        self.discriminator = make_discriminator(shape=(sum(self.pair_channels), *a[1:]))

    def train_step(self, batches: Iterator[Batch], update: Updates) -> dict[str, Tensor]:
        """The discriminator's update, then the generator's, on one batch and one forward pass of the generator."""
        batch = self.check_sizes(next(batches))
        a, b = batch["a"], batch["b"]
        fake = self.generator(a)
        real_pair, fake_pair = torch.cat([a, b], dim=1), torch.cat([a, fake.to(a.dtype)], dim=1)
        d_loss, parts = self.discriminator_loss(self.discriminator, real_pair, fake_pair.detach(), update.draws)
        update.discriminator(d_loss)
        logits = self.discriminator(self.augmented(fake_pair, update.draws))
        g_gan = self.loss.generator_term(logits, self.compared(self.discriminator, real_pair, update.draws))
        l1 = F.l1_loss(fake, b)
        update.generator(g_gan + self.lambda_l1 * l1)
        losses = {"g_gan": g_gan, "g_l1": l1 / 2, **parts}
        return {name: value.detach() for name, value in losses.items()}

    def augmented(self, images: Tensor, draws: StepRandom) -> Tensor:
        """Pairs, with the same random numbers for input and output."""
        return augmented(images, self.augment, draws, channels=self.pair_channels)

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """``held_out_l1``: the mean absolute error over the first held-out pairs, of values in [0, 1] as ``g_l1``."""
        for batch in batches:
            shown = self.results({key: value[:EVALUATED] for key, value in batch.items()}, "a_to_b")
            fake, real = (next(shown[key] for key in shown if key.startswith(kind)) for kind in ("fake_b", "real_b"))
            return {"held_out_l1": float((fake - real).abs().mean() / 2)}
        return {}

    def generator_of(self, direction: Direction) -> nn.Module:
        return self.generator
