"""Translation between unpaired images in one direction: CUT and FastCUT."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from gantrain.config.schema import NonNegativeFloat, NonNegativeInt, Range
from gantrain.data.base import Batch
from gantrain.errors import ConfigError
from gantrain.models.base import MakeNetwork
from gantrain.models.losses.patch_nce import patch_nce, patches, unit_length
from gantrain.models.pool import ImagePool
from gantrain.models.translation import Direction, TranslationGAN
from gantrain.networks.common import full_precision
from gantrain.networks.patch_head import PatchHead
from gantrain.networks.resnet import ResnetGenerator
from gantrain.optim.updates import Updates
from gantrain.registry import MODELS
from gantrain.runtime.seeding import StepRandom


@MODELS.register("cut")
class CUT(TranslationGAN):
    """Translates a to b, trained without pairs: Park et al. 2020 (arXiv:2007.15651).

    Patches of the output are to be more like the input's patches at their own place than like others, in features of
    the generator's first layers. ``head``, which is F in the authors' code, belongs to the generator's side.

    Args:
        lambda_nce: Weight of PatchNCE; the mean over layers, and with ``nce_idt`` over both terms.
        nce_idt: Whether the generator's outputs for images of b are compared with them, too.
        nce_layers: Numbers of the generator's layers whose outputs are compared, ascending.
        nce_temperature: What similarities are divided by; above 0.
        num_patches: Of each image and layer; all of a smaller layer. Their places are those of the whole batch.
        flip_equivariance: Whether the generator's input is mirrored in half of the steps, and the output's features
            mirrored back.
        head_width: Length of the vectors that are compared.
        head_init_gain: Gain of the head's Xavier initialisation.
        pool_size: Number of generated images stored to train the discriminator on again; 0 is off.
    """

    def __init__(
        self,
        *,
        make_generator: MakeNetwork,
        make_discriminator: MakeNetwork,
        lambda_nce: Annotated[float, Range(above=0)],
        nce_idt: bool,
        nce_layers: list[NonNegativeInt],
        nce_temperature: Annotated[float, Range(above=0)],
        num_patches: Annotated[int, Range(at_least=2)],
        flip_equivariance: bool,
        head_width: Annotated[int, Range(at_least=1, at_most=4096)],
        head_init_gain: NonNegativeFloat,
        pool_size: NonNegativeInt,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        a, b = self.spec.shape("a"), self.spec.shape("b")
        if a[0] != b[0]:
            raise ConfigError(
                f"model=cut compares images of both domains, which have {a[0]} and {b[0]} channels: give data.channels "
                "and data.channels_b the same value"
            )
        if not nce_layers or sorted({*nce_layers}) != nce_layers:
            raise ConfigError(f"model.nce_layers={nce_layers}: expected ascending numbers of layers, as in [0,4,8]")
        self.lambda_nce, self.nce_idt, self.nce_layers = lambda_nce, nce_idt, nce_layers
        self.nce_temperature, self.num_patches = nce_temperature, num_patches
        self.flip_equivariance = flip_equivariance
        self.generator: Any = make_generator(input_shape=a, shape=b)
        # Whether the features of an image depend on it alone: then they are those of its translation, and those of
        # several images are computed at once.
        self._is_per_image = (
            type(self.generator) is ResnetGenerator
            and self.generator.norm in ("instance", "none")
            and not self.generator.dropout
        )
        self.head = PatchHead(channels=self._feature_channels(), outputs=head_width, gain=head_init_gain)
        self.discriminator = make_discriminator(shape=b)
        self.pool = ImagePool(pool_size)

    def _feature_channels(self) -> list[int]:
        if not hasattr(self.generator, "features"):
            raise ConfigError(
                f"network/generator: model=cut compares features, and {type(self.generator).__name__} has no method "
                "`features`; resnet has"
            )
        try:
            channels: list[int] = self.generator.feature_channels(self.nce_layers)
        except ConfigError as error:
            raise ConfigError(f"model.nce_layers={self.nce_layers}: {error}") from None
        return channels

    def generators(self) -> list[nn.Module]:
        return [self.generator, self.head]

    def train_step(self, batches: Iterator[Batch], update: Updates) -> dict[str, Tensor]:
        """The discriminator's update, then the generator's, on one batch and one forward pass of the generator."""
        batch = self.check_sizes(next(batches))
        a, b = batch["a"], batch["b"]
        sources = [a, b] if self.nce_idt else [a]
        groups = [sources] if a.shape == b.shape else [[source] for source in sources]
        mirrored = update.draws.coin() if self.flip_equivariance else None
        translated = [self._translate(torch.cat(group), len(group), mirrored) for group in groups]
        fake = translated[0][0][: len(a)]
        (old,) = self.pool(fake)
        d_loss, parts = self.discriminator_loss(self.discriminator, b, old, update.draws)
        update.discriminator(d_loss)
        logits = self.discriminator(self.augmented(fake, update.draws))
        g_gan = self.adversarial_term(logits, self.compared(self.discriminator, b, update.draws))
        nce = [
            self._nce(queries, its, mirrored, update.draws)
            for made, keys in translated
            for queries, its in zip(self._features(made, len(keys)), keys, strict=True)
        ]
        terms = dict(zip(("nce", "nce_y"), nce, strict=False))
        loss = g_gan + torch.stack(list(terms.values())).mean()
        update.generator(loss)
        losses = {"g": loss, "g_gan": g_gan, **terms, **parts, **self.adapt_augmentation(update.draws, len(a))}
        return {name: value.detach() for name, value in losses.items()}

    def step_kind(self, step: int) -> Hashable | None:
        return self.adversarial_kind(step)

    def _translate(self, sources: Tensor, parts: int, mirrored: Tensor | None) -> tuple[Tensor, list[Sequence[Tensor]]]:
        """The translations of the sources, and for each of ``parts`` equal parts of these the features, detached."""
        if self._is_per_image and mirrored is None:
            made, layers = self.generator(sources, self.nce_layers)
            return made, _by_part([features.detach() for features in layers], parts)
        made = self.generator(_mirrored(sources, mirrored))
        with torch.no_grad():
            return made, self._features(sources, parts)

    def _features(self, images: Tensor, parts: int) -> list[Sequence[Tensor]]:
        """For each of ``parts`` equal parts of images (N, C, H, W) the features of all layers."""
        if self._is_per_image:
            return _by_part(self.generator.features(images, self.nce_layers), parts)
        return [self.generator.features(part, self.nce_layers) for part in images.chunk(parts)]

    def _nce(
        self, queries: Sequence[Tensor], keys: Sequence[Tensor], mirrored: Tensor | None, draws: StepRandom
    ) -> Tensor:
        """The mean loss of all layers, weighted; ``mirrored`` says whether the image of the queries is."""
        places = [draws.permutation(features[0, 0].numel())[: self.num_patches] for features in keys]
        with torch.no_grad():
            key_vectors = self._vectors(keys, places)
        query_vectors = self._vectors([_mirrored(features, mirrored) for features in queries], places)
        losses = [
            patch_nce(query, key, images=len(keys[0]), temperature=self.nce_temperature)
            for query, key in zip(query_vectors, key_vectors, strict=True)
        ]
        return self.lambda_nce * torch.stack(losses).mean()

    def _vectors(self, layers: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        # The vectors of an untrained head are too short for half precision.
        with full_precision():
            return [
                unit_length(self.head(patches(features, chosen), number))
                for number, (features, chosen) in enumerate(zip(layers, places, strict=True))
            ]

    def generator_of(self, direction: Direction) -> nn.Module:
        return self.generator


def _by_part(layers: Sequence[Tensor], parts: int) -> list[Sequence[Tensor]]:
    """Features of each layer, of equal parts of the images, by part."""
    return list(zip(*(features.chunk(parts) for features in layers), strict=True))


def _mirrored(images: Tensor, whether: Tensor | None) -> Tensor:
    """Images or features (N, C, H, W), mirrored from left to right if ``whether`` is true."""
    return images if whether is None else torch.where(whether, images.flip(3), images)
