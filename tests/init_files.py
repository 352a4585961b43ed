"""Weights of pytorch-CycleGAN-and-pix2pix and runs that start from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from tiny_keys import RESNET_KEYS, UNET_KEYS
from torch import Tensor, nn

from gantrain.networks.patchgan import PatchGANDiscriminator
from gantrain.networks.resnet import ResnetGenerator
from gantrain.networks.unet import UNetGenerator

INIT = {"init": "normal", "init_gain": 0.02}
RESNET = {**RESNET_KEYS, **INIT, "width": 3, "blocks": 2, "downsamplings": 1, "stem": 5, "padding": "zero"}
UNET = {**UNET_KEYS, **INIT, "width": 3, "depth": 5, "dropout": 0.5}
TINY = ["data.load_size=32", "data.crop_size=32", "data.num_workers=0", "trainer.accelerator=cpu"]
STILL = ["optimizer.lr=0", "optimizer.discriminator_lr=0", "trainer.steps=1"]


def write_images() -> None:
    """Save an image pair, and images of two domains."""
    random = np.random.default_rng(0)
    for name, width in {"pairs/train/1": 64, "made/trainA/1": 32, "made/trainB/1": 32, "made/trainB/2": 32}.items():
        path = Path(f"{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, width, 3), dtype=np.uint8)).save(path)


def saved(path: str, network: nn.Module, seed: int) -> dict[str, Tensor]:
    """Save a network with random weights and statistics, and return its state dict."""
    torch.manual_seed(seed)
    state = network.state_dict()
    for value in state.values():
        value.copy_(torch.rand(value.shape) * 0.4 - 0.1)
    Path(path).parent.mkdir(exist_ok=True)
    torch.save(state, path)
    return state


def resnet(inputs: int = 3, outputs: int = 3, **changes: Any) -> nn.Module:
    return ResnetGenerator(input_shape=(inputs, 32, 32), shape=(outputs, 32, 32), **RESNET | changes)


def unet(inputs: int = 3, outputs: int = 3, **changes: Any) -> nn.Module:
    return UNetGenerator(input_shape=(inputs, 64, 64), shape=(outputs, 64, 64), **UNET | changes)


def patchgan(channels: int, **changes: Any) -> nn.Module:
    keys = {"width": 5, "layers": 2, "scales": 1, "norm": "instance", "antialias": False, **INIT} | changes
    return PatchGANDiscriminator(shape=(channels, 32, 32), **keys)


def pix2pix(*overrides: str) -> list[str]:
    return ["train", "model=pix2pix", "data=aligned", "data.root=pairs", *TINY, "name=run", *overrides]


def cyclegan(*overrides: str) -> list[str]:
    return ["train", "model=cyclegan", "data=unaligned", "data.root=made", *TINY, "name=run", *overrides]


def network_of(name: str) -> dict[str, Any]:
    """The networks in the ``config.yaml`` of a run."""
    return yaml.safe_load(Path(f"checkpoints/{name}/config.yaml").read_text())["network"]
