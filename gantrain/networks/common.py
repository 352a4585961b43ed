"""What networks share: normalisation, initialisation, and the precision that a network computes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gantrain.registry import ConfigError

Norm: TypeAlias = Literal["batch", "instance", "none", "spectral"]
Order: TypeAlias = Literal["conv_norm_act", "conv_act_norm"]
Init: TypeAlias = Literal["default", "normal", "xavier", "kaiming", "orthogonal"]
ImageShape: TypeAlias = tuple[int, int, int]  # channels, height, width


def uses_bias(norm: Norm) -> bool:
    """Whether layers need a bias of their own: not before batch or instance norm, which take it out again."""
    return norm in ("none", "spectral")


def norm_2d(norm: Norm, channels: int) -> list[nn.Module]:
    """The normalisation layer for (N, C, H, W), in a list; empty for ``none`` and ``spectral``."""
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    if norm == "instance":
        return [nn.InstanceNorm2d(channels, affine=True)]
    return []


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
        for norm_layer in norms:
            nn.init.normal_(norm_layer.weight, 1.0, init_gain if init == "normal" else 0.02)
            nn.init.zeros_(norm_layer.bias)
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
