"""The base classes of models that translate images of one domain into another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict

import torch
from torch import Tensor, nn

from gantrain.config.renamed import RenamedMethod
from gantrain.data.base import IMAGE_KEYS, Batch
from gantrain.errors import ConfigError
from gantrain.models.base import AdversarialGAN
from gantrain.models.inputs import check_images
from gantrain.networks.common import full_precision
from gantrain.networks.per_image import as_in_training
from gantrain.runtime.seeding import StepRandom, derive_seed

Direction: TypeAlias = Literal["a_to_b", "b_to_a"]
# ``train``: dropout, and batch norm as in training (see ``Translator.image_statistics``); ``per_image``: dropout, and
# batch norm by the statistics of each image; ``eval``: no dropout, batch norm by its running statistics.
NetworkMode: TypeAlias = Literal["train", "per_image", "eval"]


class InMode(TypedDict, total=False):
    """Arguments of ``Translator.translate`` that follow from a network mode."""

    seeds: Sequence[int] | None
    image_statistics: bool | None


class Translator(nn.Module, ABC):
    """A module that translates images: a model with its discriminators, or a bare generator."""

    needs: ClassVar[frozenset[str]] = frozenset({"a", "b"})  # Batch keys that it reads.
    channels: dict[str, int]  # Number of channels of its images, per domain.
    directions: tuple[Direction, ...] = ("a_to_b",)
    # Whether it was trained on batches of one image, so that batch norm used the statistics of single images.
    image_statistics: bool = True

    @abstractmethod
    def generator_of(self, direction: Direction) -> nn.Module:
        """The network that translates in that direction."""

    @torch.no_grad()
    def translate(
        self,
        image: Tensor,
        direction: Direction = "a_to_b",
        *,
        seeds: Sequence[int] | None = None,
        image_statistics: bool | None = None,
    ) -> Tensor:
        """Images (N, C', H, W) in [-1, 1] from images (N, C, H, W), of any height and width.

        The images are padded by reflection at their lower and right edges to sides that the network accepts, and the
        result is cropped.

        Args:
            image: (N, C, H, W) in [-1, 1].
            direction: One of ``directions``.
            seeds: One per image, for its dropout. None: the network is called in its current mode, which is evaluation
                mode in a model that was loaded.
            image_statistics: With ``seeds``, whether batch norm uses the statistics of each image, or its running ones;
                None: as in training.
        """
        if direction not in self.directions:
            raise ConfigError(f"direction={direction}: this model only translates {' and '.join(self.directions)}")
        generator = self.generator_of(direction)
        dtype = next((parameter.dtype for parameter in generator.parameters()), None)
        check_images(image, self.input_channels(direction), dtype)
        height, width = image.shape[-2:]
        for axis, size in zip((-2, -1), accepted_sides(generator, height, width), strict=True):
            if size > image.size(axis):
                image = image.index_select(axis, mirrored(image.size(axis), size).to(image.device))
        if seeds is None:
            output = generator(image)
        else:
            # A compiled network would use its own dropout and batch norm.
            alone = self.image_statistics if image_statistics is None else image_statistics
            with as_in_training(generator, seeds, image_statistics=alone), full_precision():
                output = generator(image)
        return output[..., :height, :width]

    def from_stored(self, image: Tensor) -> Tensor:
        """What ``translate`` takes, of images as files contain them, all in [-1, 1]; overridden where they differ."""
        return image

    def to_stored(self, output: Tensor, image: Tensor) -> Tensor:
        """Images for files, of the ``output`` for ``from_stored(image)``."""
        return output

    def uses_image_statistics(self, network_mode: NetworkMode) -> bool:
        """Whether batch norm uses the statistics of each image in a network mode."""
        return network_mode == "per_image" or (network_mode == "train" and self.image_statistics)

    def input_channels(self, direction: Direction) -> int | None:
        """The number of channels that ``translate`` takes; None if unknown."""
        return self.channels.get(direction[0])

    def latents(self, count: int, *, seed: int) -> Tensor:
        """Refused, as are samples: this model translates images."""
        raise ConfigError(f"{type(self).__name__} translates images and has no latents or samples: use translate")

    def sample(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Refused: see ``latents``."""
        return self.latents(0, seed=0)

    def results(self, batch: Batch, direction: Direction, *, network_mode: NetworkMode = "train") -> dict[str, Tensor]:
        """The images that a page shows of a translated batch: (N, C, H, W) in [-1, 1], named as in the authors' code.

        Args:
            batch: Contains the input, and optionally ``name`` and the target.
            direction: One of ``directions``.
            network_mode: ``train``: dropout, seeded by the name of the image, and batch norm as in training;
                ``per_image`` is the same with the statistics of each image, as in the code of pix2pix (Isola et al.
                2017, arXiv:1611.07004), whatever the batches of training; ``eval``: neither.
        """
        source, target = direction[0], direction[-1]
        images = {
            f"real_{source}": batch[source],
            f"fake_{target}": self.translate(batch[source], direction, **in_mode(names_of(batch), network_mode)),
        }
        return images | ({f"real_{target}": batch[target]} if target in batch else {})


class BareGenerator(Translator):
    """A generator without a model, from a ``.pth`` file."""

    def __init__(self, generator: nn.Module, direction: Direction, channels: dict[str, int]) -> None:
        super().__init__()
        self.generator = generator
        self.directions = (direction,)
        self.channels = channels

    def generator_of(self, direction: Direction) -> nn.Module:
        return self.generator


class TranslationGAN(Translator, AdversarialGAN):
    """A GAN that translates images."""

    previews: ClassVar[int] = 4
    columns: ClassVar[int | None] = None
    fitting = RenamedMethod("check_sizes")

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.channels = self.spec.channels

    def discriminator_loss(
        self, discriminator: nn.Module, real: Tensor, fake: Tensor, draws: StepRandom
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, half the sum of both terms plus the penalties; and each of them for the log.

        The sum is halved as in both papers, to slow the discriminator down. ``fake`` is detached.
        """
        logits = [discriminator(self.augmented(images, draws)) for images in (real, fake)]
        loss, parts = self.adversarial_terms(*logits)
        penalties = self.penalties(discriminator, real, fake, draws)
        return self.add_penalties(loss / 2, penalties), parts | penalties

    def penalties(self, discriminator: nn.Module, real: Tensor, fake: Tensor, draws: StepRandom) -> dict[str, Tensor]:
        """Scalars by name, for ``add_penalties`` and the log; override it to add more."""
        return self.penalties_of(discriminator, real, fake, draws) | self.r2_of(discriminator, fake, draws)

    def check_sizes(self, batch: Batch) -> Batch:
        """The batch, refused if a network does not accept the size of its images."""
        sides = _images(batch).shape[-2:]
        for network in (*self.generators(), *self.discriminators()):
            multiple, smallest = size_limits(network)
            if min(sides) < smallest or any(side % multiple for side in sides):
                raise ConfigError(
                    f"{batch.get('name', ['an image'])[0]} has {sides[0]} x {sides[1]} pixels, and "
                    f"{type(network).__name__} takes sides of at least {max(multiple, smallest)} that are multiples of "
                    f"{multiple}: give data.preprocess=resize_and_crop, or another that crops, and data.crop_size"
                )
        return batch

    def visuals(self, batch: Batch) -> dict[str, Tensor]:
        """The ``results`` of every direction."""
        shown: dict[str, Tensor] = {}
        for direction in self.directions:
            shown |= self.results(batch, direction)
        return shown


def names_of(batch: Batch) -> Sequence[int | str]:
    """The names of the images of a batch, or else their positions."""
    names: Sequence[int | str] = batch.get("name", range(len(_images(batch))))
    return names


def in_mode(names: Sequence[int | str], network_mode: NetworkMode) -> InMode:
    """Arguments of ``translate`` for a network mode: the seed of an image, for its dropout, depends on its name."""
    if network_mode == "eval":
        return {"seeds": None}
    seeds = [derive_seed("dropout", name) for name in names]
    return {"seeds": seeds, "image_statistics": True if network_mode == "per_image" else None}


def _images(batch: Batch) -> Tensor:
    images: Tensor = next(batch[key] for key in IMAGE_KEYS if key in batch)
    return images


def size_limits(network: nn.Module) -> tuple[int, int]:
    """The number that the sides of an image must be multiples of, and their minimum."""
    return int(getattr(network, "multiple", 1)), int(getattr(network, "smallest", 1))


def accepted_sides(network: nn.Module, height: int, width: int) -> tuple[int, int]:
    """The smallest height and width that a network accepts and an image fits into."""
    multiple, smallest = size_limits(network)
    first, second = (-(-max(side, smallest) // multiple) * multiple for side in (height, width))
    return first, second


def mirrored(side: int, size: int) -> Tensor:
    """The index of a row or column of an image for each of ``size``: beyond its side by reflection, repeatedly."""
    indices = torch.arange(size) % (2 * side)
    return torch.where(indices < side, indices, 2 * side - 1 - indices)
