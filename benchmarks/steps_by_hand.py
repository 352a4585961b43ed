"""Training steps written by hand, as for a single script: the networks, losses and optimizers of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.data.base import Batch
from gantrain.models.pool import ImagePool
from gantrain.training.build import Parts

Step = Callable[[Iterator[Batch]], dict[str, Tensor]]


def dcgan(parts: Parts) -> Step:
    """DCGAN with the logistic loss."""
    generator, discriminator = parts.model.generator, parts.model.discriminator
    optimizer_g, optimizer_d = (side.optimizer for side in parts.update.sides)

    def step(batches: Iterator[Batch]) -> dict[str, Tensor]:
        real = next(batches)["image"]
        with torch.no_grad():
            fake = generator(noise(parts.model, real))
        d_real = F.softplus(-discriminator(real)).mean()
        d_fake = F.softplus(discriminator(fake)).mean()
        update(optimizer_d, d_real + d_fake)
        set_gradients(discriminator, False)
        g = F.softplus(-discriminator(generator(noise(parts.model, real)))).mean()
        update(optimizer_g, g)
        set_gradients(discriminator, True)
        return {"d_real": d_real.detach(), "d_fake": d_fake.detach(), "g": g.detach()}

    return step


def wgan_gp(parts: Parts) -> Step:
    """WGAN with the gradient penalty: five updates of the critic, one of the generator."""
    generator, critic = parts.model.generator, parts.model.discriminator
    optimizer_g, optimizer_d = (side.optimizer for side in parts.update.sides)

    def step(batches: Iterator[Batch]) -> dict[str, Tensor]:
        for _ in range(5):
            real = next(batches)["image"]
            with torch.no_grad():
                fake = generator(noise(parts.model, real))
            distance = critic(real).mean() - critic(fake).mean()
            mix = torch.rand(len(real), 1, 1, 1, device=real.device)
            points = (mix * real + (1 - mix) * fake).requires_grad_()
            (slope,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
            penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
            update(optimizer_d, 10 * penalty - distance)
        set_gradients(critic, False)
        g = -critic(generator(noise(parts.model, real))).mean()
        update(optimizer_g, g)
        set_gradients(critic, True)
        return {"distance": distance.detach(), "gradient_penalty": penalty.detach(), "g": g.detach()}

    return step


def pix2pix(parts: Parts) -> Step:
    """pix2pix with the logistic loss."""
    generator, discriminator = parts.model.generator, parts.model.discriminator
    optimizer_g, optimizer_d = (side.optimizer for side in parts.update.sides)

    def step(batches: Iterator[Batch]) -> dict[str, Tensor]:
        batch = next(batches)
        a, b = batch["a"], batch["b"]
        fake = generator(a)
        d_real = F.softplus(-discriminator(torch.cat([a, b], dim=1))).mean()
        d_fake = F.softplus(discriminator(torch.cat([a, fake.detach()], dim=1))).mean()
        update(optimizer_d, (d_real + d_fake) / 2)
        set_gradients(discriminator, False)
        g_gan = F.softplus(-discriminator(torch.cat([a, fake], dim=1))).mean()
        l1 = F.l1_loss(fake, b)
        update(optimizer_g, g_gan + 100 * l1)
        set_gradients(discriminator, True)
        return {name: loss.detach() for name, loss in {"d_real": d_real, "g_gan": g_gan, "g_l1": l1}.items()}

    return step


def cyclegan(parts: Parts) -> Step:
    """CycleGAN without identity loss."""
    model: Any = parts.model
    g_ab, g_ba, d_a, d_b = model.generator_ab, model.generator_ba, model.discriminator_a, model.discriminator_b
    optimizer_g, optimizer_d = (side.optimizer for side in parts.update.sides)
    pool_a, pool_b = ImagePool(model.pool_a.size), ImagePool(model.pool_b.size)

    def mse(logits: Tensor, target: float) -> Tensor:
        return (logits - target).square().mean()

    def step(batches: Iterator[Batch]) -> dict[str, Tensor]:
        batch = next(batches)
        a, b = batch["a"], batch["b"]
        set_gradients(d_a, False)
        set_gradients(d_b, False)
        fake_b, fake_a = g_ab(a), g_ba(b)
        losses = {
            "g_a": mse(d_b(fake_b), 1.0),
            "g_b": mse(d_a(fake_a), 1.0),
            "cycle_a": 10 * F.l1_loss(g_ba(fake_b), a),
            "cycle_b": 10 * F.l1_loss(g_ab(fake_a), b),
        }
        update(optimizer_g, torch.stack(list(losses.values())).sum())
        set_gradients(d_a, True)
        set_gradients(d_b, True)
        (old_b,), (old_a,) = pool_b(fake_b), pool_a(fake_a)
        losses["d_a"] = (mse(d_b(b), 1.0) + mse(d_b(old_b), 0.0)) / 2
        losses["d_b"] = (mse(d_a(a), 1.0) + mse(d_a(old_a), 0.0)) / 2
        update(optimizer_d, losses["d_a"] + losses["d_b"])
        return {name: loss.detach() for name, loss in losses.items()}

    return step


def noise(model: Any, real: Tensor) -> Tensor:
    """As many noise vectors as there are real images."""
    return torch.randn(len(real), model.latent_dim, device=real.device)


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One update of the optimizer's parameters."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def set_gradients(network: nn.Module, wanted: bool) -> None:
    """Whether the parameters receive gradients."""
    for parameter in network.parameters():
        parameter.requires_grad_(wanted)
