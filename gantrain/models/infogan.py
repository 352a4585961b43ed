"""InfoGAN: codes in the latent vector that can be recovered from the images."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gantrain.config.schema import NonNegativeFloat, NonNegativeInt, Range
from gantrain.data.base import Batch
from gantrain.models.base import COLUMNS, LatentGAN
from gantrain.registry import MODELS
from gantrain.runtime.seeding import StepRandom


@MODELS.register("infogan")
class InfoGAN(LatentGAN):
    """GAN whose codes are recovered from its images: Chen et al. 2016, arXiv:1606.03657.

    The latent vector is noise, one categorical code (one-hot) and continuous codes (uniform in [-1, 1]). Q, further
    outputs of the discriminator, recovers them. Its loss is the cross entropy for the categorical code and, for each
    continuous code c, the negative log likelihood of a unit Gaussian without its constant, (c - q)^2 / 2. Both networks
    minimise it.

    Args:
        categories: Number of values of the categorical code.
        continuous: Number of continuous codes.
        lambda_categorical: Weight of the loss of recovering the categorical code from the image.
        lambda_continuous: Weight of the loss of recovering the continuous codes.
        others: The keys of ``LatentGAN``; ``latent_dim`` is the length of the noise alone.
    """

    def __init__(
        self,
        *,
        categories: Annotated[int, Range(at_least=2)],
        continuous: NonNegativeInt,
        lambda_categorical: NonNegativeFloat,
        lambda_continuous: NonNegativeFloat,
        **others: Any,
    ) -> None:
        # The base class needs these to size the networks.
        self.codes = (categories, continuous)
        self.weights = (lambda_categorical, lambda_continuous)
        super().__init__(**others)
        if not continuous:
            self.without_effect["lambda_continuous"] = "continuous=0 leaves no code to recover"

    @property
    def latent_size(self) -> int:
        return self.latent_dim + sum(self.codes)

    @property
    def num_outputs(self) -> int:
        return 1 + sum(self.codes)

    def draw(self, count: int, draws: StepRandom) -> tuple[Tensor, None]:
        """Noise and codes (count, latent_size)."""
        noise, _ = super().draw(count, draws)
        categories, continuous = self.codes
        drawn = draws.integers(count, categories)
        # F.one_hot would synchronise with the device to check its input.
        category = drawn[:, None] == torch.arange(categories, device=drawn.device)
        return torch.cat([noise, category.to(noise), (draws.uniform(count, continuous) * 2 - 1).to(noise)], dim=1), None

    def information_loss(self, logits: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """Q's unweighted loss for each kind of code, from the discriminator's logits (N, 1 + codes)."""
        categories, continuous = self.codes
        category, values = latent[:, self.latent_dim :].split([categories, continuous], dim=1)
        q_category, q_values = logits[:, 1:].split([categories, continuous], dim=1)
        parts = {"info_categorical": F.cross_entropy(q_category, category.argmax(dim=1))}
        if continuous:
            parts["info_continuous"] = (values - q_values).square().sum(dim=1).mean() / 2
        return parts

    def weighted(self, information: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the terms of ``information_loss``."""
        return torch.stack([w * part for w, part in zip(self.weights, information.values(), strict=False)]).sum()

    def discriminator_loss(
        self, real: Batch, fake: Tensor, latent: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        fake_logits = self.discriminator(fake)
        loss, parts = self.adversarial_terms(self.discriminate(real["image"], None), fake_logits[:, :1])
        return loss + self.weighted(self.information_loss(fake_logits, latent)), parts

    def generator_loss(self, fake: Tensor, latent: Tensor, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.discriminator(fake)
        information = self.information_loss(logits, latent)
        adversarial = self.generator_term(logits[:, :1])
        return adversarial + self.weighted(information), {"g": adversarial, **information}

    def discriminate(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.discriminator(images)[:, :1]

    def preview(self) -> tuple[Tensor, None]:
        """Rows of ``COLUMNS`` latent vectors; within a row, one code takes all its values and the rest is constant.

        The rows of the categorical code come first, then those of each continuous code (from -1 to 1).
        """
        categories, continuous = self.codes
        seed = int(torch.randint(2**31, ()))  # A function of the run's seed, which the default generator was given.
        rows = self.latents(COLUMNS, seed=seed)[:, None].repeat(1, COLUMNS, 1)  # (row, column, latent_size)
        for number, row in enumerate(rows):
            code = number * (1 + continuous) // COLUMNS
            if code == 0:
                values = torch.arange(COLUMNS) % categories
                row[:, self.latent_dim : self.latent_dim + categories] = F.one_hot(values, categories).to(row)
            else:
                row[:, self.latent_dim + categories + code - 1] = torch.linspace(-1, 1, COLUMNS)
        return rows.flatten(0, 1), None
