"""Translation between paired images: pix2pix."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.config.schema import NonNegativeFloat
from gantrain.data.base import Batch
from gantrain.models.adversarial import total
from gantrain.models.base import MakeNetwork
from gantrain.models.feature_matching import feature_maps, feature_matching, logits_of, paired_distance
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
        lambda_features: Weight of feature matching (Wang et al. 2018, arXiv:1711.11585): the mean absolute differences
            between the discriminator's features of real and generated pairs, logged as ``g_features``; 0 is off.
        lambda_lpips: Weight of the perceptual distance LPIPS between output and target (Zhang et al. 2018,
            arXiv:1801.03924), logged without it as ``g_lpips``; 0 is off. It needs the extra ``gantrain[lpips]``.
    """

    needs_pairs = True
    # The distances (N,) of images (N, 1 or 3, H, W) in [-1, 1] that ``lambda_lpips`` weights, given before training.
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None

    def __init__(
        self,
        *,
        make_generator: MakeNetwork,
        make_discriminator: MakeNetwork,
        lambda_l1: NonNegativeFloat,
        lambda_features: NonNegativeFloat,
        lambda_lpips: NonNegativeFloat,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.lambda_l1, self.lambda_features, self.lambda_lpips = lambda_l1, lambda_features, lambda_lpips
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
        terms = self._discriminated(real_pair, fake_pair, update.draws)
        l1 = F.l1_loss(fake, b)
        loss = total(list(terms.values())) + self.lambda_l1 * l1
        if self.perceptual is not None:
            parts["g_lpips"] = self.perceptual(self.perceived(a, fake), self.perceived(a, b)).mean()
            loss = loss + self.lambda_lpips * parts["g_lpips"]
        update.generator(loss)
        losses = {"g_gan": terms.pop("g_gan"), "g_l1": l1 / 2, **terms, **parts}
        losses |= self.adapt_augmentation(update.draws, len(a))
        return {name: value.detach() for name, value in losses.items()}

    def step_kind(self, step: int) -> Hashable | None:
        return self.adversarial_kind(step)

    def _discriminated(self, real_pair: Tensor, fake_pair: Tensor, draws: StepRandom) -> dict[str, Tensor]:
        """The weighted terms of the generator's loss that depend on the discriminator."""
        if not self.lambda_features:
            logits = self.discriminator(self.augmented(fake_pair, draws))
            return {"g_gan": self.adversarial_term(logits, self.compared(self.discriminator, real_pair, draws))}
        # Features of equal positions are compared, so both pairs are augmented by the same draws.
        both = torch.cat([real_pair, fake_pair], dim=1)
        real_pair, fake_pair = self.augmented(both, draws, channels=2 * self.pair_channels).chunk(2, dim=1)
        fake = feature_maps(self.discriminator, fake_pair)
        with torch.no_grad():
            real = feature_maps(self.discriminator, real_pair)
        return {
            "g_gan": self.adversarial_term(logits_of(fake), logits_of(real)),
            "g_features": self.lambda_features * feature_matching(fake, real, paired_distance),
        }

    def augmented(self, images: Tensor, draws: StepRandom, *, channels: Sequence[int] | None = None) -> Tensor:
        """Pairs, with the same random numbers for input and output."""
        return super().augmented(images, draws, channels=channels or self.pair_channels)

    @property
    def perceived_shape(self) -> tuple[int, int, int]:
        """The shape of the images that ``perceived`` returns."""
        return self.spec.shape("b")

    def perceived(self, a: Tensor, b: Tensor) -> Tensor:
        """The images (N, C, H, W) in [-1, 1] that people see of pairs of inputs and outputs."""
        return b

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """``held_out_l1``: the mean absolute error over the first held-out pairs, of values in [0, 1] as ``g_l1``."""
        for batch in batches:
            shown = self.results({key: value[:EVALUATED] for key, value in batch.items()}, "a_to_b")
            fake, real = (next(shown[key] for key in shown if key.startswith(kind)) for kind in ("fake_b", "real_b"))
            return {"held_out_l1": float((fake - real).abs().mean() / 2)}
        return {}

    def generator_of(self, direction: Direction) -> nn.Module:
        return self.generator
