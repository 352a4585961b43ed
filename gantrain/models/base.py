"""The base class of models that generate images from noise; those of all models are imported here for plug-ins."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gantrain.config.renamed import RenamedMethod
from gantrain.config.schema import NonNegativeInt, PositiveInt, RepeatCount
from gantrain.data.base import Batch
from gantrain.errors import ConfigError
from gantrain.models.adversarial import COLUMNS, GAN, AdversarialGAN, Logits
from gantrain.models.inputs import check_labels, check_latents
from gantrain.models.pool import ImagePool
from gantrain.optim.updates import Updates
from gantrain.runtime.seeding import StepRandom

__all__ = ["COLUMNS", "GAN", "AdversarialGAN", "LatentGAN", "MakeNetwork", "network_sizes"]

# Builds one network of the configured kind from the sizes that the model gives; see ``training.build.build_model``.
MakeNetwork: TypeAlias = Callable[..., nn.Module]


class LatentGAN(AdversarialGAN):
    """A GAN that generates images from noise, and the training step that most of them share.

    One step is ``critic_steps`` discriminator updates, each on a new batch, then one generator update (Goodfellow et
    al. 2014, arXiv:1406.2661, Algorithm 1). Models override its parts, not the step.

    Args:
        latent_dim: Length of the noise vector.
        noise: ``normal`` is N(0, 1), ``uniform`` is uniform in [-1, 1].
        critic_steps: Discriminator updates per generator update.
        pool_size: Number of generated images stored to train the discriminator on again; 0 is off.
    """

    needs = frozenset({"image"})
    uses_labels: ClassVar[bool] = False  # Whether the generator is conditioned on labels.
    preview_latent: Tensor
    preview_labels: Tensor | None
    judge = RenamedMethod("penalty_critic")

    def __init__(
        self,
        *,
        make_generator: MakeNetwork,
        make_discriminator: MakeNetwork,
        latent_dim: PositiveInt,
        noise: Literal["normal", "uniform"],
        critic_steps: RepeatCount,
        pool_size: NonNegativeInt,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.latent_dim = latent_dim
        self.noise = noise
        self.critic_steps = critic_steps
        self.pool = ImagePool(pool_size)
        shape = self.spec.shape("image")
        self.generator = make_generator(
            latent_dim=self.latent_size, shape=shape, num_classes=self.spec.num_classes if self.uses_labels else 0
        )
        self.discriminator = make_discriminator(
            shape=shape, num_classes=self.discriminator_classes, num_outputs=self.num_outputs
        )
        latent, labels = self.preview()
        self.register_buffer("preview_latent", latent)
        self.register_buffer("preview_labels", labels)

    # ---- sizes that a model may override

    @property
    def latent_size(self) -> int:
        """Length of the generator's input: the noise, and codes if the model has any."""
        return self.latent_dim

    @property
    def num_outputs(self) -> int:
        """Logits of the discriminator per image."""
        return 1

    @property
    def discriminator_classes(self) -> int:
        """Number of labels that the discriminator is conditioned on; 0 for none."""
        return 0

    # ---- the step

    def train_step(self, batches: Iterator[Batch], update: Updates) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for _ in range(self.critic_steps_at(update.step)):
            real = next(batches)
            latent, labels = self.draw_beside(real, update.draws)
            with torch.no_grad():
                fake = self.generate(latent, labels)
            fake, latent, labels = self.pool(fake, latent, labels)
            losses |= self.update_discriminator(real, fake, latent, labels, update)
        real = next(batches) if self.loss.compares else real
        latent, labels = self.draw_beside(real, update.draws)
        fake = self.augmented(self.generate(latent, labels), update.draws)
        self.real_logits = self.compared(self.penalty_critic(real), real["image"], update.draws)
        loss, parts = self.generator_loss(fake, latent, labels)
        update.generator(loss)
        adapted = self.adapt_augmentation(update.draws, self.critic_steps_at(update.step) * len(real["image"]))
        return {name: value.detach() for name, value in (losses | parts | adapted).items()}

    def step_kind(self, step: int) -> Hashable | None:
        return self.critic_steps_at(step), self.adversarial_kind(step)

    def generate(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        """The generator's images; it is passed labels only by models that use them."""
        return self.generator(latent) if labels is None else self.generator(latent, labels)

    def critic_steps_at(self, step: int) -> int:
        """Discriminator updates before generator update number ``step`` (from 0)."""
        return self.critic_steps

    def update_discriminator(
        self, real: Batch, fake: Tensor, latent: Tensor, labels: Tensor | None, update: Updates
    ) -> dict[str, Tensor]:
        """One discriminator update on the loss and the penalties; returns the terms for the log."""
        seen = {**real, "image": self.augmented(real["image"], update.draws)}
        loss, parts = self.discriminator_loss(seen, self.augmented(fake, update.draws), latent, labels)
        penalties = self.penalties(real, fake, update.draws)
        penalties |= self.r2_of(self.penalty_critic({**real, "label": labels}), fake, update.draws)
        update.discriminator(self.add_penalties(loss, penalties))
        return parts | penalties

    def discriminator_loss(
        self, real: Batch, fake: Tensor, latent: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and its terms for the log; ``fake`` was generated from ``latent`` and ``labels``."""
        real_logits = self.discriminate(real["image"], real.get("label"))
        return self.adversarial_terms(real_logits, self.discriminate(fake, labels))

    def discriminate(self, images: Tensor, labels: Tensor | None) -> Logits:
        """The discriminator's logits for real against generated images."""
        return self.discriminator(images)

    def generator_loss(self, fake: Tensor, latent: Tensor, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and its terms for the log."""
        loss = self.generator_term(self.discriminate(fake, labels))
        return loss, {"g": loss}

    def generator_term(self, logits: Logits) -> Tensor:
        """The generator's adversarial loss, from the logits of generated images."""
        return self.adversarial_term(logits, self.real_logits)

    def penalty_critic(self, real: Batch) -> Callable[[Tensor], Logits]:
        """The function whose gradient is penalised; mixtures of real and generated images have the real labels."""
        return lambda images: self.discriminate(images, real.get("label"))

    def penalties(self, real: Batch, fake: Tensor, draws: StepRandom) -> dict[str, Tensor]:
        """Scalars by name, for ``add_penalties`` and the log; override it to add more."""
        return self.penalties_of(self.penalty_critic(real), real["image"], fake, draws)

    # ---- noise and samples

    def draw(self, count: int, draws: StepRandom) -> tuple[Tensor, Tensor | None]:
        """Noise (count, latent_size), and (count,) labels for models that use them."""
        labels = draws.integers(count, self.spec.num_classes) if self.uses_labels else None
        shape = (count, self.latent_dim)
        latent = draws.normal(*shape) if self.noise == "normal" else draws.uniform(*shape) * 2 - 1
        return latent.to(next(self.parameters()).dtype), labels

    def draw_beside(self, real: Batch, draws: StepRandom) -> tuple[Tensor, Tensor | None]:
        """Noise and labels for as many images as real ones; of the same classes if critics of a class compare them."""
        latent, labels = self.draw(len(real["image"]), draws)
        return latent, real["label"] if self.loss.compares and self.discriminator_classes else labels

    def latents(self, count: int, *, seed: int) -> Tensor:
        """Inputs (count, latent_size) of ``sample``, a function of the seed."""
        latent, _ = self.draw(count, StepRandom(seed, torch.device("cpu")))
        return latent.to(next(self.parameters()))

    def preview(self) -> tuple[Tensor, Tensor | None]:
        """Noise and labels of the sample grid, in rows of ``COLUMNS``; with labels, a row per class."""
        seed = int(torch.randint(2**31, ()))  # A function of the run's seed, which the default generator was given.
        if not self.uses_labels:
            return self.latents(COLUMNS * COLUMNS, seed=seed), None
        rows = min(COLUMNS, self.spec.num_classes)
        return self.latents(COLUMNS, seed=seed).repeat(rows, 1), torch.arange(rows).repeat_interleave(COLUMNS)

    @torch.no_grad()
    def sample(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] from (N, latent_size) and, for models that use them only, (N,) labels."""
        check_latents(latent, self.latent_size, next(self.parameters()).dtype)
        if self.uses_labels and labels is None:
            raise ConfigError("this model needs labels: one class number per latent vector")
        if labels is not None and not self.uses_labels:
            raise ConfigError("this model generates images without labels")
        if labels is not None:
            check_labels(labels, len(latent), self.spec.num_classes)
        return self.generate(latent, labels)

    def translate(self, image: Tensor, *arguments: Any, **options: Any) -> Tensor:
        """Refused: this model generates images from noise."""
        raise ConfigError(f"{type(self).__name__} generates images from noise and translates none: use sample")

    def visuals(self, batch: Batch) -> dict[str, Tensor]:
        """A grid of samples, from the same noise throughout the run."""
        return {"samples": self.sample(self.preview_latent, self.preview_labels)}


def network_sizes(model: GAN) -> dict[str, int]:
    """Number of parameters of each network, by its name in the model."""
    names = {module: name for name, module in model.named_modules()}
    networks = [*model.generators(), *model.discriminators()]
    return {names[network]: sum(parameter.numel() for parameter in network.parameters()) for network in networks}
