"""The U-Nets: the reference's keys, their formulas, skip connections, depths, dropout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_mentions
from network_checks import REFERENCE, assert_gradients_reach_every_weight, normalised, preset, shaken
from torch import Tensor, nn

from gantrain.errors import ConfigError
from gantrain.networks.unet import ResizeUNetGenerator, UNetBlock, UNetGenerator
from gantrain.registry import GENERATORS

KEYS = {
    "input_shape": (3, 32, 32),
    "shape": (2, 32, 32),
    "width": 2,
    "depth": None,
    "dropout": 0.0,
    "skips": True,
    "norm": "batch",
    "upsample": "transposed",
    "init": "default",
    "init_gain": 0.02,
}
RESIZE_KEYS = {key: KEYS[key] for key in ("input_shape", "shape", "width", "dropout", "norm", "init", "init_gain")}


def unet(**keys: Any) -> UNetGenerator:
    return UNetGenerator(**{**KEYS, **keys})


def resize_unet(**keys: Any) -> ResizeUNetGenerator:
    return ResizeUNetGenerator(**{**RESIZE_KEYS, "depth": 4, **keys})


def inside(level: int) -> str:
    """The prefix of the block that is nested so deep; the outermost is 0."""
    return "model." if level == 0 else "model.model.1." + "model.3." * (level - 1)


# ---- the reference


@pytest.mark.parametrize("entry", [name for name in REFERENCE if "netG=unet" in name])
def test_keys_and_shapes_are_those_of_the_reference_in_order(entry: str) -> None:
    words = dict(word.split("=") for word in entry.split() if "=" in word)
    side = int(words["netG"][len("unet_") :])
    shape = (3, side, side)
    with torch.device("meta"):
        dropout = 0.5 if words["dropout"] == "True" else 0.0
        network = unet(input_shape=shape, shape=shape, width=64, norm=words["norm"], dropout=dropout)
    assert [(key, list(value.shape)) for key, value in network.state_dict().items()] == list(REFERENCE[entry].items())


def test_at_256_pixels_the_parameter_count_is_that_of_the_reference() -> None:
    # down, per 4 x 4: 3 x 64 + 64 x 128 + 128 x 256 + 256 x 512 + 4 of 512 x 512; up: 512 x 512 + 3 of 1024 x 512
    # + 1024 x 256 + 512 x 128 + 256 x 64 + 128 x 3
    down = 3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 4 * 512 * 512
    up = 512 * 512 + 3 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3
    # scales and shifts: 128, 256 and four of 512 down; four of 512, 256, 128 and 64 up; a bias of 3
    norms = 2 * (128 + 256 + 4 * 512 + 4 * 512 + 256 + 128 + 64)
    assert 16 * (down + up) + norms + 3 == 54_413_955
    network = preset("generator", "unet_256", "network.dropout=0.5", input_shape=(3, 256, 256), shape=(3, 256, 256))
    assert sum(parameter.numel() for parameter in network.parameters()) == 54_413_955


@pytest.mark.parametrize(
    ("name", "side", "multiple"),
    [("unet", 32, 32), ("unet", 96, 32), ("unet", 512, 256), ("unet_128", 256, 128), ("unet_256", 256, 256)],
)
def test_the_presets_have_the_depth_in_their_name(name: str, side: int, multiple: int) -> None:
    network = preset("generator", name, "network.dropout=0.5", input_shape=(3, side, side), shape=(3, side, side))
    assert network.multiple == multiple
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in network.modules()) == multiple.bit_length() - 1
    assert network(torch.empty(1, 3, side, side, device="meta")).shape == (1, 3, side, side)


# ---- the formulas


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def written_out(
    image: Tensor, state: dict[str, Tensor], *, depth: int, norm: str, skips: bool, upsample: str
) -> Tensor:
    """The downward pass, whose levels are concatenated in the upward pass."""

    def up(x: Tensor, key: str) -> Tensor:
        if upsample == "resize":
            return F.conv2d(doubled(x), state[f"{key}.1.weight"], state.get(f"{key}.1.bias"), padding=1)
        return F.conv_transpose2d(x, state[f"{key}.weight"], state.get(f"{key}.bias"), stride=2, padding=1)

    def down(x: Tensor, key: str) -> Tensor:
        return F.conv2d(x, state[f"{key}.weight"], state.get(f"{key}.bias"), stride=2, padding=1)

    made = [down(image, "model.model.0")]
    for level in range(1, depth):
        x = down(leaky(made[-1]), f"{inside(level)}model.1")
        made.append(x if level == depth - 1 else normalised(x, norm, state, f"{inside(level)}model.2"))
    innermost = inside(depth - 1)
    x = normalised(up(made[-1].relu(), f"{innermost}model.3"), norm, state, f"{innermost}model.4")
    for level in range(depth - 2, 0, -1):
        x = torch.cat([leaky(made[level]), x], 1) if skips else x
        x = normalised(up(x.relu(), f"{inside(level)}model.5"), norm, state, f"{inside(level)}model.6")
    x = torch.cat([leaky(made[0]), x], 1) if skips else x
    return up(x.relu(), "model.model.3").tanh()


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize(("depth", "upsample"), [(5, "transposed"), (6, "transposed"), (5, "resize")])
def test_the_generator_computes_its_formula(norm: str, skips: bool, depth: int, upsample: str) -> None:
    torch.manual_seed(0)
    keys = {"depth": depth, "norm": norm, "skips": skips, "upsample": upsample}
    network = shaken(unet(input_shape=(3, 64, 64), **keys))
    image = torch.randn(2, 3, 64, 128, dtype=torch.float64)
    expected = written_out(image, network.state_dict(), **keys)
    torch.testing.assert_close(network(image).detach(), expected, atol=1e-10, rtol=0)


def test_skip_connections_carry_activated_features() -> None:
    torch.manual_seed(0)
    blocks = [module for module in unet().modules() if isinstance(module, UNetBlock)]
    channels = [block.model[1].in_channels for block in blocks[1:]]
    assert channels == [2, 4, 8, 16]
    for block, width in zip(blocks[1:], channels, strict=True):
        x = torch.randn(2, width, 16, 16)
        expected = leaky(x)
        torch.testing.assert_close(block(x)[:, :width], expected, atol=0, rtol=0)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_resizing_generator_computes_its_formula(norm: str) -> None:
    torch.manual_seed(0)
    network = shaken(resize_unet(norm=norm, depth=3))
    state = network.state_dict()
    image = torch.randn(2, 3, 16, 32, dtype=torch.float64)

    def convolved(x: Tensor, key: str, stride: int) -> Tensor:
        return F.conv2d(x, state[f"{key}.weight"], state.get(f"{key}.bias"), stride=stride, padding=1)

    made, x = [], image
    for number in range(3):
        x = leaky(normalised(convolved(x, f"down.{number}.0", 2), norm, state, f"down.{number}.1"))
        made.append(x)
    for number in range(2):
        x = normalised(convolved(doubled(x), f"up.{number}.0.1", 1), norm, state, f"up.{number}.1").relu()
        x = torch.cat([x, made[1 - number]], 1)
    expected = convolved(doubled(x), "last.0.1", 1).tanh()
    torch.testing.assert_close(network(image).detach(), expected, atol=1e-10, rtol=0)


# ---- settings


@pytest.mark.parametrize("norm", ["batch", "instance", "none", "spectral"])
@pytest.mark.parametrize("keys", [{}, {"skips": False}, {"upsample": "resize"}, {"depth": 6, "dropout": 0.3}])
def test_every_setting_preserves_the_size_and_trains_every_weight(norm: str, keys: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = unet(norm=norm, width=3, input_shape=(3, 64, 192), **keys)
    images = network(torch.randn(2, 3, 64, 192))
    assert images.shape == (2, 2, 64, 192)
    assert images.abs().max() <= 1
    assert_gradients_reach_every_weight(network, norm=norm, shape=(2, 3, 192, 64))


@pytest.mark.parametrize("norm", ["batch", "instance", "none", "spectral"])
@pytest.mark.parametrize(("depth", "dropout"), [(1, 0.0), (2, 0.3), (4, 0.0), (5, 0.0)])
def test_every_resizing_setting_preserves_the_size_and_trains_every_weight(
    norm: str, depth: int, dropout: float
) -> None:
    torch.manual_seed(0)
    network = resize_unet(norm=norm, depth=depth, dropout=dropout, width=3, input_shape=(3, 64, 64))
    assert network.multiple == 2**depth
    assert network(torch.randn(2, 3, 64, 128)).shape == (2, 2, 64, 128)
    assert_gradients_reach_every_weight(network, norm=norm, shape=(1, 3, 64, 64))


def test_the_resizing_preset_doubles_its_width_from_32_channels() -> None:
    network = preset("generator", "unet_resize", "network.dropout=0.5", input_shape=(3, 32, 32), shape=(3, 32, 32))
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [
        *[(3, 32), (32, 64), (64, 128), (128, 256)],
        *[(256, 128), (256, 64), (128, 32), (64, 3)],  # all but the first are concatenated with a downward level
    ]
    norms = [m for m in network.modules() if isinstance(m, nn.InstanceNorm2d)]
    assert len(norms) == 7
    assert network.multiple == 16


@pytest.mark.parametrize(("depth", "levels"), [(5, []), (6, [4]), (7, [4, 5]), (8, [4, 5, 6])])
def test_dropout_follows_full_width_upsampling_except_the_innermost(depth: int, levels: list[int]) -> None:
    side = 2**depth
    with torch.device("meta"):
        network = unet(input_shape=(3, side, side), dropout=0.3)
    dropouts = {name: m.p for name, m in network.named_modules() if isinstance(m, nn.Dropout)}
    assert dropouts == {f"{inside(level)}model.7": 0.3 for level in levels}
    for name in dropouts:
        norm = network.get_submodule(name.removesuffix("7") + "6")
        assert norm.num_features == 8 * 2
    with torch.device("meta"):
        assert not any(isinstance(m, nn.Dropout) for m in unet(input_shape=(3, side, side)).modules())


def test_dropout_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    for network in (unet(input_shape=(3, 64, 64), dropout=0.5), resize_unet(input_shape=(3, 64, 64), dropout=0.5)):
        image = torch.randn(2, 3, 64, 64)
        assert not torch.equal(network(image), network(image))
        network.eval()
        assert torch.equal(network(image), network(image))


def test_the_innermost_pixel_is_not_normalised() -> None:
    for norm in ("batch", "instance"):
        network = unet(norm=norm)
        assert network(torch.randn(1, 3, 32, 32)).shape == (1, 2, 32, 32)


def test_without_skips_all_features_pass_the_innermost_block() -> None:
    torch.manual_seed(0)
    network = unet(skips=False, norm="none").double()
    with torch.no_grad():  # The innermost block ignores its input.
        network.get_submodule(inside(4) + "model.3").weight.zero_()
    outputs = network(torch.randn(2, 3, 32, 32, dtype=torch.float64))
    torch.testing.assert_close(outputs[0], outputs[1], atol=0, rtol=0)


# ---- refusals


REMEDY = "set data.crop_size (and data.load_size)"


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"input_shape": (3, 48, 64)}, ["multiples of 32", "48 x 64"]),
        ({"input_shape": (3, 64, 80)}, ["multiples of 32", "64 x 80"]),
        (
            {"input_shape": (3, 128, 128), "depth": 8},
            ["multiples of 256", "128 x 128", "network.generator.depth=null"],
        ),
    ],
)
def test_sizes_that_cannot_be_halved_are_refused_in_one_line(keys: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        unet(**keys)
    assert_mentions(str(refused.value), "'unet'", REMEDY, *parts)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("height", "limit"), [(24, "multiples of 16"), (16, "at least 32 x 32")])
def test_the_resizing_generator_refuses_sizes_that_do_not_fit(height: int, limit: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resize_unet(input_shape=(3, height, 32))
    assert_mentions(str(refused.value), "'unet_resize'", limit, f"{height} x 32", REMEDY)


def test_a_shallow_unet_is_refused() -> None:
    keys = {"name": "unet", **{key: value for key, value in KEYS.items() if "shape" not in key}, "depth": 4}
    with pytest.raises(ConfigError, match=r"network\.generator\.depth\b.* at least 5 .* or null, got 4"):
        GENERATORS.build(keys, input_shape=(3, 32, 32), shape=(3, 32, 32))
