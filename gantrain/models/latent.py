"""GANs that differ only in their loss, networks or number of critic steps; and the conditional GAN."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from gantrain.config.schema import NonNegativeFloat, NonNegativeInt, RepeatCountOrZero
from gantrain.data.base import Batch
from gantrain.models.base import LatentGAN
from gantrain.optim.updates import Updates
from gantrain.registry import MODELS


@MODELS.register("gan")
class VanillaGAN(LatentGAN):
    """GAN on fully connected networks: Goodfellow et al. 2014, arXiv:1406.2661.

    Its configuration adds label smoothing, dropout and uniform noise.
    """


@MODELS.register("dcgan")
class DCGAN(LatentGAN):
    """GAN on convolutional networks: Radford et al. 2016, arXiv:1511.06434."""


@MODELS.register("lsgan")
class LSGAN(LatentGAN):
    """GAN with least squares losses: Mao et al. 2017, arXiv:1611.04076."""


@MODELS.register("wgan")
class WGAN(LatentGAN):
    """Wasserstein GAN with clipped weights: Arjovsky et al. 2017, arXiv:1701.07875, Algorithm 1.

    Args:
        clip: The critic's weights are clipped to [-clip, clip] before and after each of its updates; 0 is off. (Batch
            norm's initial scales near 1 would cause gradients that RMSprop does not forget for hundreds of updates.)
        warmup_critic_steps: Critic updates before each warm-up step (100 in the authors' code); 0 is off.
        warmup_steps: Number of warm-up steps, which are generator updates, at the start (25 there).
        warmup_every: Period, in generator updates, of further warm-up steps (500 there); 0 is off.
    """

    def __init__(
        self,
        *,
        clip: NonNegativeFloat,
        warmup_critic_steps: RepeatCountOrZero,
        warmup_steps: NonNegativeInt,
        warmup_every: NonNegativeInt,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.clip = clip
        self.warmup_critic_steps = warmup_critic_steps
        self.warmup_steps = warmup_steps
        self.warmup_every = warmup_every
        if not warmup_critic_steps:
            self.without_effect |= dict.fromkeys(["warmup_steps", "warmup_every"], "warmup_critic_steps is 0")

    def critic_steps_at(self, step: int) -> int:
        warmup = step < self.warmup_steps or (self.warmup_every and step % self.warmup_every == 0)
        return self.warmup_critic_steps if self.warmup_critic_steps and warmup else self.critic_steps

    def step_kind(self, step: int) -> Hashable | None:
        return super().step_kind(step) if self.critic_steps_at(step) == self.critic_steps else None

    def update_discriminator(
        self, real: Batch, fake: Tensor, latent: Tensor, labels: Tensor | None, update: Updates
    ) -> dict[str, Tensor]:
        self._clip_critic()  # New weights, or those of another run, may be outside.
        parts = super().update_discriminator(real, fake, latent, labels, update)
        self._clip_critic()
        return parts

    def bounds_critic(self) -> bool:
        return bool(self.clip) or super().bounds_critic()

    @torch.no_grad()
    def _clip_critic(self) -> None:
        if self.clip:
            for parameter in self.discriminator.parameters():
                parameter.clamp_(-self.clip, self.clip)


@MODELS.register("wgan_gp")
class WGANGP(LatentGAN):
    """Wasserstein GAN with gradient penalty: Gulrajani et al. 2017, arXiv:1704.00028, Algorithm 1."""


@MODELS.register("cgan")
class CGAN(LatentGAN):
    """Conditional GAN: both networks are conditioned on the label. Mirza and Osindero 2014, arXiv:1411.1784."""

    needs = frozenset({"image", "label"})
    uses_labels = True

    @property
    def discriminator_classes(self) -> int:
        return self.spec.num_classes

    def discriminate(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.discriminator(images, labels)
