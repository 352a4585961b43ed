"""The residual generator: the reference's keys, its formula, sizes, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_mentions
from network_checks import REFERENCE, assert_gradients_reach_every_weight, normalised, preset
from torch import Tensor, nn

from gantrain.errors import ConfigError
from gantrain.networks.resnet import ResnetGenerator

KEYS = {
    "input_shape": (3, 16, 16),
    "shape": (2, 16, 16),
    "width": 3,
    "blocks": 2,
    "downsamplings": 2,
    "kernel": 3,
    "stem": 7,
    "padding": "reflection",
    "dropout": 0.0,
    "norm": "batch",
    "upsample": "transposed",
    "antialias": False,
    "init": "default",
    "init_gain": 0.02,
}


def resnet(**keys: Any) -> ResnetGenerator:
    return ResnetGenerator(**{**KEYS, **keys})


def layers_of(block: nn.Sequential) -> list[str]:
    return [type(layer).__name__.removeprefix("Parametrized") for layer in block]


# ---- the reference


@pytest.mark.parametrize("entry", [name for name in REFERENCE if "netG=resnet" in name])
def test_keys_and_shapes_are_those_of_the_reference_in_order(entry: str) -> None:
    words = dict(word.split("=") for word in entry.split() if "=" in word)
    keys = {"width": 64, "blocks": int(words["netG"][len("resnet_")]), "norm": words["norm"], "shape": (3, 16, 16)}
    with torch.device("meta"):
        network = resnet(**keys, dropout=0.5 if words["dropout"] == "True" else 0.0)
    assert [(key, list(value.shape)) for key, value in network.state_dict().items()] == list(REFERENCE[entry].items())


# 7 x 7 stem, 3 to 64: 9408 + 64; down: 73728 + 128 and 294912 + 256; up: 294912 + 128 and 73728 + 64;
# last, 64 to 3: 9408 + 3; together 756 739. Each block: two of 256 to 256, 2 (589824 + 256) = 1 180 160
@pytest.mark.parametrize(("blocks", "count"), [(9, 11_378_179), (6, 7_837_699)])
def test_the_presets_have_as_many_parameters_as_the_reference(blocks: int, count: int) -> None:
    assert 756_739 + blocks * 1_180_160 == count
    sizes = {"input_shape": (3, 256, 256), "shape": (3, 256, 256)}
    network = preset("generator", f"resnet_{blocks}blocks", "network.norm=instance", **sizes)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_the_textbook_preset_has_even_kernels_and_batch_norm() -> None:
    default = "network_defaults.norm=instance"  # As in CycleGAN's file.
    network = preset("generator", "resnet_textbook", default, input_shape=(3, 64, 64), shape=(1, 64, 64))
    assert network.multiple == 8
    strided = [layer for layer in network.model if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    assert [(layer.kernel_size, layer.out_channels) for layer in strided] == [
        ((4, 4), width * strided[0].in_channels) for width in (2, 4, 8)
    ]
    assert layers_of(network.model).count("ResidualBlock") == 6
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in network.model)
    assert network(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 1, 64, 64)


def test_filters_are_where_the_authors_of_cut_have_them() -> None:
    network = resnet(norm="instance", antialias=True)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items() if value.ndim == 4}
    outside = {key.removeprefix("model."): shape for key, shape in shapes.items() if "conv_block" not in key}
    assert outside == {
        **{"1.weight": (3, 3, 7, 7), "4.weight": (6, 3, 3, 3), "7.filt": (6, 1, 3, 3)},
        **{"8.weight": (12, 6, 3, 3), "11.filt": (12, 1, 3, 3)},
        **{"14.filt": (12, 1, 4, 4), "15.weight": (6, 12, 3, 3)},
        **{"18.filt": (6, 1, 4, 4), "19.weight": (3, 6, 3, 3), "23.weight": (2, 3, 7, 7)},
    }
    assert layers_of(network.model)[12:14] == ["ResidualBlock"] * 2


# ---- the formula


def written_out(image: Tensor, state: dict[str, Tensor], keys: dict[str, Any]) -> Tensor:
    """A network of two downsamplings and two blocks, layer by layer."""
    norm, kernel = keys["norm"], keys["kernel"]
    mode = {"reflection": "reflect", "replicate": "replicate", "zero": "constant"}[keys["padding"]]
    pads = 0 if keys["padding"] == "zero" else 1  # modules before a convolution

    def convolved(x: Tensor, key: str, pad: int) -> Tensor:
        return F.conv2d(F.pad(x, [pad] * 4, mode), state[f"{key}.weight"], state.get(f"{key}.bias"))

    def activated(x: Tensor, number: int) -> Tensor:
        return normalised(x, norm, state, f"model.{number + 1}").relu()

    x = activated(convolved(image, f"model.{pads}", 3), pads)
    for number in (pads + 3, pads + 6):
        weight, bias = state[f"model.{number}.weight"], state.get(f"model.{number}.bias")
        x = activated(F.conv2d(x, weight, bias, stride=2, padding=1), number)
    for block in (f"model.{pads + 9}.conv_block", f"model.{pads + 10}.conv_block"):
        first, second = pads, 2 * pads + 3
        inner = normalised(convolved(x, f"{block}.{first}", 1), norm, state, f"{block}.{first + 1}").relu()
        x = x + normalised(convolved(inner, f"{block}.{second}", 1), norm, state, f"{block}.{second + 1}")
    number = pads + 11
    for _ in range(2):
        if keys["upsample"] == "resize":
            number += 1 + pads
            x = convolved(x.repeat_interleave(2, 2).repeat_interleave(2, 3), f"model.{number}", 1)
        else:
            weight, bias = state[f"model.{number}.weight"], state.get(f"model.{number}.bias")
            x = F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=4 - kernel)
        x = activated(x, number)
        number += 3
    return convolved(x, f"model.{number + pads}", 3).tanh()


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("padding", ["reflection", "replicate", "zero"])
@pytest.mark.parametrize(("kernel", "upsample"), [(3, "transposed"), (4, "transposed"), (3, "resize")])
def test_the_generator_computes_its_formula(norm: str, padding: str, kernel: int, upsample: str) -> None:
    torch.manual_seed(0)
    keys = {"norm": norm, "padding": padding, "kernel": kernel, "upsample": upsample}
    network = resnet(**keys).double()
    with torch.no_grad():
        for parameter in network.parameters():  # the scales of batch norm too
            parameter.add_(0.1 * torch.randn_like(parameter))
    image = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    expected = written_out(image, network.state_dict(), keys)
    torch.testing.assert_close(network(image).detach(), expected, atol=1e-10, rtol=0)


# ---- settings


@pytest.mark.parametrize("norm", ["batch", "instance", "none", "spectral"])
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"kernel": 4, "downsamplings": 3, "blocks": 1},
        {"stem": 3, "padding": "replicate", "upsample": "resize"},
        {"downsamplings": 0, "stem": 1},
        {"antialias": True},
        {"padding": "zero", "downsamplings": 1, "dropout": 0.3, "upsample": "resize"},
    ],
)
def test_every_setting_preserves_the_size_and_trains_every_weight(norm: str, keys: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = resnet(norm=norm, width=5, **keys)
    images = network(torch.randn(2, 3, 16, 32))
    assert images.shape == (2, 2, 16, 32)
    assert images.abs().max() <= 1
    assert_gradients_reach_every_weight(network, norm=norm, shape=(2, 3, 32, 16))


def test_convolutions_before_a_norm_have_the_biases_of_the_reference() -> None:
    for norm, there in {"batch": False, "none": False, "instance": True, "spectral": True}.items():
        biases = [key for key, value in resnet(norm=norm).named_parameters() if key.endswith("bias")]
        of_convolutions = [key for key in biases if norm != "batch" or key == "model.19.bias"]
        assert len(of_convolutions) == (10 if there else 1), norm
        assert of_convolutions[-1] == "model.19.bias"


def test_dropout_is_only_in_the_middle_of_the_blocks() -> None:
    network = resnet(dropout=0.3)
    assert [name for name, layer in network.named_modules() if isinstance(layer, nn.Dropout)] == [
        "model.10.conv_block.4",
        "model.11.conv_block.4",
    ]
    assert network.get_submodule("model.10.conv_block.4").p == 0.3
    image = torch.randn(1, 3, 16, 16)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))
    assert not any(isinstance(layer, nn.Dropout) for layer in resnet().modules())


@pytest.mark.parametrize("upsample", ["transposed", "resize"])
def test_only_transposed_networks_have_transposed_convolutions(upsample: str) -> None:
    transposed = [m for m in resnet(upsample=upsample).modules() if isinstance(m, nn.ConvTranspose2d)]
    assert len(transposed) == (2 if upsample == "transposed" else 0)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("normal", 0.1),
        ("xavier", 0.1 * (2 / (64 * 9 + 32 * 9)) ** 0.5),
        ("kaiming", (2 / (1 + 0.2**2) / (32 * 9)) ** 0.5),  # torch counts the outputs of a transposed convolution
        ("orthogonal", 0.1 / (32 * 9) ** 0.5),  # 64 rows of length 0.1
    ],
)
def test_transposed_convolutions_are_initialised_like_the_others(init: str, std: float, norm: str) -> None:
    torch.manual_seed(0)
    network = resnet(init=init, init_gain=0.1, width=32, downsamplings=1, blocks=1, norm=norm)
    (transposed,) = [m for m in network.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert transposed.weight.shape == (64, 32, 3, 3)
    assert transposed.weight.std().item() == pytest.approx(std, rel=0.03)  # 18432 numbers: a standard error of 0.5 %


# ---- refusals


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"input_shape": (3, 30, 32)}, ["'resnet'", "multiples of 4", "30 x 32", "set data.crop_size"]),
        ({"input_shape": (3, 16, 4)}, ["'resnet'", "at least 8 x 8", "16 x 4", "set data.crop_size"]),
        (
            {"input_shape": (3, 8, 8), "downsamplings": 0, "stem": 17},
            ["'resnet'", "at least 9 x 9", "not 8 x 8", "set data.crop_size"],
        ),
        ({"stem": 4}, ["network.generator.stem=4", "odd", "7"]),
    ],
)
def test_invalid_sizes_and_kernels_are_refused_in_one_line(keys: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        resnet(**keys)
    assert_mentions(str(refused.value), *parts)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("downsamplings", "stem", "side"), [(2, 7, 8), (0, 15, 8), (1, 7, 4)])
def test_the_smallest_accepted_image_works(downsamplings: int, stem: int, side: int) -> None:
    network = resnet(input_shape=(3, side, side), downsamplings=downsamplings, stem=stem, norm="instance")
    assert network(torch.randn(1, 3, side, side)).shape == (1, 2, side, side)
