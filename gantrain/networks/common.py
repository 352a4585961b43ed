"""What networks share: normalisation, initialisation, and the precision that a network computes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gantrain.errors import ConfigError

Norm: TypeAlias = Literal["batch", "instance", "none", "spectral"]
Order: TypeAlias = Literal["conv_norm_act", "conv_act_norm"]
Init: TypeAlias = Literal["default", "normal", "xavier", "kaiming", "orthogonal"]
ImageShape: TypeAlias = tuple[int, int, int]  # channels, height, width


def needs_bias(norm: Norm) -> bool:
    """Whether layers need a bias of their own: not before batch or instance norm, which take it out again."""
    return norm in ("none", "spectral")


def norm_2d(norm: Norm, channels: int) -> list[nn.Module]:
    """The normalisation layer for (N, C, H, W), in a list; empty for ``none`` and ``spectral``."""
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    if norm == "instance":
        return [nn.InstanceNorm2d(channels, affine=True)]
    return []


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """The normalisation layer of image-to-image networks for (N, C, H, W): instance norm has neither weights nor state.

    For ``none`` and ``spectral`` it is the identity, so that the layers after it keep their places in a sequence, and
    with them the keys of their weights.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()


def reference_bias(norm: Norm) -> bool:
    """Whether convolutions before ``norm_layer`` have a bias.

    As in pytorch-CycleGAN-and-pix2pix, whose files could else not be read: with instance norm, which takes it out
    again, and not with ``none``, which could use it. (With ``spectral``, which is not theirs, too.)
    """
    return norm in ("instance", "spectral")


def finish(network: nn.Module, *, norm: Norm, init: Init, init_gain: float) -> None:
    """Initialise a network that has just been built, then normalise its weights if ``norm`` is ``spectral``.

    Args:
        network: Changed in place.
        norm: With ``spectral``, every convolution and linear layer is divided by its largest singular value
            (Miyato et al. 2018, arXiv:1802.05957).
        init: ``normal`` is N(0, ``init_gain``), and N(1, ``init_gain``) for the scales of norm layers (Radford et al.
            2016); ``default`` is torch's own.
        init_gain: Standard deviation for ``normal``, gain for ``xavier`` and ``orthogonal``.
    """
    layers = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    norms = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d))]
    if init != "default":
        for layer in layers:
            _INITIALISERS[init](layer.weight, init_gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for normalisation in norms:
            if normalisation.weight is not None and normalisation.bias is not None:  # instance norm may have neither
                nn.init.normal_(normalisation.weight, 1.0, init_gain if init == "normal" else 0.02)
                nn.init.zeros_(normalisation.bias)
    if norm == "spectral":
        for layer in layers:
            spectral_norm(layer)


_INITIALISERS: dict[str, Callable[[Tensor, float], Any]] = {
    "normal": lambda weight, gain: nn.init.normal_(weight, 0.0, gain),
    "xavier": lambda weight, gain: nn.init.xavier_normal_(weight, gain=gain),
    "kaiming": lambda weight, _: nn.init.kaiming_normal_(weight, a=0.2),
    "orthogonal": lambda weight, gain: nn.init.orthogonal_(weight, gain=gain),
}


def doublings(shape: ImageShape, network: str) -> int:
    """How often 4 x 4 must be doubled to reach the image size.

    Raises:
        ConfigError: The size is not a power of two from 16 to 256 on both sides.
    """
    _, height, width = shape
    if height != width or height not in (16, 32, 64, 128, 256):
        raise ConfigError(
            f"the network '{network}' makes square images of 16, 32, 64, 128 or 256 pixels, not {height} x {width}: "
            "set data.load_size (and data.crop_size) to one of them"
        )
    return (height // 4).bit_length() - 1


def check_multiple(shape: ImageShape, multiple: int, network: str, *, else_set: str = "") -> None:
    """Refuse images that can't be halved as often as the network does it.

    Args:
        shape: Channels, height and width.
        multiple: What both sides must be multiples of.
        network: Its registered name.
        else_set: Another way out, to be offered beside ``data.crop_size``.

    Raises:
        ConfigError: A side is not such a multiple.
    """
    _, height, width = shape
    if height % multiple or width % multiple:
        raise ConfigError(
            f"the network '{network}' takes images whose sides are multiples of {multiple}, not {height} x {width}: "
            f"set data.crop_size (and data.load_size) to such numbers{else_set}"
        )


def check_at_least(shape: ImageShape, side: int, network: str) -> None:
    """Refuse images with a side shorter than ``side``, for which a layer of the network would have no pixels.

    Raises:
        ConfigError: A side is.
    """
    _, height, width = shape
    if min(height, width) < side:
        raise ConfigError(
            f"the network '{network}' takes images of at least {side} x {side} pixels, not {height} x {width}: "
            "set data.crop_size (and data.load_size) to such numbers"
        )


def check_one_map(network: str, num_classes: int, num_outputs: int) -> None:
    """Refuse what a discriminator that puts out one map of logits, and sees no labels, can't do.

    Raises:
        ConfigError: There are labels to be seen or several outputs to be made.
    """
    if num_classes or num_outputs != 1:
        lack = "sees no labels" if num_classes else f"puts out one map of logits, not {num_outputs} logits per image"
        raise ConfigError(f"the network '{network}' {lack}: choose another, like network/discriminator=dcgan")


# ---- precision

_full_precision: ContextVar[bool] = ContextVar("full_precision", default=False)


@contextmanager
def full_precision() -> Iterator[None]:
    """Networks called inside run uncompiled in the type of their weights: for penalties, whose gradients of gradients
    neither half precision nor ``torch.compile`` can be trusted with."""
    token = _full_precision.set(True)
    try:
        yield
    finally:
        _full_precision.reset(token)


def set_precision(network: nn.Module, *, device: torch.device, autocast: torch.dtype | None, compiled: bool) -> None:
    """Make ``network`` compute under autocast to ``autocast`` and put out float32, or compile it, or both.

    Only ``forward`` is replaced: the module is not wrapped, so the keys of its state stay as they are.
    """
    plain = network.forward
    fast: Callable[..., Any] = torch.compile(plain) if compiled else plain

    def forward(*inputs: Any) -> Any:
        if _full_precision.get():
            return plain(*inputs)
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            output = fast(*inputs)
        return output.float() if autocast is not None else output

    if autocast is not None or compiled:
        network.forward = forward
