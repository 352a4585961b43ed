"""Training steps of WGAN, WGAN-GP and DCGAN, compared with the papers' algorithms written out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from tiny import CPU, AdamByHand, Watched, build, dcgan_discriminator, image_batches, updates_of
from tiny_keys import OWN_KEYS, WGAN_KEYS
from torch import Tensor

from gantrain.optim.optimizers import Adam, RMSprop
from gantrain.runtime.seeding import StepRandom

# ---- the algorithms, for networks of two linear layers with LeakyReLU 0.2 between


Weights = list[Tensor]  # first weight and bias, second weight and bias


def layers(weights_of: Weights, x: Tensor) -> Tensor:
    w1, b1, w2, b2 = weights_of
    hidden = x @ w1.T + b1
    return torch.where(hidden > 0, hidden, 0.2 * hidden) @ w2.T + b2


def image_slopes(critic: Weights, x: Tensor) -> Tensor:
    """The gradient of the only logit in x, in closed form: w2 times the activation's slope, through w1."""
    w1, b1, w2, _ = critic
    return (torch.where(x @ w1.T + b1 > 0, 1.0, 0.2) * w2) @ w1


def fresh(module: torch.nn.Module) -> Weights:
    return [parameter.detach().clone().requires_grad_() for parameter in module.parameters()]


class RMSpropByHand:
    """RMSProp of Tieleman and Hinton 2012, with the decay ``alpha``."""

    def __init__(self, weights: Iterable[Tensor], *, lr: float, alpha: float) -> None:
        self.lr, self.alpha = lr, alpha
        self.weights = list(weights)
        self.squares = [torch.zeros_like(weight) for weight in self.weights]

    def step(self, loss: Tensor) -> None:
        slopes = torch.autograd.grad(loss, self.weights)
        with torch.no_grad():
            for weight, slope, square in zip(self.weights, slopes, self.squares, strict=True):
                square.mul_(self.alpha).add_((1 - self.alpha) * slope**2)
                weight -= self.lr * slope / (square.sqrt() + 1e-8)


def play_by_hand(
    model: Any,
    optimizer: Callable[[Weights], AdamByHand | RMSpropByHand],
    *,
    critic_steps: int,
    critic_loss: Callable[[Weights, Tensor, Tensor, StepRandom], Tensor],
    generator_loss: Callable[[Tensor], Tensor],
    clip: float = math.inf,
    steps: int = 1,
) -> tuple[Weights, Weights]:
    """Generator and critic after some steps on the same batches and noise as the model's.

    The critic's weights are clipped to [-clip, clip] at the start, and after each of its updates.
    """
    generator, critic = fresh(model.generator), fresh(model.discriminator)
    for weight in critic:
        weight.data.clamp_(-clip, clip)
    of_g, of_d = optimizer(generator), optimizer(critic)
    batches, draws = image_batches(), StepRandom(7, CPU)
    for step in range(steps):
        draws.start(step)
        for _ in range(critic_steps):
            real = next(batches)["image"].flatten(1)
            fake = layers(generator, draws.normal(6, 3).double()).tanh().detach()
            of_d.step(critic_loss(critic, real, fake, draws))
            for weight in critic:
                weight.data.clamp_(-clip, clip)
        fake = layers(generator, draws.normal(6, 3).double()).tanh()
        of_g.step(generator_loss(layers(critic, fake)))
    return generator, critic


def play(model: Any, generator: Any, discriminator: Any, steps: int = 1) -> tuple[Weights, Weights]:
    """The same steps by the model itself."""
    update, batches = updates_of(generator, discriminator), image_batches()
    for step in range(steps):
        update.begin(step, step / steps)
        model.train_step(batches, update)
    return [list(network.parameters()) for network in (model.generator, model.discriminator)]


def assert_equal_play(actual: tuple[Weights, Weights], expected: tuple[Weights, Weights]) -> None:
    for side, by_hand in zip(actual, expected, strict=True):
        # Optimizers divide rounding errors of gradients near zero by their epsilon of 1e-8.
        torch.testing.assert_close(side, by_hand, atol=1e-8, rtol=0)


def test_a_wgan_step_follows_algorithm_1() -> None:
    """Arjovsky et al. 2017, arXiv:1701.07875: RMSProp, and a critic whose weights are always clipped."""

    def side(network: torch.nn.Module) -> RMSprop:
        return RMSprop(params=list(network.parameters()), lr=0.02, alpha=0.99, momentum=0.0)

    model = build("wgan", critic_steps=3, **WGAN_KEYS)
    assert any((weight.abs() > 0.3).any() for weight in model.discriminator.parameters())
    expected = play_by_hand(
        model,
        partial(RMSpropByHand, lr=0.02, alpha=0.99),
        critic_steps=3,
        critic_loss=lambda f, real, fake, _: -(layers(f, real).mean() - layers(f, fake).mean()),
        generator_loss=lambda logits: -logits.mean(),
        clip=0.3,
        steps=2,
    )
    assert_equal_play(play(model, side(model.generator), side(model.discriminator), steps=2), expected)
    size = torch.cat([weight.flatten() for weight in model.discriminator.parameters()]).abs()
    assert (size == 0.3).any()  # Some weights are clipped,
    assert (size < 0.29).any()  # others are not,
    assert max(weight.abs().max() for weight in model.generator.parameters()) > 0.3  # and none of the generator.


def test_the_first_critic_update_of_wgan_sees_clipped_weights() -> None:
    """With scales of batch norm near 1, its gradient would slow RMSprop down for hundreds of updates."""
    model = build("wgan", **WGAN_KEYS | {"clip": 0.01})
    model.discriminator = dcgan_discriminator(shape=(1, 16, 16), width=8).double()
    real = {"image": torch.rand(6, 1, 16, 16, dtype=torch.float64) * 2 - 1}
    clipped = [parameter.detach().clamp(-0.01, 0.01) for parameter in model.discriminator.parameters()]
    seen: list[Weights] = []

    class Recorded(Watched):
        def discriminator(self, loss: Tensor) -> None:
            seen.append(fresh(model.discriminator))
            super().discriminator(loss)

    model.update_discriminator(real, torch.zeros_like(real["image"]), torch.zeros(6, 3), None, Recorded(model))
    (before,) = seen
    assert all(torch.equal(a, b) for a, b in zip(before, clipped, strict=True))
    assert max(parameter.abs().max() for parameter in model.discriminator.parameters()) <= 0.01


def test_a_wgan_gp_step_follows_algorithm_1() -> None:
    """Gulrajani et al. 2017, arXiv:1704.00028: Adam, and the penalty at random points between real and generated."""

    def side(network: torch.nn.Module) -> Adam:
        return Adam(params=list(network.parameters()), fused=False, lr=0.02, betas=[0.0, 0.9], weight_decay=0.0)

    def critic_loss(f: Weights, real: Tensor, fake: Tensor, draws: StepRandom) -> Tensor:
        epsilon = draws.uniform(6).double()[:, None]
        norms = image_slopes(f, epsilon * real + (1 - epsilon) * fake).square().sum(dim=1).sqrt()
        return layers(f, fake).mean() - layers(f, real).mean() + 10 * (norms - 1).square().mean()

    model = build("wgan_gp", critic_steps=3, **OWN_KEYS["wgan_gp"])
    expected = play_by_hand(
        model,
        partial(AdamByHand, lr=0.02, betas=(0.0, 0.9)),
        critic_steps=3,
        critic_loss=critic_loss,
        generator_loss=lambda logits: -logits.mean(),
        steps=2,
    )
    assert_equal_play(play(model, side(model.generator), side(model.discriminator), steps=2), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_dcgan_step_follows_its_paper(smoothing: float) -> None:
    """Goodfellow et al. 2014, arXiv:1406.2661: log D(x) + log(1 - D(G(z))), then the generator's log D(G(z))."""

    def side(network: torch.nn.Module) -> Adam:
        return Adam(params=list(network.parameters()), fused=False, lr=0.02, betas=[0.5, 0.999], weight_decay=0.0)

    def critic_loss(d: Weights, real: Tensor, fake: Tensor, _: StepRandom) -> Tensor:
        for_real, for_fake = layers(d, real).sigmoid(), layers(d, fake).sigmoid()
        target = 1 - smoothing
        real_term = -(target * for_real.log() + (1 - target) * (1 - for_real).log()).mean()
        return real_term - (1 - for_fake).log().mean()

    model = build("dcgan", label_smoothing=smoothing)
    expected = play_by_hand(
        model,
        partial(AdamByHand, lr=0.02),
        critic_steps=1,
        critic_loss=critic_loss,
        generator_loss=lambda logits: -logits.sigmoid().log().mean(),
        steps=3,
    )
    assert_equal_play(play(model, side(model.generator), side(model.discriminator), steps=3), expected)
