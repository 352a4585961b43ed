"""Bare weights of pytorch-CycleGAN-and-pix2pix (``latest_net_G.pth``): which network they are of, read off the keys.

Such a file is a ``state_dict`` and says nothing else, so that its owner would have to remember netG, norm and dropout.
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

from gantrain.errors import ConfigError
from gantrain.networks.common import Norm
from gantrain.registry import DISCRIMINATORS, GENERATORS

State: TypeAlias = dict[str, Tensor]
REFERENCE = "pytorch-CycleGAN-and-pix2pix"
ASSUMED_DROPOUT = 0.5  # the only rate that the reference has
_WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")  # DataParallel's and torch.compile's
_RUNNING = ("running_mean", "running_var", "num_batches_tracked")
# where the two convolutions of a residual block stand tells what stands between them
_BLOCKS: dict[tuple[int, ...], tuple[str, float]] = {
    (1, 5): ("reflection", 0.0),
    (1, 6): ("reflection", ASSUMED_DROPOUT),
    (0, 3): ("zero", 0.0),
    (0, 4): ("zero", ASSUMED_DROPOUT),
}


@dataclass(frozen=True)
class ReferenceNetwork:
    """A network of the reference, as its file shows it.

    Attributes:
        side: Which registry builds it.
        config: Its name and every YAML key, for ``GENERATORS.build`` or ``DISCRIMINATORS.build``.
        channels_in: Of the images that it takes.
        channels_out: Of those that it puts out; 1 for a discriminator's logits.
        halvings: How often it halves the sides of an image.
        state: For its ``load_state_dict``.
    """

    side: Literal["generator", "discriminator"]
    config: dict[str, Any]
    channels_in: int
    channels_out: int
    halvings: int
    state: State

    def build(self, height: int, width: int) -> nn.Module:
        """The network for images of this size, with weights of its own.

        Raises:
            ConfigError: The network can't take such images, or there is none of these settings.
        """
        shape = (self.channels_out, height, width)
        input_shape = (self.channels_in, height, width)
        if self.side == "generator":
            generator: nn.Module = GENERATORS.build(self.config, input_shape=input_shape, shape=shape)
            return generator
        discriminator: nn.Module = DISCRIMINATORS.build(self.config, shape=input_shape, num_classes=0, num_outputs=1)
        return discriminator


def read_reference(path: Path, *, dropout: float | None = None, run_key: str = "run") -> ReferenceNetwork:
    """The network in a ``.pth`` file of pytorch-CycleGAN-and-pix2pix, with its architecture.

    Leftovers are removed: ``module.`` before the keys, the statistics that instance norm kept before PyTorch 0.4, and
    whatever stands beside a ``state_dict`` in the file.

    Args:
        path: The file.
        dropout: Of a U-Net, whose file does not show it; None is 0.5. A ResNet's file does show it.
        run_key: What takes a run folder where this file was given, for messages.

    Raises:
        ConfigError: The file can't be read, or holds no network of the reference.
    """
    state = _cleaned(_loaded(path, run_key))
    convolutions = {key: weight for key, weight in state.items() if weight.ndim == 4}
    network = None
    for infer in (_unet, _resnet, _patchgan, _pixelgan):
        network = network or infer(state, convolutions)
    if network is None:
        raise ConfigError(f"{path} holds no network of {REFERENCE}: {_described(state)}")
    if network.config["name"] == "unet" and dropout is not None:
        network.config["dropout"] = dropout
    _verify(path, network)
    return network


# ---- the file


def _loaded(path: Path, run_key: str) -> State:
    """What the file holds, if that is tensors by name."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from None
    try:
        # never pickled code: weights are passed from hand to hand; torch warns of what is then refused
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch stumble anywhere, over assertions and types too
        reason = "it is not a PyTorch file of weights, or it is damaged"
        # an archive (zip) or a pickle (its protocol's mark), as PyTorch writes them, but with something else inside
        if isinstance(error, pickle.UnpicklingError) and start.startswith((b"PK\x03\x04", b"\x80")):
            reason = "it holds more than tensors, and pickled code is refused; save the network's state_dict() alone"
        raise ConfigError(f"can't read {path}: {reason}") from None
    if isinstance(content, dict) and "format" in content and "step" in content:
        raise ConfigError(
            f"{path} is not bare weights but a checkpoint of gantrain: give {run_key}={path.parent} instead"
        )
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    tensors = isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())
    if not tensors or not all(isinstance(key, str) for key in content) or not content:
        raise ConfigError(f"{path} holds no network of {REFERENCE}: {_described(content)}")
    return dict(content)


def _described(content: Any) -> str:
    """What a thing looks like that is not a network of the reference."""
    if not isinstance(content, dict):
        return f"it is of type {type(content).__name__}"
    first = ", ".join(repr(key) for key in list(content)[:3])
    entries = f"{len(content)} entr{'y' if len(content) == 1 else 'ies'}"
    return f"it is a dictionary of {entries}" + (f" (first: {first})" if content else "")


def _cleaned(state: State) -> State:
    """The entries that a network of today has, under its keys."""
    state = {_WRAPPERS.sub("", key): value for key, value in state.items()}
    cleaned = {}
    for key, value in state.items():
        module, _, entry = key.rpartition(".")
        if entry in _RUNNING and f"{module}.weight" not in state:
            continue  # instance norm, which once kept statistics that it does not use
        cleaned[key] = value
        if entry == "running_var" and f"{module}.num_batches_tracked" not in state:
            cleaned[f"{module}.num_batches_tracked"] = torch.tensor(0)  # batch norm before PyTorch 0.4.1
    return cleaned


def _verify(path: Path, network: ReferenceNetwork) -> None:
    """Build it without memory and compare what it would load with what is there."""
    side = 64 * 2**network.halvings
    try:
        with torch.device("meta"):
            state = network.build(side, side).state_dict()
    except ConfigError as error:
        raise ConfigError(f"{path} holds no network of {REFERENCE}: {error}") from None
    expected = {key: tuple(value.shape) for key, value in state.items()}
    found = {key: tuple(value.shape) for key, value in network.state.items()}
    for key in {**expected, **found}:
        if expected.get(key) != found.get(key):
            raise ConfigError(
                f"{path} holds no network of {REFERENCE}: it looks like {network.config['name']}, but {key} is "
                f"{found.get(key, 'missing')} and should be {expected.get(key, 'missing')}"
            )


# ---- the families


def _norm(state: State, convolution: str) -> Norm:
    """The normalisation, from the statistics of batch norm or the bias of a convolution before a norm."""
    if any(key.endswith(".running_mean") for key in state):
        return "batch"
    return "instance" if convolution.removesuffix("weight") + "bias" in state else "none"


def _numbered(convolutions: State, pattern: str) -> dict[int, str]:
    """The keys that match a pattern with one number, by that number, rising."""
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
    config = {
        "name": "unet",
        "width": width,
        "depth": depth,
        "dropout": ASSUMED_DROPOUT,
        "skips": True,
        "norm": _norm(state, first),
        "upsample": "transposed",
        **_INIT,
    }
    return ReferenceNetwork("generator", config, channels_in, convolutions[last].shape[1], depth, state)


def _resnet(state: State, convolutions: State) -> ReferenceNetwork | None:
    outer = _numbered(convolutions, r"model\.(\d+)\.weight")
    blocks = sorted({int(match[1]) for key in convolutions if (match := re.match(r"model\.(\d+)\.conv_block\.", key))})
    if not blocks or min(outer, default=blocks[0]) >= blocks[0]:
        return None
    stem, *down = [key for number, key in outer.items() if number < blocks[0]]
    last = outer[max(outer)]
    within = _numbered(convolutions, rf"model\.{blocks[0]}\.conv_block\.(\d+)\.weight")
    padding, dropout = _BLOCKS.get(tuple(within), ("reflection", 0.0))
    width, channels_in, size, _ = convolutions[stem].shape
    config = {
        "name": "resnet",
        "width": width,
        "blocks": len(blocks),
        "downsamplings": len(down),
        "kernel": convolutions[down[0]].shape[-1] if down else 3,
        "stem": size,
        "padding": padding,
        "dropout": dropout,
        "norm": _norm(state, stem),
        "upsample": "transposed",
        **_INIT,
    }
    return ReferenceNetwork("generator", config, channels_in, convolutions[last].shape[0], len(down), state)


def _patchgan(state: State, convolutions: State) -> ReferenceNetwork | None:
    keys = list(_numbered(convolutions, r"model\.(\d+)\.weight").values())
    if len(keys) != len(convolutions) or len(keys) < 3:
        return None
    width, channels_in = convolutions[keys[0]].shape[:2]
    layers = len(keys) - 2
    config = {"name": "patchgan", "width": width, "layers": layers, "norm": _norm(state, keys[1]), **_INIT}
    return ReferenceNetwork("discriminator", config, channels_in, 1, layers, state)


def _pixelgan(state: State, convolutions: State) -> ReferenceNetwork | None:
    if "net.0.weight" not in convolutions:
        return None
    width, channels_in = convolutions["net.0.weight"].shape[:2]
    config = {"name": "pixelgan", "width": width, "norm": _norm(state, "net.2.weight"), **_INIT}
    return ReferenceNetwork("discriminator", config, channels_in, 1, 0, state)


_INIT = {"init": "normal", "init_gain": 0.02}
