"""What tests of convolutional networks share: configurations of YAML files, norms, gradients, the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from torch import Tensor, nn

from gantrain.registry import DISCRIMINATORS, GENERATORS

# Keys and shapes of the state dicts of pytorch-CycleGAN-and-pix2pix, by network.
REFERENCE = json.loads((Path(__file__).parent / "checkpoints/reference-state-dicts.json").read_text())


def preset(side: str, name: str, *overrides: str, **sizes: Any) -> Any:
    """The ``generator`` or ``discriminator`` of a YAML file, 64 channels wide, without memory for its weights."""
    with initialize_config_module("gantrain.configs", version_base="1.3"):
        config = compose("train", [f"network/{side}={name}", "network_defaults.width=64", *overrides])
    with torch.device("meta"):
        keys = OmegaConf.to_container(config.network, resolve=True)[side]
        return {"generator": GENERATORS, "discriminator": DISCRIMINATORS}[side].build(keys, **sizes)


def normalised(x: Tensor, norm: str, state: dict[str, Tensor], key: str) -> Tensor:
    """``x`` less its mean over its standard deviation: of the batch, or of each image."""
    over = (0, 2, 3) if norm == "batch" else (2, 3)
    x = (x - x.mean(over, keepdim=True)) / (x.var(over, unbiased=False, keepdim=True) + 1e-5).sqrt()
    if norm == "batch":
        x = x * state[f"{key}.weight"][:, None, None] + state[f"{key}.bias"][:, None, None]
    return x


def assert_gradients_reach_every_weight(network: nn.Module, *, norm: str, shape: tuple[int, ...]) -> None:
    """Every parameter gets a gradient, except biases that an instance norm cancels."""
    output = network(torch.randn(shape))
    (output * torch.randn_like(output)).sum().backward()
    last = list(dict(network.named_parameters()))[-1]  # No norm follows the last convolution.
    counted = {n: p for n, p in network.named_parameters() if norm != "instance" or p.ndim > 1 or n == last}
    assert [name for name, p in counted.items() if p.grad is None or not p.grad.abs().sum() > 0] == []


def shaken(network: nn.Module) -> nn.Module:
    """The network in float64, with scales and shifts of batch norm that are not 1 and 0."""
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network
