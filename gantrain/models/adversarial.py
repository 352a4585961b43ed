"""The base classes of models: networks and a training step, and those with an adversarial loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gantrain.config.renamed import rename_overrides
from gantrain.config.schema import NonNegativeFloat, PositiveFloat, PositiveInt, UnitFloat
from gantrain.data.base import Batch, ImageSpec
from gantrain.errors import ConfigError
from gantrain.models.augmentation.adaptive import AdaptiveAugmentation
from gantrain.models.augmentation.differentiable import Operation, augmented
from gantrain.models.losses.adversarial import adversarial_loss, gradient_penalty, r1_penalty
from gantrain.networks.common import full_precision, is_spectral
from gantrain.optim.updates import Updates
from gantrain.runtime.seeding import StepRandom

COLUMNS = 10  # Columns of the sample grids.
Logits: TypeAlias = Tensor | tuple[Tensor, ...]  # Of a discriminator: of any shape, or those of each of its scales.


class GAN(nn.Module, ABC):
    """Networks and the training step that updates them. Its ``state_dict`` is complete: a run resumes from it."""

    needs: ClassVar[frozenset[str]] = frozenset()  # Batch keys that it reads; checked against the data before training.
    needs_pairs: ClassVar[bool] = False  # Whether `a` and `b` must be paired.
    reads_unknown_labels: ClassVar[bool] = False  # Whether it accepts labels of -1; see `data.labelled`.
    previews: ClassVar[int] = 0  # Number of held-out images that `visuals` is given.
    columns: ClassVar[int | None] = COLUMNS  # Columns of a grid; None shows a row per image and a column per visual.
    ema: float = 0.0  # Decay of the generators' moving averages per update; 0 is off.
    ema_rampup: float = 0.0  # See ``gantrain.optim.ema``; 0 is off.

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        rename_overrides(cls)
        changes_steps = "train_step" in vars(cls) or not cls.__module__.startswith("gantrain.")
        if changes_steps and "step_kind" not in vars(cls):
            cls.step_kind = GAN.step_kind  # type: ignore[method-assign]

    @abstractmethod
    def train_step(self, batches: Iterator[Batch], update: Updates) -> dict[str, Tensor]:
        """One generator update and its discriminator updates; returns detached scalars for the log, on the device."""

    def step_kind(self, step: int) -> Hashable | None:
        """What the operations of step number ``step`` (from 0) depend on, for ``trainer.cuda_graphs``.

        Steps of one kind dispatch the same operations on batches of the same shapes, with the same numbers of the host;
        what changes is in tensors, which are changed in place. None for a step that is never captured. A class that
        overrides ``train_step``, and every class of a plug-in, overrides this as well, or its steps are never captured.
        """
        return None

    def visuals(self, batch: Batch) -> dict[str, Tensor]:
        """Images (N, C, H, W) in [-1, 1] for the pages; none by default. ``batch`` has ``previews`` images."""
        return {}

    def generators(self) -> list[nn.Module]:
        """The networks that ``update.generator`` trains: by default, attributes whose names begin so."""
        return [network for name, network in self.named_children() if name.startswith("generator")]

    def discriminators(self) -> list[nn.Module]:
        """The networks that ``update.discriminator`` trains: by default, attributes whose names begin so."""
        return [network for name, network in self.named_children() if name.startswith("discriminator")]

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Metrics on held-out batches, which may be none; no metrics by default."""
        return {}


class AdversarialGAN(GAN):
    """A GAN with one of the adversarial losses by name, and penalties on the discriminator.

    Args:
        loss: The adversarial loss; see ``gantrain.models.losses.adversarial``.
        label_smoothing: Difference between 1 and the target for real images; 0 is off.
        gradient_penalty: Weight of the penalty of Gulrajani et al. 2017 (arXiv:1704.00028); 0 is off.
        r1: gamma of the penalty gamma/2 |grad D|^2 on real images (Mescheder et al. 2018, arXiv:1801.04406); 0 is off.
        r2: gamma of the same penalty on generated images; 0 is off.
        r1_every: Period, in steps, of both, which then have so many times their weight (lazy regularisation: Karras et
            al. 2020, arXiv:1912.04958).
        ema: Decay of the generators' moving averages per update, used for samples and tests; 0 is off.
        ema_rampup: Half-life of the averages, as a share of the updates so far, until it is that of ``ema``; initial
            weights are forgotten (Karras et al. 2020, arXiv:2006.06676, whose code has 0.05). 0 is off.
        augment: Operations on all images that the discriminators see, real and generated: ``color``, ``translation``,
            ``cutout`` (Zhao et al. 2020, arXiv:2006.10738), in this order; see
            ``gantrain.models.augmentation.differentiable``. ``ada``: operations whose probability, logged as
            ``augment_p``, adapts to the discriminator (Karras et al. 2020, arXiv:2006.06676); see
            ``gantrain.models.augmentation.adaptive``.
        augment_target: With ``ada``, the mean sign of the discriminator's logits of real images above which the
            probability rises, and below which it falls (0.6 in the paper).
        augment_every: Period, in steps, of these changes (4 in the authors' code).
        augment_kimg: Thousands of real images in which the probability can rise from 0 to 1 (500 there).
    """

    augments_color: ClassVar[bool] = True  # Whether ``augment=ada`` changes colors.

    real_logits: Logits | None = None  # Of the real images of the generator's update, if its loss compares.

    def __init__(
        self,
        *,
        spec: ImageSpec,
        loss: str,
        label_smoothing: UnitFloat,
        gradient_penalty: NonNegativeFloat,
        r1: NonNegativeFloat,
        r2: NonNegativeFloat,
        r1_every: PositiveInt,
        ema: UnitFloat,
        ema_rampup: NonNegativeFloat,
        augment: list[Operation] | Literal["ada"],
        augment_target: UnitFloat,
        augment_every: PositiveInt,
        augment_kimg: PositiveFloat,
    ) -> None:
        super().__init__()
        self.without_effect: dict[str, str] = {}  # Keys that change nothing because of others, each with the reason.
        self.spec = spec
        self.loss = adversarial_loss(loss, label_smoothing=label_smoothing)
        self.label_smoothing = label_smoothing
        self.gradient_penalty = gradient_penalty
        self.r1, self.r2, self.r1_every = r1, r2, r1_every
        self.ema, self.ema_rampup = ema, ema_rampup
        if augment != "ada" and len({*augment}) < len(augment):
            raise ConfigError(f"model.augment=[{','.join(augment)}] has an operation twice: give each once")
        self.augment: list[Operation] = [] if augment == "ada" else augment
        self.adaptive: AdaptiveAugmentation | None = None
        if augment == "ada":
            self.adaptive = AdaptiveAugmentation(
                loss=loss, target=augment_target, every=augment_every, kimg=augment_kimg, color=self.augments_color
            )
        else:
            reason = "augment is not ada"
            self.without_effect |= dict.fromkeys(["augment_target", "augment_every", "augment_kimg"], reason)
        if not (r1 or r2):
            self.without_effect["r1_every"] = "r1 and r2 are 0"
        if not ema:
            self.without_effect["ema_rampup"] = "ema is 0"

    def augmented(self, images: Tensor, draws: StepRandom, *, channels: Sequence[int] | None = None) -> Tensor:
        """What a discriminator sees of images (N, C, H, W), with new random numbers at each call; differentiable.

        ``channels`` are those of each of several images that are concatenated in dimension 1, with the same numbers.
        """
        if self.adaptive is not None:
            return self.adaptive(images, draws, channels=channels)
        return augmented(images, self.augment, draws, channels=channels)

    def adapt_augmentation(self, draws: StepRandom, images: int) -> dict[str, Tensor]:
        """To be called at the end of a step that has shown so many real images; returns what is to be logged."""
        return {"augment_p": self.adaptive.adapt(draws, images)} if self.adaptive is not None else {}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        # A run may begin to augment adaptively, or stop it, in a new segment.
        stored = f"{prefix}adaptive."
        own = self.adaptive.state_dict(prefix=stored) if self.adaptive is not None else {}
        for key in [key for key in state_dict if key.startswith(stored) and key not in own]:
            del state_dict[key]
        for key, value in own.items():
            state_dict.setdefault(key, value)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def adversarial_kind(self, step: int) -> Hashable:
        """The part of ``step_kind`` that this class decides: lazy penalties, and changes of adaptive augmentation."""
        adapts = self.adaptive is not None and self.adaptive.is_due(step)
        return bool(self.r1 or self.r2) and step % self.r1_every == 0, adapts

    def bounds_critic(self) -> bool:
        """Whether penalties, or spectral norm in all layers, bound the critic's slope; overridden for other ways."""
        return bool(self.gradient_penalty or self.r1 or self.r2 or all(map(is_spectral, self.discriminators())))

    def adversarial_terms(self, real_logits: Logits, fake_logits: Logits) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's adversarial loss and its terms, each summed over its scales."""
        if self.adaptive is not None:
            self.adaptive.record(by_scale(real_logits))
        pairs = zip(by_scale(real_logits), by_scale(fake_logits), strict=True)
        scales = [self.loss.discriminator_terms(real, fake, self.label_smoothing) for real, fake in pairs]
        terms = {name: total([scale[name] for scale in scales]) for name in scales[0]}
        return total(list(terms.values())), terms

    def adversarial_term(self, fake_logits: Logits, real_logits: Logits | None) -> Tensor:
        """The generator's adversarial loss, summed over the scales; ``real_logits`` are those of ``compared``."""
        fakes = by_scale(fake_logits)
        reals = [None] * len(fakes) if real_logits is None else by_scale(real_logits)
        return total([self.loss.generator_term(fake, real) for fake, real in zip(fakes, reals, strict=True)])

    def compared(self, discriminator: Callable[[Tensor], Logits], real: Tensor, draws: StepRandom) -> Logits | None:
        """The logits of real images (N, C, H, W) that the generator's loss compares with, if it does."""
        if not self.loss.compares:
            return None
        with torch.no_grad():
            return discriminator(self.augmented(real, draws))

    def penalties_of(
        self, critic: Callable[[Tensor], Logits], real: Tensor, fake: Tensor, draws: StepRandom
    ) -> dict[str, Tensor]:
        """The penalties that are on, without their weights, in the precision of the weights of the networks.

        Their gradients are those with respect to images before they are augmented, as in Karras et al. 2020
        (arXiv:2006.06676) and Huang et al. 2024 (arXiv:2501.05441).
        """
        terms, seen = {}, self._seen_by(critic, draws)
        with full_precision():
            if self.gradient_penalty:
                mix = draws.uniform(len(real))
                terms["gradient_penalty"] = gradient_penalty(seen, real, fake.to(real.dtype), mix)
            if self.r1 and draws.step % self.r1_every == 0:
                terms["r1"] = r1_penalty(seen, real)
        return terms

    def r2_of(self, critic: Callable[[Tensor], Logits], fake: Tensor, draws: StepRandom) -> dict[str, Tensor]:
        """R2 on generated images (N, C, H, W) if it is on, as ``penalties_of``."""
        if not self.r2 or draws.step % self.r1_every:
            return {}
        with full_precision():
            return {"r2": r1_penalty(self._seen_by(critic, draws), fake)}

    def _seen_by(self, critic: Callable[[Tensor], Logits], draws: StepRandom) -> Callable[[Tensor], Tensor]:
        def logits(images: Tensor) -> Tensor:
            scales = by_scale(critic(self.augmented(images, draws)))
            return torch.cat([scale.flatten(1) for scale in scales], dim=1) if len(scales) > 1 else scales[0]

        return logits

    def add_penalties(self, loss: Tensor, penalties: dict[str, Tensor]) -> Tensor:
        """The loss plus the penalties: those of this class with their weights, any other as it is."""
        weights = {
            "gradient_penalty": self.gradient_penalty,
            "r1": self.r1 / 2 * self.r1_every,
            "r2": self.r2 / 2 * self.r1_every,
        }
        for name, penalty in penalties.items():
            loss = loss + weights.get(name, 1.0) * penalty
        return loss


def by_scale(logits: Logits) -> tuple[Tensor, ...]:
    """The logits of each scale of a discriminator."""
    return (logits,) if isinstance(logits, Tensor) else tuple(logits)


def total(values: Sequence[Tensor]) -> Tensor:
    """The sum of at least one tensor."""
    first, *others = values
    return sum(others, first)


def scores(logits: Logits) -> Tensor:
    """(N,): the mean logit of each image, of all scales."""
    scales = [scale.flatten(1).mean(dim=1) for scale in by_scale(logits)]
    return total(scales) / len(scales)
