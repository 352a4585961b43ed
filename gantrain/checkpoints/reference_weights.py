"""Bare weights of pytorch-CycleGAN-and-pix2pix (``latest_net_G.pth``), whose architecture is inferred from the keys.

Such a file is only a ``state_dict``, so that the user would have to remember netG, norm and dropout.
"""

from __future__ import annotations

import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gantrain.checkpoints.bounded import BombError, load_bounded
from gantrain.errors import ConfigError
from gantrain.networks.common import Norm
from gantrain.registry import DISCRIMINATORS, GENERATORS
from gantrain.runtime.storage import explain

State: TypeAlias = dict[str, Tensor]
REFERENCE = "pytorch-CycleGAN-and-pix2pix"
DROPOUT = 0.5  # The only probability in the reference code.
INIT = {"init": "normal", "init_gain": 0.02}
# The indices of the two convolutions in a residual block show the padding and whether there is dropout between them.
_RESIDUAL_BLOCKS: dict[tuple[int, ...], tuple[str, float]] = {
    (1, 5): ("reflection", 0.0),
    (1, 6): ("reflection", DROPOUT),
    (0, 3): ("zero", 0.0),
    (0, 4): ("zero", DROPOUT),
}


@dataclass(frozen=True)
class ReferenceNetwork:
    """A network of the reference code, as inferred from its file."""

    side: Literal["generator", "discriminator"]  # Which registry builds it.
    config: dict[str, Any]  # Its name and every YAML key, for ``GENERATORS.build`` or ``DISCRIMINATORS.build``.
    channels_in: int  # Of its input images.
    channels_out: int  # Of its output images; 1 for the logits of a discriminator.
    halvings: int  # How many times it halves the height and width.
    state: State  # For its ``load_state_dict``.

    def build(self, height: int, width: int) -> nn.Module:
        """The network for images of this size, newly initialised.

        Raises:
            ConfigError: The network does not accept this size, or the inferred settings are invalid.
        """
        input_shape = (self.channels_in, height, width)
        if self.side == "generator":
            return GENERATORS.build(self.config, input_shape=input_shape, shape=(self.channels_out, height, width))
        return DISCRIMINATORS.build(self.config, shape=input_shape, num_classes=0, num_outputs=1)


def read_reference(path: Path, *, dropout: float | None = None, run_key: str = "run") -> ReferenceNetwork:
    """The network in a ``.pth`` file of pytorch-CycleGAN-and-pix2pix, with its architecture.

    Prefixes such as ``module.``, the statistics that instance norm stored before PyTorch 0.4, and entries beside a
    ``state_dict`` are removed.

    Args:
        path: The ``.pth`` file.
        dropout: The dropout probability of a U-Net, which its file does not contain; None for 0.5.
        run_key: The option that takes a run folder in place of this file, for messages.

    Raises:
        ConfigError: The file can't be read, or contains no network of the reference code.
    """
    state = _clean(_load(path, run_key))
    convolutions = {key: weight for key, weight in state.items() if weight.ndim == 4 and key.endswith(".weight")}
    for infer in (_unet, _resnet, _patchgan, _pixelgan):
        if network := infer(state, convolutions):
            break
    else:
        raise _unknown_network(path, _summary(state))
    if network.config["name"] == "unet" and dropout is not None:
        network.config["dropout"] = dropout
    _verify(path, network)
    return network


# ---- the file


def _load(path: Path, run_key: str) -> State:
    """The tensors in the file, by name."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ConfigError(explain(error, f"read {path}")) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about what is then refused.
            with path.open("rb") as file:
                content = load_bounded(file)
    except BombError as error:
        raise ConfigError(f"can't read {path}: {error}; save the network's state_dict() by torch.save") from None
    except Exception as error:  # torch raises anything for a corrupt file, even AssertionError and TypeError.
        reason = "it is not a PyTorch file of weights, or it is corrupt"
        # PyTorch writes zip archives and pickles; this is one, but it contains other objects than tensors.
        if isinstance(error, pickle.UnpicklingError) and start.startswith((b"PK\x03\x04", b"\x80")):
            reason = "it contains pickled code, which is never run; save only the network's state_dict()"
        raise ConfigError(f"can't read {path}: {reason}") from None
    if isinstance(content, dict) and "format" in content and "step" in content:
        raise ConfigError(f"{path} is a checkpoint of gantrain, not bare weights: give {run_key}={path.parent} instead")
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    entries = content.items() if isinstance(content, dict) else ()
    if not entries or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in entries):
        raise _unknown_network(path, _summary(content))
    return dict(entries)


def _unknown_network(path: Path, reason: object) -> ConfigError:
    return ConfigError(f"{path} contains no network of {REFERENCE}: {reason}")


def _summary(content: Any) -> str:
    if not isinstance(content, dict):
        return f"it is of type {type(content).__name__}"
    first = ", ".join(repr(key) for key in list(content)[:3])
    return f"it is a dictionary of length {len(content)}" + (f" (first: {first})" if content else "")


def _clean(state: State) -> State:
    """The state under the keys that a network has in today's PyTorch."""
    # DataParallel and torch.compile add prefixes.
    state = {re.sub(r"^((module|_orig_mod)\.)+", "", key): value for key, value in state.items()}
    cleaned = {}
    for key, value in state.items():
        module, _, entry = key.rpartition(".")
        if entry in ("running_mean", "running_var", "num_batches_tracked") and f"{module}.weight" not in state:
            continue  # Before PyTorch 0.4, instance norm stored statistics that it does not use.
        cleaned[key] = value
        if entry == "running_var" and f"{module}.num_batches_tracked" not in state:
            cleaned[f"{module}.num_batches_tracked"] = torch.tensor(0)  # PyTorch 0.4.1 introduced it.
    return cleaned


def _verify(path: Path, network: ReferenceNetwork) -> None:
    """Build the network on the meta device and compare its state with the file's."""
    size = 64 * 2**network.halvings
    try:
        with torch.device("meta"):
            state = network.build(size, size).state_dict()
    except ConfigError as error:
        raise _unknown_network(path, error) from None
    expected = {key: tuple(value.shape) for key, value in state.items()}
    found = {key: tuple(value.shape) for key, value in network.state.items()}
    for key in {**expected, **found}:
        if expected.get(key) != found.get(key):
            shapes = f"{found.get(key, 'missing')} and should be {expected.get(key, 'missing')}"
            raise _unknown_network(path, f"it looks like {network.config['name']}, but {key} is {shapes}")


# ---- architectures


def _norm(state: State, convolution: str) -> Norm:
    """Batch norm has running statistics; before instance norm the reference code gives convolutions a bias."""
    if any(key.endswith(".running_mean") for key in state):
        return "batch"
    return "instance" if convolution.removesuffix("weight") + "bias" in state else "none"


def _antialias(state: State) -> bool:
    """Only the filters of CUT (Park et al. 2020, arXiv:2007.15651) have this name."""
    return any(key.endswith(".filt") for key in state)


def _numbered(convolutions: State, pattern: str) -> dict[int, str]:
    """The keys that match a pattern with one number, by that number, ascending."""
    matches = [match for key in convolutions if (match := re.fullmatch(pattern, key))]
    return {int(match[1]): match[0] for match in sorted(matches, key=lambda match: int(match[1]))}


def _unet(state: State, convolutions: State) -> ReferenceNetwork | None:
    first, last = "model.model.0.weight", "model.model.3.weight"
    if not {first, last} <= convolutions.keys():
        return None
    depth, inside = 1, "model.model.1."
    while f"{inside}model.1.weight" in convolutions:
        depth += 1
        inside += "model.3."
    width, channels_in = convolutions[first].shape[:2]
    config = {"name": "unet", "width": width, "depth": depth, "dropout": DROPOUT, "skips": True}
    config |= {"norm": _norm(state, first), "upsample": "transposed", **INIT}
    return ReferenceNetwork("generator", config, channels_in, convolutions[last].shape[1], depth, state)


def _resnet(state: State, convolutions: State) -> ReferenceNetwork | None:
    outer = _numbered(convolutions, r"model\.(\d+)\.weight")
    blocks = sorted({int(match[1]) for key in convolutions if (match := re.match(r"model\.(\d+)\.conv_block\.", key))})
    if not blocks or min(outer, default=blocks[0]) >= blocks[0]:
        return None
    stem, *downsamplings = [key for number, key in outer.items() if number < blocks[0]]
    last = outer[max(outer)]
    within = _numbered(convolutions, rf"model\.{blocks[0]}\.conv_block\.(\d+)\.weight")
    padding, dropout = _RESIDUAL_BLOCKS.get(tuple(within), ("reflection", 0.0))
    width, channels_in, size, _ = convolutions[stem].shape
    kernel = convolutions[downsamplings[0]].shape[-1] if downsamplings else 3
    config = {"name": "resnet", "width": width, "blocks": len(blocks), "downsamplings": len(downsamplings)}
    config |= {"kernel": kernel, "stem": size, "padding": padding, "dropout": dropout}
    config |= {"norm": _norm(state, stem), "upsample": "transposed", "antialias": _antialias(state), **INIT}
    return ReferenceNetwork("generator", config, channels_in, convolutions[last].shape[0], len(downsamplings), state)


def _patchgan(state: State, convolutions: State) -> ReferenceNetwork | None:
    keys = list(_numbered(convolutions, r"model\.(\d+)\.weight").values())
    if len(keys) != len(convolutions) or len(keys) < 3:
        return None
    width, channels_in = convolutions[keys[0]].shape[:2]
    layers = len(keys) - 2
    config = {"name": "patchgan", "width": width, "layers": layers, "scales": 1, "norm": _norm(state, keys[1])}
    config |= {"antialias": _antialias(state), **INIT}
    return ReferenceNetwork("discriminator", config, channels_in, 1, layers, state)


def _pixelgan(state: State, convolutions: State) -> ReferenceNetwork | None:
    if "net.0.weight" not in convolutions:
        return None
    width, channels_in = convolutions["net.0.weight"].shape[:2]
    config = {"name": "pixelgan", "width": width, "norm": _norm(state, "net.2.weight"), **INIT}
    return ReferenceNetwork("discriminator", config, channels_in, 1, 0, state)
