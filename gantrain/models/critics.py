"""Combinations of losses, penalties and critics that do not fit together."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from gantrain.errors import ConfigError
from gantrain.models.base import GAN, AdversarialGAN, LatentGAN
from gantrain.models.cyclegan import CycleGAN
from gantrain.models.feature_matching import check_features
from gantrain.networks.common import can_be_compiled
from gantrain.networks.sync_batch import SyncBatchNorm1d, SyncBatchNorm2d


def check_critic(model: GAN, *, loss: object, batch_size: int, world_size: int = 1) -> list[str]:
    """Refuse an unbounded critic under the Wasserstein loss, a gradient penalty that sees a whole batch, and others.

    A penalty on the gradient of each image assumes that no other image influences its logits (Gulrajani et al. 2017,
    arXiv:1704.00028, section 4), which batch norm does unless a batch is a single image.

    Args:
        model: A model; only those with adversarial losses are checked.
        loss: ``model.loss``.
        batch_size: Images per process.
        world_size: The number of processes.

    Returns:
        Warnings.

    Raises:
        ConfigError: The combination does not work.
    """
    if not isinstance(model, AdversarialGAN):
        return []
    if getattr(model, "lambda_features", 0):
        for discriminator in model.discriminators():
            check_features(discriminator)
    if loss == "wasserstein" and not model.bounds_critic():
        raise ConfigError(
            "model.loss=wasserstein needs a critic whose slope is bounded: give model.gradient_penalty=10 with "
            "network.discriminator.norm=none (or instance), or network.discriminator.norm=spectral, or model=wgan"
        )
    found = []
    if model.loss.compares and isinstance(model, LatentGAN) and model.pool.size and model.uses_labels:
        found.append(
            f"warning: model.pool_size={model.pool.size} exchanges images for those of other classes, and model.loss="
            f"{loss} pairs images of the same: give model.pool_size=0"
        )
    if not any(_mixes(m, batch_size, world_size) for d in model.discriminators() for m in d.modules()):
        return found
    why = "assumes that images are judged one by one, but batch norm mixes those of a batch: "
    remedy = "give network.discriminator.norm=none (or instance, or spectral)"
    if model.gradient_penalty:
        raise ConfigError(f"model.gradient_penalty={model.gradient_penalty:g} {why}{remedy}")
    penalties = {"r1": model.r1, "r2": model.r2}
    return [*found, *(f"warning: model.{key}={value:g} {why}{remedy}" for key, value in penalties.items() if value)]


def check_batch_norm(model: GAN, *, images: int, world_size: int) -> None:
    """Refuse batch norm in fully connected layers on a single image, whose statistics it can't compute.

    Args:
        model: The model.
        images: The number of images at once, in each process.
        world_size: The number of processes.
    """
    if any(isinstance(module, nn.BatchNorm1d) and not _mixes(module, images, world_size) for module in model.modules()):
        raise ConfigError(
            "network.norm=batch in fully connected layers needs at least two images at once: give a larger "
            "data.batch_size (or trainer.micro_batch), or network.norm=none"
        )


def _mixes(module: nn.Module, images: int, world_size: int) -> bool:
    """Whether a layer is a batch norm that combines several images, of which each process has so many at once."""
    ranks = world_size if isinstance(module, SyncBatchNorm1d | SyncBatchNorm2d) else 1
    return isinstance(module, _BatchNorm) and images * ranks > 1


def check_compile(model: GAN) -> list[str]:
    """Warnings of networks that ``trainer.compile=true`` leaves as they are."""
    sides = {"generator": model.generators(), "discriminator": model.discriminators()}
    left = [side for side, networks in sides.items() if not all(map(can_be_compiled, networks))]
    return [f"warning: trainer.compile=true does not compile the {side}, which has spectral norm" for side in left]


def check_micro_batch(model: GAN, micro_batch: int | None, batch_size: int) -> list[str]:
    """Refuse micro-batches that don't divide a batch; warn of what depends on more than one image of a batch.

    Args:
        model: The model.
        micro_batch: ``trainer.micro_batch``.
        batch_size: Images per process.

    Returns:
        Warnings.

    Raises:
        ConfigError: It is no divisor of ``batch_size``.
    """
    if micro_batch is None:
        return []
    if batch_size % micro_batch:
        divisors = [str(number) for number in range(1, batch_size + 1) if batch_size % number == 0]
        raise ConfigError(
            f"trainer.micro_batch={micro_batch} does not divide the {batch_size} images of a batch in each process: "
            f"give one of {', '.join(divisors)}"
        )
    if micro_batch == batch_size:
        return []
    part = f"{micro_batch} of {batch_size} images"
    found = []
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        found.append(f"batch norm takes its statistics from {part}: give network.norm=instance or none")
    if any(map(is_parametrized, model.modules())):
        found.append(f"spectral norm is improved by every {part}, not once a batch, which changes results slightly")
    if any(isinstance(module, nn.Dropout) and module.p for module in model.modules()):
        found.append("dropout draws other masks: give network.dropout=0 for the same ones")
    if isinstance(model, CycleGAN) and model.lambda_features:
        found.append(f"model.lambda_features compares mean features of {part}: give model.lambda_features=0")
    return [f"warning: trainer.micro_batch={micro_batch} does not train as whole batches do: {line}" for line in found]
