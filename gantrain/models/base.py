"""What every model is: networks, and the rule by which they play."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gantrain.config.schema import NonNegativeFloat, NonNegativeInt, PositiveInt, RepeatCount, UnitFloat
from gantrain.data.base import Batch, ImageSpec
from gantrain.errors import ConfigError
from gantrain.models.losses import adversarial_loss, gradient_penalty, r1_penalty
from gantrain.models.pool import ImagePool
from gantrain.networks.common import full_precision
from gantrain.optim.updates import Updates
from gantrain.runtime.seeding import StepRandom

# From build.py: builds one network of the configured kind, given the sizes that the model asks for.
MakeNetwork: TypeAlias = Callable[..., nn.Module]

COLUMNS = 10  # of the sample grids


class GAN(nn.Module, ABC):
    """Networks and the rule by which they play. All that a resumed run needs is in its ``state_dict``."""

    needs: ClassVar[frozenset[str]]  # batch keys it reads: checked against the data before training
    needs_pairs: ClassVar[bool] = False  # whether `a` and `b` must show the same
    reads_unknown_labels: ClassVar[bool] = False  # whether a label of -1 (see `data.labelled`) makes sense to it
    previews: ClassVar[int] = 0  # held-out images that `visuals` is shown
    columns: ClassVar[int | None] = COLUMNS  # of the grids of visuals; None lays them side by side, a row per image
    ema: float  # decay of the generators' moving averages per update; 0 is off

    @abstractmethod
    def train_step(self, batches: Iterator[Batch], update: Updates) -> dict[str, Tensor]:
        """One generator update, on as many batches as it takes; detached scalars, left on the device."""

    @abstractmethod
    def visuals(self, batch: Batch) -> dict[str, Tensor]:
        """Images (N, C, H, W) in [-1, 1] for the pages; ``batch`` is empty for models without ``previews``."""

    @abstractmethod
    def generators(self) -> list[nn.Module]:
        """The networks that ``update.generator`` trains."""

    @abstractmethod
    def discriminators(self) -> list[nn.Module]:
        """The networks that ``update.discriminator`` trains."""

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Figures on held-out batches (N first, as many as there are); none by default."""
        return {}


class LatentGAN(GAN):
    """A GAN that makes images from noise, and the training step that most of them share.

    One step is ``critic_steps`` discriminator updates, each on a fresh batch, then one generator update (Goodfellow et
    al. 2014, arXiv:1406.2661, Algorithm 1). Models change its parts, not the step.

    Args:
        spec: Of the training images.
        make_generator: Builds the generator.
        make_discriminator: Builds the discriminator.
        latent_dim: Length of the noise vector.
        noise: ``normal`` is N(0, 1), ``uniform`` is uniform in [-1, 1].
        loss: Name of an adversarial loss.
        critic_steps: Discriminator updates per generator update.
        label_smoothing: How far the target for real images lies below 1; 0 is off.
        gradient_penalty: Weight of the penalty of Gulrajani et al. 2017 (arXiv:1704.00028); 0 is off.
        r1: gamma of the penalty gamma/2 |grad D|^2 on real images (Mescheder et al. 2018, arXiv:1801.04406); 0 is off.
        pool_size: Generated images kept to be shown to the discriminator again; 0 is off.
        ema: Decay of the generator's moving average per update, used for samples and tests; 0 is off.
    """

    needs = frozenset({"image"})
    uses_labels: ClassVar[bool] = False  # whether the generator is told what to make
    preview_latent: Tensor
    preview_labels: Tensor | None

    def __init__(
        self,
        *,
        spec: ImageSpec,
        make_generator: MakeNetwork,
        make_discriminator: MakeNetwork,
        latent_dim: PositiveInt,
        noise: Literal["normal", "uniform"],
        loss: str,
        critic_steps: RepeatCount,
        label_smoothing: UnitFloat,
        gradient_penalty: NonNegativeFloat,
        r1: NonNegativeFloat,
        pool_size: NonNegativeInt,
        ema: UnitFloat,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.latent_dim = latent_dim
        self.noise = noise
        self.loss = adversarial_loss(loss, label_smoothing=label_smoothing)
        self.critic_steps = critic_steps
        self.label_smoothing = label_smoothing
        self.gradient_penalty = gradient_penalty
        self.r1 = r1
        self.ema = ema
        self.pool = ImagePool(pool_size)
        shape = spec.shape("image")
        self.generator = make_generator(
            latent_dim=self.latent_size, shape=shape, num_classes=spec.num_classes if self.uses_labels else 0
        )
        self.discriminator = make_discriminator(
            shape=shape, num_classes=self.discriminator_classes, num_outputs=self.num_outputs
        )
        latent, labels = self.preview()
        self.register_buffer("preview_latent", latent)
        self.register_buffer("preview_labels", labels)

    # ---- sizes that a model may change

    @property
    def latent_size(self) -> int:
        """Length of the generator's input: the noise, and codes where there are any."""
        return self.latent_dim

    @property
    def num_outputs(self) -> int:
        """Logits that the discriminator puts out per image."""
        return 1

    @property
    def discriminator_classes(self) -> int:
        """How many labels the discriminator is told; 0 for none."""
        return 0

    # ---- the step

    def train_step(self, batches: Iterator[Batch], update: Updates) -> dict[str, Tensor]:
        """Critic updates, each with a fresh batch and fresh noise, then the generator's."""
        losses: dict[str, Tensor] = {}
        for _ in range(self.critic_steps_at(update.step)):
            real = next(batches)
            latent, labels = self.draw(len(real["image"]), update.draws)
            with torch.no_grad():
                fake = self.generator(latent, labels)
            fake, latent, labels = self.pool(fake, latent, labels)
            losses |= self.update_discriminator(real, fake, latent, labels, update)
        latent, labels = self.draw(len(real["image"]), update.draws)
        loss, parts = self.generator_loss(self.generator(latent, labels), latent, labels)
        update.generator(loss)
        return {name: value.detach() for name, value in (losses | parts).items()}

    def critic_steps_at(self, step: int) -> int:
        """Discriminator updates before generator update number ``step`` (from 0)."""
        return self.critic_steps

    def update_discriminator(
        self, real: Batch, fake: Tensor, latent: Tensor, labels: Tensor | None, update: Updates
    ) -> dict[str, Tensor]:
        """One discriminator update: the model's loss and the penalties that are switched on."""
        loss, parts = self.discriminator_loss(real, fake, latent, labels)
        if self.gradient_penalty or self.r1:
            penalties = self.penalties(real, fake, update.draws)
            parts |= penalties
            loss = loss + self.gradient_penalty * penalties.get("gradient_penalty", 0)
            loss = loss + self.r1 / 2 * penalties.get("r1", 0)
        update.discriminator(loss)
        return parts

    def discriminator_loss(
        self, real: Batch, fake: Tensor, latent: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and its parts for the log; ``fake`` was made from ``latent`` and ``labels``."""
        real_logits = self.discriminator(real["image"])
        fake_logits = self.discriminator(fake)
        return self.adversarial_terms(real_logits, fake_logits)

    def adversarial_terms(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's adversarial loss and its two terms."""
        d_real = self.loss.real(real_logits, self.label_smoothing)
        d_fake = self.loss.fake(fake_logits)
        return d_real + d_fake, {"d_real": d_real, "d_fake": d_fake}

    def generator_loss(self, fake: Tensor, latent: Tensor, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and its parts for the log."""
        loss = self.loss.generator(self.discriminator(fake))
        return loss, {"g": loss}

    def penalty_critic(self, real: Batch) -> Callable[[Tensor], Tensor]:
        """Images, (N, C, H, W) beside the batch ``real``, to the logits of which penalties take the gradient."""
        return self.discriminator

    def penalties(self, real: Batch, fake: Tensor, draws: StepRandom) -> dict[str, Tensor]:
        """The unweighted penalties that are switched on, in the precision of the weights."""
        found = {}
        images = real["image"]
        critic = self.penalty_critic(real)
        with full_precision():
            if self.gradient_penalty:
                mix = draws.uniform(len(images))
                found["gradient_penalty"] = gradient_penalty(critic, images, fake.to(images.dtype), mix)
            if self.r1:
                found["r1"] = r1_penalty(critic, images)
        return found

    # ---- noise and samples

    def draw(self, count: int, draws: StepRandom) -> tuple[Tensor, Tensor | None]:
        """Noise (count, latent_size), and (count,) labels for models that use them."""
        labels = draws.integers(count, self.spec.num_classes) if self.uses_labels else None
        if self.noise == "normal":
            latent = draws.normal(count, self.latent_dim)
        else:
            latent = draws.uniform(count, self.latent_dim) * 2 - 1
        return latent.to(next(self.parameters()).dtype), labels

    def latents(self, count: int, *, seed: int) -> Tensor:
        """(count, latent_size), the input of ``sample``: always the same for the same seed."""
        latent, _ = self.draw(count, StepRandom(seed, torch.device("cpu")))
        return latent.to(next(self.parameters()))

    def preview(self) -> tuple[Tensor, Tensor | None]:
        """The noise and labels of the sample grid, in rows of ``COLUMNS``: one class a row where there are classes."""
        seed = int(torch.randint(2**31, ()))  # of the run, whose seed the default generator has
        if not self.uses_labels:
            return self.latents(COLUMNS * COLUMNS, seed=seed), None
        rows = min(COLUMNS, self.spec.num_classes)
        return self.latents(COLUMNS, seed=seed).repeat(rows, 1), torch.arange(rows).repeat_interleave(COLUMNS)

    @torch.no_grad()
    def sample(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] from (N, latent_size) and, for models that use them, (N,) labels.

        Raises:
            ConfigError: Labels are missing, or given to a model without any.
        """
        if self.uses_labels and labels is None:
            raise ConfigError("this model needs labels: one class number per latent vector")
        if labels is not None and not self.uses_labels:
            raise ConfigError("this model makes images without labels")
        return self.generator(latent, labels)

    def visuals(self, batch: Batch) -> dict[str, Tensor]:
        """The grid of samples, from the same noise all along."""
        return {"samples": self.sample(self.preview_latent, self.preview_labels)}

    def generators(self) -> list[nn.Module]:
        """The generator."""
        return [self.generator]

    def discriminators(self) -> list[nn.Module]:
        """The discriminator."""
        return [self.discriminator]


def network_sizes(model: GAN) -> dict[str, int]:
    """Parameters of each network, by its name in the model."""
    names = {module: name for name, module in model.named_modules()}
    networks = [*model.generators(), *model.discriminators()]
    return {names[network]: sum(parameter.numel() for parameter in network.parameters()) for network in networks}
