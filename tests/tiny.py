"""Tiny models, networks, data and updates for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from tiny_keys import (
    CONV_KEYS,
    DCGAN_KEYS,
    IMAGES,
    LATENT_KEYS,
    MLP_KEYS,
    PAIRS,
    RESNET_GAN_KEYS,
    RESNET_KEYS,
    SPEC,
    TRANSLATION_KEYS,
    UNET_KEYS,
)
from torch import Tensor, nn

from gantrain import models  # noqa: F401 - registers the models
from gantrain.data.base import Batch, ImageSpec
from gantrain.models.base import GAN
from gantrain.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gantrain.networks.mlp import MLPDiscriminator, MLPGenerator
from gantrain.networks.patchgan import PatchGANDiscriminator
from gantrain.networks.resnet import ResnetGenerator
from gantrain.networks.resnet_gan import ResnetGANDiscriminator, ResnetGANGenerator
from gantrain.networks.unet import UNetGenerator
from gantrain.optim.ema import EMA
from gantrain.optim.monitor import RunMonitor
from gantrain.optim.optimizers import SGD, Adam
from gantrain.optim.schedules import Constant, Schedule
from gantrain.optim.updates import SideOptimizer, Updates
from gantrain.registry import MODELS
from gantrain.runtime.seeding import StepRandom

CPU = torch.device("cpu")


def mlp_generator(**keys: Any) -> MLPGenerator:
    return MLPGenerator(**{"latent_dim": 3, "shape": (1, 4, 4), **MLP_KEYS, **keys})


def mlp_discriminator(**keys: Any) -> MLPDiscriminator:
    return MLPDiscriminator(**{"shape": (1, 4, 4), "num_outputs": 1, **MLP_KEYS, **keys})


def dcgan_generator(**keys: Any) -> DCGANGenerator:
    return DCGANGenerator(**{"latent_dim": 3, "shape": (3, 16, 16), "label_dim": 2, **DCGAN_KEYS, **keys})


def dcgan_discriminator(**keys: Any) -> DCGANDiscriminator:
    return DCGANDiscriminator(**{"shape": (3, 16, 16), "num_outputs": 1, "dropout": 0.0, **DCGAN_KEYS, **keys})


def resnet_gan_generator(**keys: Any) -> ResnetGANGenerator:
    sizes = {"latent_dim": 3, "shape": (3, 32, 32), "num_classes": 0}
    return ResnetGANGenerator(**{**sizes, **RESNET_GAN_KEYS, "spectral": False, **keys})


def resnet_gan_discriminator(**keys: Any) -> ResnetGANDiscriminator:
    sizes = {"shape": (3, 32, 32), "num_classes": 0, "num_outputs": 1}
    return ResnetGANDiscriminator(**{**sizes, **RESNET_GAN_KEYS, "head": "projection", **keys})


def build(name: str, *, spec: ImageSpec = SPEC, seed: int = 0, **keys: Any) -> Any:
    """The model of that name on tiny fully connected networks, in float64."""
    torch.manual_seed(seed)
    config = {"name": name, **LATENT_KEYS, **keys}
    model = MODELS.build(config, spec=spec, make_generator=mlp_generator, make_discriminator=mlp_discriminator)
    return model.double()


def resnet(**keys: Any) -> ResnetGenerator:
    return ResnetGenerator(**{**RESNET_KEYS, **keys})


def unet(**keys: Any) -> UNetGenerator:
    return UNetGenerator(**{**UNET_KEYS, **keys})


def patchgan(**keys: Any) -> PatchGANDiscriminator:
    return PatchGANDiscriminator(**{**CONV_KEYS, "layers": 2, "scales": 1, "antialias": False, **keys})


def build_translator(
    name: str,
    *,
    spec: ImageSpec | None = None,
    seed: int = 0,
    generator: Callable[..., nn.Module] = resnet,
    discriminator: Callable[..., nn.Module] = patchgan,
    norm: str = "instance",
    dropout: float = 0.0,
    **keys: Any,
) -> Any:
    """The model of that name on narrow networks for 32 x 32 pixels, in float64."""
    torch.manual_seed(seed)
    model = MODELS.build(
        {"name": name, **TRANSLATION_KEYS[name], **keys},
        spec=spec or (IMAGES if name == "colorization" else PAIRS),
        make_generator=partial(generator, norm=norm, dropout=dropout),
        make_discriminator=partial(discriminator, norm=norm),
    )
    return model.double()


def translation_batches(size: int, *, spec: ImageSpec = PAIRS, seed: int = 1) -> Iterator[Batch]:
    """An endless stream of float64 batches of every domain in [-1, 1], each different, every image with a name."""
    generator = torch.Generator().manual_seed(seed)
    number = 0
    while True:
        batch: Batch = {
            domain: torch.rand(size, *spec.shape(domain), dtype=torch.float64, generator=generator) * 2 - 1
            for domain in spec.channels
        }
        yield batch | {"name": [f"{number + place}.png" for place in range(size)]}
        number += size


def image_batches(size: int = 6, *, seed: int = 1, labels: bool = False) -> Iterator[Batch]:
    """An endless stream of float64 batches in [-1, 1], each different."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        batch: Batch = {"image": torch.rand(size, 1, 4, 4, dtype=torch.float64, generator=generator) * 2 - 1}
        if labels:
            batch["label"] = torch.randint(3, (size,), generator=generator)
        yield batch


class Counted(Iterator[Batch]):
    """A stream that counts what is drawn from it."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self.batches = batches
        self.drawn = 0

    def __next__(self) -> Batch:
        self.drawn += 1
        return next(self.batches)


def sgd(networks: list[nn.Module], lr: float = 0.1) -> SGD:
    parameters = [parameter for network in networks for parameter in network.parameters()]
    return SGD(params=parameters, fused=False, lr=lr, momentum=0.0, weight_decay=0.0)


def updates_of(
    generator: torch.optim.Optimizer,
    discriminator: torch.optim.Optimizer,
    *,
    schedule: Schedule | None = None,
    ema: EMA | None = None,
    seed: int = 7,
    scaled: bool = False,
) -> Updates:
    return Updates(
        sides=(
            SideOptimizer(generator, CPU, scaled=scaled),
            SideOptimizer(discriminator, CPU, scaled=scaled),
        ),
        schedule=schedule or Constant(),
        ema=ema,
        draws=StepRandom(seed, CPU),
        monitor=RunMonitor(),
    )


def adam_updates(model: GAN, lr: float = 2e-4) -> Updates:
    """As image-to-image models are trained: Adam with beta1 0.5, one for each side."""
    averages = EMA(model.generators(), model.ema) if model.ema else None
    sides = [
        Adam(
            params=[parameter for network in side for parameter in network.parameters()],
            fused=False,
            lr=lr,
            betas=(0.5, 0.999),
            weight_decay=0.0,
        )
        for side in (model.generators(), model.discriminators())
    ]
    return updates_of(*sides, ema=averages)


class AdamByHand:
    """Algorithm 1 of Kingma and Ba 2015 (arXiv:1412.6980), line by line."""

    def __init__(self, weights: Iterable[Tensor], *, lr: float = 2e-4, betas: tuple[float, float] = (0.5, 0.999)):
        self.lr, self.betas = lr, betas
        self.weights = list(weights)
        self.means = [torch.zeros_like(weight) for weight in self.weights]
        self.squares = [torch.zeros_like(weight) for weight in self.weights]
        self.number = 0

    def step(self, loss: Tensor) -> None:
        (beta1, beta2), slopes = self.betas, torch.autograd.grad(loss, self.weights)
        self.number += 1
        with torch.no_grad():
            for place, (weight, slope) in enumerate(zip(self.weights, slopes, strict=True)):
                self.means[place] = beta1 * self.means[place] + (1 - beta1) * slope
                self.squares[place] = beta2 * self.squares[place] + (1 - beta2) * slope**2
                mean = self.means[place] / (1 - beta1**self.number)
                square = self.squares[place] / (1 - beta2**self.number)
                weight -= self.lr * mean / (square.sqrt() + 1e-8)


def play(
    model: GAN, batches: Iterator[Batch], update: Updates, steps: int = 10, *, start: int = 0
) -> list[dict[str, float]]:
    """The logged values of so many steps, the first of which has the number ``start``."""
    logged = []
    for step in range(start, start + steps):
        update.begin(step, 0.0)
        logged.append({key: value.item() for key, value in model.train_step(batches, update).items()})
    return logged


class Watched(Updates):
    """Updates by plain gradient descent that record the loss of each and the parameters that changed.

    Attributes:
        log: The side and the names of the parameters that changed, per update.
        losses: The side and the loss that it was given, per update.
    """

    def __init__(self, model: GAN, *, lr: float = 0.1, seed: int = 7) -> None:
        averages = EMA(model.generators(), model.ema) if model.ema else None
        super().__init__(
            sides=(
                SideOptimizer(sgd(model.generators(), lr), CPU, scaled=False),
                SideOptimizer(sgd(model.discriminators(), lr), CPU, scaled=False),
            ),
            schedule=Constant(),
            ema=averages,
            draws=StepRandom(seed, CPU),
            monitor=RunMonitor(),
        )
        self._model = model
        self.log: list[tuple[str, set[str]]] = []
        self.losses: list[tuple[str, Tensor]] = []

    def generator(self, loss: Tensor) -> None:
        self._note("generator", loss, super().generator)

    def discriminator(self, loss: Tensor) -> None:
        self._note("discriminator", loss, super().discriminator)

    def _note(self, side: str, loss: Tensor, act: Callable[[Tensor], None]) -> None:
        before = weights(self._model)
        act(loss)
        self.log.append((side, moved(before, weights(self._model))))
        self.losses.append((side, loss.detach()))


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters, by name."""
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The names of the parameters that are not bit-identical."""
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


class ReadOff(nn.Module):
    """A discriminator whose logits are the first pixels of the image."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.num_outputs = num_outputs

    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1)[:, : self.num_outputs]


def written(logits: list[list[float]] | Tensor) -> Tensor:
    """Images (N, 1, 4, 4) in which ``ReadOff`` finds these logits (N, up to 16)."""
    logits = torch.as_tensor(logits, dtype=torch.float64)
    return nn.functional.pad(logits, (0, 16 - logits.size(1))).view(-1, 1, 4, 4)
