"""Adaptive augmentation of the images that a discriminator sees: Karras et al. 2020, arXiv:2006.06676."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gantrain.errors import ConfigError
from gantrain.models.augmentation.color import recolored
from gantrain.models.augmentation.geometry import copied, resampled
from gantrain.runtime import distributed
from gantrain.runtime.seeding import StepRandom

# The logit between real and generated images, by the name of the loss.
BOUNDARIES = {"logistic": 0.0, "minimax": 0.0, "hinge": 0.0, "least_squares": 0.5}
UNIFORM = ("flip", "quarters", "right", "down", "before", "after", "luma", "hue")
# Standard deviations, from the authors' code, in octaves or relative to the width and height.
NORMAL = {
    **{"size": 0.2, "aspect": 0.2, "move_x": 0.125, "move_y": 0.125},
    **{"brightness": 0.2, "contrast": 0.5, "saturation": 1.0},
}
FARTHEST_SHIFT = 0.125  # Relative to the width and height.


class AdaptiveAugmentation(nn.Module):
    """Random operations, each with the probability p, which rises while the discriminator is too sure of real images.

    In this order, as in the pipeline ``bgc`` of the authors' code: mirrored; quarter turns; a shift by whole pixels;
    scaled; rotated, scaled in one direction and rotated again; a shift; brightness, contrast, the sign of the luma, hue
    and saturation. Images that are not square are turned by halves only. Unlike there, p stays at most 1, images are
    mirrored at their edges, not at the centers of the pixels there, and the first three operations copy pixels exactly.

    Args:
        loss: ``model.loss``.
        target: See ``AdversarialGAN``, as are the next two.
        every: Period, in steps, of changes of p.
        kimg: Thousands of real images in which p can rise from 0 to 1.
        color: Whether there are color operations.

    Raises:
        ConfigError: The loss has no boundary between logits of real and of generated images.
    """

    p: Tensor
    seen: Tensor  # The sum of the signs of real images since the last change of p, and their number.

    def __init__(self, *, loss: str, target: float, every: int, kimg: float, color: bool) -> None:
        super().__init__()
        if loss not in BOUNDARIES:
            raise ConfigError(
                f"model.augment=ada follows the signs of the discriminator's logits, which model.loss={loss} does not "
                f"define: give model.augment=[color,translation,cutout], or model.loss={' or '.join(BOUNDARIES)}"
            )
        self.boundary, self.target, self.every, self.color = BOUNDARIES[loss], target, every, color
        self.rise = 1 / (1000 * kimg)  # Of p per image.
        self.register_buffer("p", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(2))
        self._signs: list[Tensor] = []  # Of the discriminators of this step.

    def forward(self, images: Tensor, draws: StepRandom, *, channels: Sequence[int] | None = None) -> Tensor:
        """Augmented images; differentiable twice.

        Args:
            images: (N, C, H, W) in [-1, 1]; the result may exceed this range.
            draws: The random numbers.
            channels: The channels of each of several images that are concatenated in dimension 1, which all undergo the
                same operations; None for one image.
        """
        change = self.draw(len(images), draws, images.dtype)
        images = moved(images, change)
        if not self.color:
            return images
        parts = images.split(list(channels or [images.size(1)]), dim=1)
        amounts = [change[name] for name in ("brightness", "contrast", "luma", "hue", "saturation")]
        changes = torch.stack(amounts).ne(0).any(dim=0)[:, None, None, None]
        brightness, contrast, luma, hue, saturation = amounts
        colors = [recolored(part, brightness, contrast.exp2(), luma, hue, saturation.exp2()) for part in parts]
        return torch.where(changes, torch.cat(colors, dim=1), images)

    def draw(self, count: int, draws: StepRandom, dtype: torch.dtype) -> dict[str, Tensor]:
        """The amount of each operation for so many images, (count,) each, which is 0 where it is left out."""
        p = self.p.to(dtype)
        names = [*UNIFORM, *NORMAL]
        uniform = draws.uniform(count, len(UNIFORM)).to(dtype).unbind(1)
        normal = draws.normal(count, len(NORMAL)).to(dtype).unbind(1)
        chances = dict(zip(names, draws.uniform(count, len(names)).to(dtype).unbind(1), strict=True))
        chances |= {"down": chances["right"], "move_y": chances["move_x"]}  # Both or none.
        amounts = dict(zip(UNIFORM, uniform, strict=True))
        amounts |= {name: (2 * amounts[name]).floor() for name in ("flip", "luma")}
        amounts |= {name: 2 * amounts[name] - 1 for name in ("right", "down")}
        amounts |= {name: math.pi * (2 * amounts[name] - 1) for name in ("before", "after", "hue")}
        amounts |= {name: deviation * each for (name, deviation), each in zip(NORMAL.items(), normal, strict=True)}
        # Of two rotations, either or both, together with the probability p.
        limits = dict.fromkeys(names, p) | dict.fromkeys(("before", "after"), 1 - (1 - p).sqrt())
        return {name: torch.where(chances[name] < limits[name], amounts[name], 0) for name in names}

    def record(self, real_logits: Sequence[Tensor]) -> None:
        """Record a discriminator's logits of real images, for each of its scales."""
        signs = [(logits.detach() - self.boundary).sign().mean() for logits in real_logits]
        self._signs.append(torch.stack(signs).mean())

    def is_due(self, step: int) -> bool:
        """Whether p changes after step number ``step`` (from 0)."""
        return (step + 1) % self.every == 0

    @torch.no_grad()
    def adapt(self, draws: StepRandom, images: int) -> Tensor:
        """Change p, if it is due after the step of ``draws``, and return it.

        p follows ``mean(sign(D(real))) - target`` in steps of a constant size per image. With micro-batches, the first
        call at the end of a step is for all of them.

        Args:
            draws: The random numbers of a rank, or of a micro-batch.
            images: The number of real images that it has shown.
        """
        if self._signs:
            sign = torch.stack(self._signs).mean().to(self.p.dtype)
            distributed.average([sign])
            self.seen += images * draws.world_size * torch.stack([sign, torch.ones_like(sign)])
            self._signs.clear()
            if self.is_due(draws.step):
                signs, count = self.seen
                self.p.add_((signs - self.target * count).sign() * count * self.rise).clamp_(0, 1)
                self.seen.zero_()
        return self.p.clone()


def moved(images: Tensor, change: dict[str, Tensor]) -> Tensor:
    """Images (N, C, H, W) after the geometric operations with these amounts; see ``AdaptiveAugmentation.draw``."""
    height, width = images.shape[-2:]
    quarters = (change["quarters"] * 4).floor() if height == width else (change["quarters"] * 2).floor() * 2
    right, down = ((FARTHEST_SHIFT * side * change[key]).round() for side, key in ((width, "right"), (height, "down")))
    images = copied(images, change["flip"], quarters, right, down)
    linear = change["size"].neg().exp2()[:, None, None] * (
        _rotation(change["before"]) @ _stretch(change["aspect"]) @ _rotation(change["after"])
    )
    shift = torch.stack([width * change["move_x"], height * change["move_y"]], dim=1)
    amounts = [change[name] for name in ("size", "before", "aspect", "after", "move_x", "move_y")]
    changes = torch.stack(amounts).ne(0).any(dim=0)[:, None, None, None]
    return torch.where(changes, resampled(images, linear, -(linear @ shift[:, :, None])[:, :, 0]), images)


def _rotation(angle: Tensor) -> Tensor:
    """Matrices (N, 2, 2)."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)


def _stretch(octaves: Tensor) -> Tensor:
    """Matrices (N, 2, 2) that shrink x and stretch y."""
    return torch.diag_embed(torch.stack([octaves.neg().exp2(), octaves.exp2()], dim=1))
