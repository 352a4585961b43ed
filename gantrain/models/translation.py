"""Models that translate images of one domain into another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gantrain.config.schema import NonNegativeFloat, UnitFloat
from gantrain.data.base import IMAGE_KEYS, Batch, ImageSpec
from gantrain.errors import ConfigError
from gantrain.models.base import GAN
from gantrain.models.losses import adversarial_loss, gradient_penalty
from gantrain.networks.common import full_precision
from gantrain.networks.per_image import as_in_training
from gantrain.runtime.seeding import StepRandom, derive_seed

Direction: TypeAlias = Literal["a_to_b", "b_to_a"]
NetworkMode: TypeAlias = Literal["train", "eval"]


class Translator(nn.Module, ABC):
    """Anything that translates images: a model with its discriminators, or a bare generator.

    Attributes:
        needs: Batch keys that it learns from.
        directions: Those it knows; ``a`` and ``b`` are the domains, as in the papers' code.
        channels: Of its images, per domain.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"a", "b"})
    channels: dict[str, int]
    directions: tuple[Direction, ...] = ("a_to_b",)

    @abstractmethod
    def generator_of(self, direction: Direction) -> nn.Module:
        """The network that translates so."""

    @torch.no_grad()
    def translate(
        self, image: Tensor, direction: Direction = "a_to_b", *, seeds: Sequence[int] | None = None
    ) -> Tensor:
        """Images (N, C', H, W) in [-1, 1] from images (N, C, H, W), of any height and width.

        The images are mirrored at their lower and right edges up to the sides that the network needs, and the result is
        cut back.

        Args:
            image: In [-1, 1].
            direction: One of ``directions``.
            seeds: One per image: dropout is on, drawn from its seed, and batch norm takes the statistics of each image
                alone. None: as the networks stand, which is evaluation mode in a model that was loaded.

        Raises:
            ConfigError: It does not know that direction.
        """
        if direction not in self.directions:
            raise ConfigError(f"direction={direction}: this model knows only {' and '.join(self.directions)}")
        generator = self.generator_of(direction)
        height, width = image.shape[-2:]
        multiple, smallest = (int(getattr(generator, key, 1)) for key in ("multiple", "smallest"))
        image = _mirrored(image, *(-(-max(side, smallest) // multiple) * multiple for side in (height, width)))
        if seeds is None:
            made = generator(image)
        else:
            # and not compiled: as compiled, a network would keep its own dropout and batch norm
            with as_in_training(generator, seeds), full_precision():
                made = generator(image)
        return made[..., :height, :width]

    def results(self, batch: Batch, direction: Direction, *, network_mode: NetworkMode = "train") -> dict[str, Tensor]:
        """Every image that a page shows of a batch translated so, (N, C, H, W) in [-1, 1], by the reference's names.

        Args:
            batch: Holds the input, ``name``, and the target where there is one.
            direction: One of ``directions``.
            network_mode: ``train`` as in the paper of pix2pix: dropout and batch norm as in training, each image for
                itself, dropout seeded by its name.
        """
        source, target = direction[0], direction[-1]
        made = {
            f"real_{source}": batch[source],
            f"fake_{target}": self.translate(batch[source], direction, seeds=seeds_of(batch, network_mode)),
        }
        return made | ({f"real_{target}": batch[target]} if target in batch else {})


class BareGenerator(Translator):
    """A generator on its own, as it comes in a ``.pth`` file.

    Args:
        generator: The network.
        direction: What it does.
        channels: Of its images, per domain.
    """

    def __init__(self, generator: nn.Module, direction: Direction, channels: dict[str, int]) -> None:
        super().__init__()
        self.generator = generator
        self.directions = (direction,)
        self.channels = channels

    def generator_of(self, direction: Direction) -> nn.Module:
        """The generator."""
        return self.generator


class TranslationGAN(Translator, GAN):
    """A GAN that translates images.

    Args:
        spec: Of the training images.
        loss: Name of an adversarial loss.
        label_smoothing: How far the target for real images lies below 1; 0 is off.
        gradient_penalty: Weight of the penalty of Gulrajani et al. 2017 (arXiv:1704.00028); 0 is off.
        ema: Decay of the generators' moving averages per update, used for samples and tests; 0 is off.
    """

    previews: ClassVar[int] = 4
    columns: ClassVar[int | None] = None

    def __init__(
        self,
        *,
        spec: ImageSpec,
        loss: str,
        label_smoothing: UnitFloat,
        gradient_penalty: NonNegativeFloat,
        ema: UnitFloat,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.channels = spec.channels
        self.loss = adversarial_loss(loss, label_smoothing=label_smoothing)
        self.label_smoothing = label_smoothing
        self.gradient_penalty = gradient_penalty
        self.ema = ema
        if loss == "wasserstein" and not gradient_penalty:
            raise ConfigError(
                "model.loss=wasserstein needs a critic that is kept smooth: give model.gradient_penalty "
                "(10 in its paper) and network.norm=instance"
            )

    def discriminator_loss(
        self, discriminator: nn.Module, real: Tensor, fake: Tensor, draws: StepRandom
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, half the sum of two terms and the penalty if it is on; and each of them for the log.

        Halved as in both papers, so that the discriminator learns at half the generator's pace. ``fake`` carries no
        gradient.
        """
        d_real = self.loss.real(discriminator(real), self.label_smoothing)
        d_fake = self.loss.fake(discriminator(fake))
        loss, parts = (d_real + d_fake) / 2, {"d_real": d_real, "d_fake": d_fake}
        if self.gradient_penalty:
            with full_precision():
                penalty = gradient_penalty(discriminator, real, fake.to(real.dtype), draws.uniform(len(real)))
            loss = loss + self.gradient_penalty * penalty
            parts["gradient_penalty"] = penalty
        return loss, parts

    def check_sizes(self, batch: Batch) -> Batch:
        """The batch, if its images have sides that the networks can take.

        Raises:
            ConfigError: They have not.
        """
        images = next(batch[key] for key in IMAGE_KEYS if key in batch)
        sides = images.shape[-2:]
        for network in (*self.generators(), *self.discriminators()):
            multiple, smallest = (int(getattr(network, key, 1)) for key in ("multiple", "smallest"))
            if min(sides) < smallest or any(side % multiple for side in sides):
                raise ConfigError(
                    f"{batch.get('name', ['an image'])[0]} comes to {sides[0]} x {sides[1]} pixels, and "
                    f"{type(network).__name__} takes sides of at least {max(multiple, smallest)} that are multiples of "
                    f"{multiple}: give data.preprocess=resize_and_crop, or another that crops, and data.crop_size"
                )
        return batch

    def visuals(self, batch: Batch) -> dict[str, Tensor]:
        """Input, output and what else there is of every direction, as in training."""
        shown: dict[str, Tensor] = {}
        for direction in self.directions:
            shown |= self.results(batch, direction)
        return shown


def seeds_of(batch: Batch, network_mode: NetworkMode) -> list[int] | None:
    """Of the batch's dropout, by its names, or else places; None in evaluation mode."""
    if network_mode == "eval":
        return None
    images = next(batch[key] for key in IMAGE_KEYS if key in batch)
    return [derive_seed("dropout", name) for name in batch.get("name", range(len(images)))]


def _mirrored(image: Tensor, height: int, width: int) -> Tensor:
    """(N, C, height, width): continued at the lower and right edges by mirroring, as often as it takes."""
    for axis, size in ((-2, height), (-1, width)):
        old = image.size(axis)
        if size > old:
            places = torch.arange(size, device=image.device) % (2 * old)
            image = image.index_select(axis, torch.where(places < old, places, 2 * old - 1 - places))
    return image
