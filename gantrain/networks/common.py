"""What networks share: normalisation, initialisation, checks of image sizes, and the precision of their computation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from gantrain.config.renamed import renamed
from gantrain.config.schema import NonNegativeFloat, PositiveInt, UnitFloat
from gantrain.errors import ConfigError
from gantrain.networks.instance import InstanceNorm2d
from gantrain.networks.sync_batch import SyncBatchNorm2d

Norm: TypeAlias = Literal["batch", "instance", "none", "spectral", "sync_batch"]
NORMS_2D: dict[str, Callable[..., nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": InstanceNorm2d,
    "sync_batch": SyncBatchNorm2d,
}
Order: TypeAlias = Literal["conv_norm_act", "conv_act_norm"]
Init: TypeAlias = Literal["default", "normal", "xavier", "kaiming", "orthogonal"]
ImageShape: TypeAlias = tuple[int, int, int]  # Channels, height, width.
NO_LABELS = "this network is not conditioned on labels"  # Why its ``label_dim`` has no effect.


class Network(nn.Module):
    """The base class of the built-in networks: a module whose weights are initialised as configured.

    A subclass passes its keyword arguments ``norm``, ``init`` and ``init_gain`` on, and ends its constructor with
    ``self.init_weights()``.

    Args:
        norm: With ``spectral``, every convolution and linear layer is divided by its largest singular value (Miyato et
            al. 2018, arXiv:1802.05957); the subclass documents to which layers the others apply.
        init: ``normal`` is N(0, ``init_gain``), and N(1, ``init_gain``) for the scales of norm layers (Radford et al.
            2016, arXiv:1511.06434); ``default`` is that of torch.
        init_gain: Standard deviation for ``normal``, gain for ``xavier`` and ``orthogonal``.

    Attributes:
        without_effect: Keys that change nothing in this network because of its other arguments, each with the reason.
            A subclass adds its own; a typed override of such a key is refused.
    """

    def __init__(self, *, norm: Norm, init: Init, init_gain: NonNegativeFloat) -> None:
        super().__init__()
        self.without_effect: dict[str, str] = {}
        if init in ("default", "kaiming"):
            self.without_effect["init_gain"] = f"init={init} has no gain; normal, xavier and orthogonal have"
        self._init: dict[str, Any] = {"norm": norm, "init": init, "init_gain": init_gain}

    def init_weights(self) -> None:
        """Initialise the weights; called once, when all layers exist."""
        init_weights(self, **self._init)


def init_weights(network: nn.Module, *, norm: Norm, init: Init, init_gain: float) -> None:
    """Initialise a network in place, then apply spectral norm if ``norm`` is ``spectral``; see ``Network``."""
    layers = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    norms = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d))]
    if init != "default":
        for layer in layers:
            _INITIALISERS[init](layer.weight, init_gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for normalisation in norms:
            if normalisation.weight is not None and normalisation.bias is not None:  # Instance norm may have neither.
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


# ---- normalisation


def is_spectral(network: nn.Module) -> bool:
    """Whether every layer of a network is divided by its largest singular value."""
    layers = [module for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    return bool(layers) and all(is_parametrized(layer, "weight") for layer in layers)


def needs_bias(norm: Norm) -> bool:
    """Whether layers need a bias: batch and instance norm, which follow them, cancel it."""
    return norm in ("none", "spectral")


def norm_2d(norm: Norm, channels: int, *, affine: bool = True) -> list[nn.Module]:
    """The normalisation layer for (N, C, H, W), in a list; empty for ``none`` and ``spectral``."""
    if norm in NORMS_2D:
        return [NORMS_2D[norm](channels, affine=affine)]
    return []


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """The normalisation layer of image-to-image networks for (N, C, H, W): instance norm has neither weights nor state.

    For ``none`` and ``spectral`` it is the identity, so that the positions of later layers in a sequence, and the keys
    of their weights, do not depend on the norm.
    """
    return NORMS_2D[norm](channels) if norm in NORMS_2D else nn.Identity()


def reference_bias(norm: Norm) -> bool:
    """Whether convolutions before ``norm_layer`` have a bias.

    It follows pytorch-CycleGAN-and-pix2pix, whose files could not be loaded otherwise: there is a bias with instance
    norm, which cancels it, and none with ``none``, which could use it. (``spectral``, which that code does not have,
    has one.)
    """
    return norm in ("instance", "spectral")


# ---- image sizes


def doublings(shape: ImageShape, network: str) -> int:
    """The number of doublings to the image size from a first layer of 4 to 7 pixels at the shorter side.

    Raises:
        ConfigError: A side is no multiple of 4 from 16 to 1024.
    """
    _, height, width = shape
    if any(side % 4 or not 16 <= side <= 1024 for side in (height, width)):
        raise ConfigError(
            f"the network '{network}' takes images whose sides are multiples of 4 from 16 to 1024 pixels, not "
            f"{height} x {width}: set data.load_size (and data.crop_size) to such numbers"
        )
    return (min(height, width) // 4).bit_length() - 1


def check_sides(shape: ImageShape, network: str, *, multiple: int = 1, smallest: int = 1, or_else: str = "") -> None:
    """Refuse images whose sides are not multiples of ``multiple``, or are less than ``smallest``.

    Below ``smallest``, a layer of the network would have too few pixels; ``or_else`` is another remedy for the message.
    """
    _, height, width = shape
    if height % multiple or width % multiple:
        limit = f"whose sides are multiples of {multiple}"
    elif min(height, width) < smallest:
        limit = f"of at least {smallest} x {smallest} pixels"
    else:
        return
    raise ConfigError(
        f"the network '{network}' takes images {limit}, not {height} x {width}: "
        f"set data.crop_size (and data.load_size) to such numbers{or_else}"
    )


class ImageToImage(Network):
    """The base class of generators that translate images.

    Args:
        input_shape: Shape of the input images.
        shape: Shape of the output images; the sides are those of the input.
        width: Channels of the first layer; they double with every halving of the sides, in a U-Net up to eightfold.
        dropout: Probability; 0 is off. The subclass documents its position, and that of the norm.
    """

    def __init__(
        self,
        *,
        input_shape: ImageShape,
        shape: ImageShape,
        width: PositiveInt,
        dropout: UnitFloat,
        norm: Norm,
        **init: Any,
    ) -> None:
        super().__init__(norm=norm, **init)
        self.input_shape, self.shape, self.width, self.dropout, self.norm = input_shape, shape, width, dropout, norm

    def limit_sides(self, network: str, *, multiple: int, smallest: int = 1, or_else: str = "") -> None:
        """Set both limits as attributes, and refuse images outside of them; see ``check_sides``."""
        self.multiple, self.smallest = multiple, smallest
        check_sides(self.input_shape, network, multiple=multiple, smallest=smallest, or_else=or_else)


# ---- precision

_full_precision: ContextVar[bool] = ContextVar("full_precision", default=False)


@contextmanager
def full_precision() -> Iterator[None]:
    """Networks called inside run uncompiled and in the type of their weights.

    It is meant for penalties: neither half precision nor ``torch.compile`` is reliable for gradients of gradients.
    """
    token = _full_precision.set(True)
    try:
        yield
    finally:
        _full_precision.reset(token)


def can_be_compiled(network: nn.Module) -> bool:
    """Whether torch's compiler handles a network, which it does not if there is spectral norm.

    A discriminator has two passes before its backward pass. The second changes the singular vectors in place, which the
    compiled backward pass of the first needs as they were, and torch raises an error.
    """
    return not any(map(is_parametrized, network.modules()))


def set_precision(network: nn.Module, *, device: torch.device, autocast: torch.dtype | None, compiled: bool) -> None:
    """Make ``network`` compute under autocast to ``autocast`` and return float32, or compile it if it can be, or both.

    Layers of the network that a model calls directly compute under autocast as well, but are not compiled. Only
    ``forward`` is replaced: no module is wrapped, so the keys of the state stay the same.
    """
    compiled = compiled and can_be_compiled(network)
    fast: Callable[..., Any] = torch.compile(network.forward) if compiled else network.forward
    if autocast is not None:
        for name, layer in network.named_modules():
            # A parametrisation computes a weight, whenever it is read, in the type of that weight.
            if name and "parametrizations" not in name.split("."):
                layer.forward = _with_precision(layer.forward, layer.forward, device.type, autocast)
    if autocast is not None or compiled:
        network.forward = _with_precision(network.forward, fast, device.type, autocast)


def _with_precision(
    plain: Callable[..., Any], fast: Callable[..., Any], device: str, autocast: torch.dtype | None
) -> Callable[..., Any]:
    """``fast`` under autocast; but ``plain`` for penalties, and for a layer inside a network that is under autocast."""

    def forward(*inputs: Any, **keywords: Any) -> Any:
        # The compiler sees only layers inside their network; it must not trace the other conditions.
        if torch.compiler.is_compiling() or _full_precision.get() or torch.is_autocast_enabled(device):
            return plain(*inputs, **keywords)
        with torch.autocast(device, dtype=autocast, enabled=autocast is not None):
            outputs = fast(*inputs, **keywords)
        return outputs if autocast is None else _to_float32(outputs)

    return forward


def _to_float32(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    return type(outputs)(map(_to_float32, outputs)) if isinstance(outputs, (list, tuple)) else outputs


__getattr__ = renamed(
    __name__,
    "bias_before finish uses_bias",
    f"{__name__}.reference_bias {__name__}.init_weights {__name__}.needs_bias",
)
