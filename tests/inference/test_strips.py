"""Networks in strips give the result of the whole image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from tiny import resnet, unet
from tiny_keys import CONV_KEYS
from torch import nn

from gantrain.errors import ConfigError
from gantrain.inference import strips
from gantrain.inference.strips import RowFile, Strips
from gantrain.networks.per_image import as_in_training
from gantrain.networks.unet import ResizeUNetGenerator

SHAPES = {"input_shape": (3, 96, 64), "shape": (2, 96, 64)}
resize_unet = partial(ResizeUNetGenerator, **{**CONV_KEYS, "depth": 3, "dropout": 0.0})
NETWORKS = {
    "resnet_6": partial(resnet, blocks=6),
    "resnet_9": partial(resnet, blocks=9),
    "textbook": partial(resnet, blocks=6, downsamplings=3, kernel=4),
    "zero": partial(resnet, kernel=4, padding="zero", upsample="resize"),
    "antialias": partial(resnet, antialias=True, blocks=6),
    "replicate": partial(resnet, padding="replicate", kernel=4, stem=3),
    "unet": unet,
    "encoder_decoder": partial(unet, skips=False, upsample="resize"),
    "unet_resize": resize_unet,
}


def built(name: str, norm: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network whose running statistics are unlike initial ones, in evaluation mode."""
    torch.manual_seed(3)
    network = NETWORKS[name](**SHAPES, norm=norm).to(dtype).eval().requires_grad_(False)
    for key, value in network.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape) * 0.5 + 0.3)
    return network


def in_strips(network: nn.Module, image: torch.Tensor, *, alone: bool = False) -> torch.Tensor:
    parts = list(Strips(network, *image.shape[1:], alone=alone)(lambda first, last: image[:, :, first:last]))
    assert [first for first, _ in parts] == [sum(part.size(2) for _, part in parts[:n]) for n in range(len(parts))]
    assert len(parts) > 3
    return torch.cat([part for _, part in parts], dim=2)


@pytest.fixture(autouse=True)
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "WORKING", 60_000)


@pytest.mark.parametrize("norm", ["instance", "batch", "none", "spectral"])
@pytest.mark.parametrize("name", NETWORKS)
def test_strips_equal_the_whole(name: str, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        network = built(name, norm, dtype)
        image = torch.rand(1, 3, 96, 64, dtype=dtype, generator=torch.Generator().manual_seed(1)) * 2 - 1
        whole = network(image)
        assert whole.std() > 1e-3
        assert (in_strips(network, image) - whole).abs().max() < limit
    for cheap in (0, 1e9):  # All or almost no layers are stored.
        monkeypatch.setattr(strips, "CHEAP", cheap)
        assert (in_strips(network, image) - whole).abs().max() < limit


@pytest.mark.parametrize("name", NETWORKS)
def test_statistics_of_the_image_alone_are_those_of_training_mode(name: str) -> None:
    network = built(name, "batch", torch.float64)
    image = torch.rand(1, 3, 96, 64, dtype=torch.float64) * 2 - 1
    with as_in_training(network, [0]):
        whole = network(image)
    assert (whole - network(image)).abs().max() > 1e-3
    assert (in_strips(network, image, alone=True) - whole).abs().max() < 1e-12


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ConfigError, match="AdaptiveAvgPool2d"):
        Strips(nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1)), 3, 64, 64, alone=False)


def test_only_cheap_layers_are_computed_twice_and_files_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = built("resnet_6", "instance")
    image = torch.rand(1, 3, 96, 64)
    whole = network(image)
    monkeypatch.setattr(strips, "WORKING", 1 << 30)
    monkeypatch.setattr(strips, "CHEAP", 100)  # For a narrow network, as 1000 is for the usual width.
    widths: list[int] = []  # Of the convolutions.
    convolve = nn.functional.conv2d
    monkeypatch.setattr(nn.functional, "conv2d", lambda x, w, *given: widths.append(len(w)) or convolve(x, w, *given))
    opened: list[RowFile] = []
    monkeypatch.setattr(strips, "RowFile", lambda *given: opened.append(RowFile(*given)) or opened[-1])
    (made,) = (rows for _, rows in Strips(network, 3, 96, 64, alone=False)(lambda first, last: image[:, :, first:last]))
    assert (made - whole).abs().max() < 1e-5
    assert widths.count(16) == 13  # One that halves the sides, and two for each block.
    assert widths.count(2) == 1
    assert widths.count(4) == 1  # The first layer is dear here.
    assert widths.count(8) == 2  # The second is cheap.
    assert len(opened) > 12
    assert all(file._file.closed for file in opened)


class Calls(nn.Module):
    """A network that is a function of an image and of a convolution of it."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.scaled = Scaled(3, 3, 3, padding=1)
        self.hooked = nn.utils.spectral_norm(nn.Conv2d(3, 3, 3, padding=1))
        self.function = function

    def forward(self, image: torch.Tensor) -> object:
        return self.function(self, image, self.first(image))


class Scaled(nn.Conv2d):
    """A convolution that computes something else than its parent."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(2 * input)


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x, y: torch.cat([y, y, x], dim=1),
        lambda net, x, y: torch.cat([x, y], 1) + torch.cat([y, y], 1),
        lambda net, x, y: (y, net.first(y))[0],
    ],
)
@torch.no_grad()
def test_sums_and_concatenations_have_the_right_terms(function: Callable[..., object]) -> None:
    network = Calls(function).double().eval()
    image = torch.rand(1, 3, 300, 20, dtype=torch.float64)
    assert (in_strips(network, image) - network(image)).abs().max() < 1e-12


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x, y: torch.cat([x, y], dim=2),
        lambda net, x, y: y + 1,
        lambda net, x, y: torch.add(x, y, alpha=2),
        lambda net, x, y: (x, y),
        lambda net, x, y: y if y.mean() > 0 else x,
        lambda net, x, y: net.scaled(y),
        lambda net, x, y: net.hooked(y),
    ],
)
def test_what_a_layer_is_not_known_to_compute_is_refused(function: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match="can't be computed in strips"):
        Strips(Calls(function).eval(), 3, 20, 20, alone=False)
