"""Adversarial losses and penalties, as pure functions of logits.

Discriminators and critics return logits, without a sigmoid. All losses are means over every logit, so that the mean
over ranks with batches of equal size is the loss of the global batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from gantrain.errors import ConfigError, nearest

CROP = "give data.preprocess=resize_and_crop (or another that crops)"


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses of both sides, each a mean over logits of any shape."""

    # The discriminator's term for real images, a function of ``(logits, smoothing)``; ``smoothing`` s makes the target
    # 1 - s (one-sided label smoothing, Salimans et al. 2016, arXiv:1606.03498).
    real: Callable[[Tensor, float], Tensor]
    fake: Callable[[Tensor], Tensor]  # The discriminator's term for generated images, a function of logits.
    generator: Callable[[Tensor], Tensor]  # The generator's loss, a function of the logits of generated images.
    has_target: bool  # Whether the loss has a target for real images that smoothing can change.
    compares: ClassVar[bool] = False  # Whether the generator's term needs logits of real images.

    def discriminator_terms(self, real: Tensor, fake: Tensor, smoothing: float) -> dict[str, Tensor]:
        """The terms of the discriminator's loss, which is their sum, by their names in the log."""
        return {"d_real": self.real(real, smoothing), "d_fake": self.fake(fake)}

    def generator_term(self, fake: Tensor, real: Tensor | None) -> Tensor:
        """The generator's loss; ``real`` is only used by losses that compare."""
        return self.generator(fake)


@dataclass(frozen=True)
class ComparingLoss:
    """Losses of the differences between the logits of real and of generated images, which are paired in their order."""

    pair: Callable[[Tensor], Tensor]  # Of the logits of those that are to be more real, minus the others.
    has_target: ClassVar[bool] = False
    compares: ClassVar[bool] = True

    def discriminator_terms(self, real: Tensor, fake: Tensor, smoothing: float) -> dict[str, Tensor]:
        """The discriminator's loss by its name in the log."""
        return {"d": self.pair(_difference(real, fake))}

    def generator_term(self, fake: Tensor, real: Tensor | None) -> Tensor:
        """The generator's loss, from logits of equal shapes."""
        assert real is not None
        return self.pair(_difference(fake, real))


def _difference(logits: Tensor, others: Tensor) -> Tensor:
    if logits.shape != others.shape:
        raise ConfigError(
            "model.loss=relativistic compares each real image with a generated one, which must have the same size: "
            f"{CROP}, or choose another loss"
        )
    return logits - others


def _logistic_real(logits: Tensor, smoothing: float) -> Tensor:
    # Equals -(1 - s) log sigmoid(x) - s log(1 - sigmoid(x)).
    return (F.softplus(-logits) + smoothing * logits).mean()


# Goodfellow et al. 2014 (arXiv:1406.2661), section 3: the generator maximises log D(G(z)).
_LOGISTIC = AdversarialLoss(
    real=_logistic_real,
    fake=lambda x: F.softplus(x).mean(),  # Equals -log(1 - sigmoid(x)).
    generator=lambda x: F.softplus(-x).mean(),
    has_target=True,
)
ADVERSARIAL_LOSSES: dict[str, AdversarialLoss | ComparingLoss] = {
    "logistic": _LOGISTIC,
    # The minimax form of the same paper: the generator minimises log(1 - D(G(z))), which saturates.
    "minimax": replace(_LOGISTIC, generator=lambda x: -F.softplus(x).mean()),
    # Mao et al. 2017 (arXiv:1611.04076) with a = 0 and b = c = 1, without their factor 1/2 of each expectation: pix2pix
    # and CycleGAN halve the discriminator's sum.
    "least_squares": AdversarialLoss(
        real=lambda x, smoothing: (x - (1 - smoothing)).square().mean(),
        fake=lambda x: x.square().mean(),
        generator=lambda x: (x - 1).square().mean(),
        has_target=True,
    ),
    # Lim and Ye 2017 (arXiv:1705.02894); Miyato et al. 2018 (arXiv:1802.05957).
    "hinge": AdversarialLoss(
        real=lambda x, _: F.relu(1 - x).mean(),
        fake=lambda x: F.relu(1 + x).mean(),
        generator=lambda x: -x.mean(),
        has_target=False,
    ),
    # Arjovsky et al. 2017 (arXiv:1701.07875): minus the critic's estimate of the Wasserstein distance.
    "wasserstein": AdversarialLoss(
        real=lambda x, _: -x.mean(), fake=lambda x: x.mean(), generator=lambda x: -x.mean(), has_target=False
    ),
    # Huang et al. 2024 (arXiv:2501.05441), equation 2, after Jolicoeur-Martineau 2018 (arXiv:1807.00734).
    "relativistic": ComparingLoss(pair=lambda x: F.softplus(-x).mean()),
}


def adversarial_loss(name: str, *, label_smoothing: float = 0.0) -> AdversarialLoss | ComparingLoss:
    """The loss of that name, which must have a target if there is ``label_smoothing`` to change it."""
    if name not in ADVERSARIAL_LOSSES:
        raise ConfigError(f"model.loss: no adversarial loss '{name}'; {nearest(name, ADVERSARIAL_LOSSES)}")
    loss = ADVERSARIAL_LOSSES[name]
    if label_smoothing and not loss.has_target:
        raise ConfigError(f"model.label_smoothing={label_smoothing} has no meaning for model.loss={name}: set it to 0")
    return loss


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Mean of ``(|grad critic(x)| - 1)^2`` at random points between real and generated images.

    Gulrajani et al. 2017 (arXiv:1704.00028), Algorithm 1, without its weight lambda. The norm is taken per image over
    all pixels and channels, so the critic must not mix the images of a batch (no batch normalisation).

    Args:
        critic: Maps images (N, C, H, W) to logits of any shape.
        real: (N, C, H, W).
        fake: (N, C, H, W); gradients do not flow back into it.
        mix: (N,), the weight of the real image in each point, uniform in [0, 1].
    """
    if real.shape != fake.shape:
        sizes = " and ".join(f"{images.size(-2)} x {images.size(-1)}" for images in (real, fake))
        raise ConfigError(
            "model.gradient_penalty mixes each real image with a generated one, which must have the same size, not "
            f"{sizes} pixels: {CROP}, or set it to 0"
        )
    weight = mix.to(real.dtype).view(-1, 1, 1, 1)
    points = (weight * real + (1 - weight) * fake.detach()).requires_grad_()
    return (_image_gradient(critic, points).norm(dim=1) - 1).square().mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean of ``|grad D(x)|^2`` over images (N, C, H, W), without its weight gamma/2.

    Mescheder et al. 2018 (arXiv:1801.04406), equation 9: R1 for real images, R2 for generated ones.
    """
    return _image_gradient(discriminator, images.detach().requires_grad_()).square().sum(dim=1).mean()


def _image_gradient(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """(N, C*H*W): the gradient of each image's summed logits with respect to its pixels."""
    (gradient,) = torch.autograd.grad(network(images).sum(), images, create_graph=True)
    return gradient.flatten(1)
