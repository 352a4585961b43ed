"""PatchGAN and PixelGAN: the reference's keys, their formulas, receptive fields."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_mentions
from network_checks import REFERENCE, normalised, preset, shaken
from torch import Tensor

from gantrain.errors import ConfigError
from gantrain.networks.patchgan import PatchGANDiscriminator, PixelGANDiscriminator, TextbookPatchGANDiscriminator
from gantrain.registry import DISCRIMINATORS

KEYS = {
    "shape": (3, 32, 32),
    "width": 3,
    "norm": "batch",
    "init": "default",
    "init_gain": 0.02,
}


def patchgan(**keys: Any) -> PatchGANDiscriminator:
    return PatchGANDiscriminator(**{**KEYS, "layers": 3, "scales": 1, "antialias": False, **keys})


def textbook(**keys: Any) -> TextbookPatchGANDiscriminator:
    return TextbookPatchGANDiscriminator(**{**KEYS, **keys})


def pixelgan(**keys: Any) -> PixelGANDiscriminator:
    return PixelGANDiscriminator(**{**KEYS, **keys})


MAKERS = [patchgan, textbook, pixelgan]


# ---- the reference


@pytest.mark.parametrize("entry", [name for name in REFERENCE if "netD" in name])
def test_keys_and_shapes_are_those_of_the_reference_in_order(entry: str) -> None:
    words = dict(word.split("=") for word in entry.split() if "=" in word)
    keys = {"shape": (3, 256, 256), "width": 64, "norm": words["norm"]}
    with torch.device("meta"):
        network = pixelgan(**keys) if words["netD"] == "pixel" else patchgan(**keys, layers=int(words["n_layers_D"]))
    assert [(key, list(value.shape)) for key, value in network.state_dict().items()] == list(REFERENCE[entry].items())


# 4 x 4 kernels: c x 64 + 64; 64 x 128, 128 x 256 and 256 x 512, each with a scale and a shift per channel; 512 x 1 + 1
@pytest.mark.parametrize(("channels", "count"), [(3, 2_765_633), (6, 2_768_705)])
def test_the_preset_has_as_many_parameters_as_the_reference(channels: int, count: int) -> None:
    weights = 16 * (channels * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    assert weights + 64 + 2 * (128 + 256 + 512) + 1 == count
    network = preset("discriminator", "patchgan", "network.norm=batch", shape=(channels, 256, 256))
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize(("name", "side"), [("patchgan", 30), ("patchgan_textbook", 16), ("pixelgan", 256)])
def test_the_presets_map_256_pixels_to_the_published_number_of_logits(name: str, side: int) -> None:
    image = torch.empty(1, 3, 256, 256, device="meta")
    assert preset("discriminator", name, "network.norm=batch", shape=(3, 256, 256))(image).shape == (1, 1, side, side)


def test_filters_are_where_the_authors_of_cut_have_them() -> None:
    network = patchgan(norm="instance", antialias=True, shape=(3, 34, 50))
    shapes = {key.removeprefix("model."): tuple(value.shape) for key, value in network.state_dict().items()}
    assert {key: shape for key, shape in shapes.items() if len(shape) == 4} == {
        **{"0.weight": (3, 3, 4, 4), "2.filt": (3, 1, 3, 3), "3.weight": (6, 3, 4, 4), "6.filt": (6, 1, 3, 3)},
        **{"7.weight": (12, 6, 4, 4), "10.filt": (12, 1, 3, 3), "11.weight": (24, 12, 4, 4)},
        "14.weight": (1, 24, 4, 4),
    }
    image = torch.randn(2, 3, 34, 50)
    assert network(image).shape == patchgan(norm="instance", shape=(3, 34, 50))(image).shape == (2, 1, 2, 4)


# ---- receptive fields


@pytest.mark.parametrize(("layers", "side", "seen"), [(1, 64, 16), (2, 96, 34), (3, 128, 70), (4, 192, 142)])
def test_the_receptive_field_of_a_logit_is_a_square(layers: int, side: int, seen: int) -> None:
    torch.manual_seed(0)
    network = patchgan(layers=layers, norm="none", width=2, shape=(3, side, side)).double()
    image = torch.randn(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    logits = network(image)
    middle = logits.size(-1) // 2
    logits[0, 0, middle, middle].backward()
    assert image.grad is not None
    reached = (image.grad != 0).any(1)[0]
    rows, columns = reached.any(1).nonzero().flatten(), reached.any(0).nonzero().flatten()
    assert rows[0] > 0
    assert rows[-1] < side - 1  # The receptive field is inside the image.
    assert (rows[-1] - rows[0] + 1).item() == (columns[-1] - columns[0] + 1).item() == seen
    assert reached.sum().item() == seen**2


def test_the_receptive_field_of_a_pixelgan_logit_is_one_pixel() -> None:
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    pixelgan(norm="none").double()(image)[0, 0, 2, 5].backward()
    assert image.grad is not None
    assert image.grad.abs().sum(1)[0].nonzero().tolist() == [[2, 5]]


# ---- the formulas


def written_out(x: Tensor, state: dict[str, Tensor], norm: str, layers: list[tuple[str, int, int]]) -> Tensor:
    """Convolutions (key, stride, padding), LeakyReLU between, norm on all but the first and the last."""
    for number, (key, stride, padding) in enumerate(layers):
        x = F.conv2d(x, state[f"{key}.weight"], state.get(f"{key}.bias"), stride=stride, padding=padding)
        if 0 < number < len(layers) - 1:
            name, place = key.rsplit(".", 1)
            x = normalised(x, norm, state, f"{name}.{int(place) + 1}")
        if number < len(layers) - 1:
            x = torch.where(x > 0, x, 0.2 * x)
    return x


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_discriminators_compute_their_formulas(norm: str) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, 33, 50, dtype=torch.float64)
    network = shaken(patchgan(norm=norm))
    layers = [("model.0", 2, 1), ("model.2", 2, 1), ("model.5", 2, 1), ("model.8", 1, 1), ("model.11", 1, 1)]
    expected = written_out(image, network.state_dict(), norm, layers)
    torch.testing.assert_close(network(image).detach(), expected, atol=1e-10, rtol=0)
    network = shaken(pixelgan(norm=norm))
    expected = written_out(image, network.state_dict(), norm, [("net.0", 1, 0), ("net.2", 1, 0), ("net.5", 1, 0)])
    torch.testing.assert_close(network(image).detach(), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_textbook_discriminator_pads_at_the_top_and_left(norm: str) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, 48, 64, dtype=torch.float64)
    network = shaken(textbook(norm=norm))
    state = network.state_dict()
    layers = [("layers.0", 2, 1), ("layers.2", 2, 1), ("layers.5", 2, 1), ("layers.8", 2, 1)]
    # The last of the list has neither norm nor activation.
    x = written_out(image, state, norm, layers)
    x = normalised(x, norm, state, "layers.9")
    x = F.pad(torch.where(x > 0, x, 0.2 * x), (2, 1, 2, 1))  # one all round and one more
    expected = F.conv2d(x, state["layers.12.weight"], state["layers.12.bias"])
    assert expected.shape == (2, 1, 3, 4)
    torch.testing.assert_close(network(image).detach(), expected, atol=1e-10, rtol=0)


# ---- scales


def halved(image: Tensor) -> Tensor:
    """The means of the 3 x 3 pixels around every second one, as far as they are inside the image."""
    _, _, height, width = image.shape
    rows = []
    for row in range(0, height, 2):
        near = image[:, :, max(row - 1, 0) : row + 2]
        rows.append([near[..., max(column - 1, 0) : column + 2].mean(dim=(2, 3)) for column in range(0, width, 2)])
    return torch.stack([torch.stack(row, dim=2) for row in rows], dim=2)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_each_scale_has_its_own_network_on_a_smaller_image(norm: str) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, 57, 64, dtype=torch.float64)
    network = shaken(patchgan(norm=norm, layers=2, scales=3, shape=(3, 57, 64)))
    layers = [("model.0", 2, 1), ("model.2", 2, 1), ("model.5", 1, 1), ("model.8", 1, 1)]
    found = network(image)
    assert isinstance(found, tuple)
    assert len(found) == 3
    for number, logits in enumerate(found):
        prefix = "coarser." * number
        state = {key.removeprefix(prefix): value for key, value in network.state_dict().items()}
        torch.testing.assert_close(logits.detach(), written_out(image, state, norm, layers), atol=1e-10, rtol=0)
        image = halved(image)


@pytest.mark.parametrize("scales", [1, 3])
def test_feature_maps_are_the_outputs_of_activations_and_the_logits(scales: int) -> None:
    torch.manual_seed(0)
    network, image = shaken(patchgan(layers=3, scales=scales, shape=(3, 96, 96))), torch.randn(2, 3, 96, 96).double()
    outputs: list[Tensor] = []
    for layer in network.modules():
        if isinstance(layer, torch.nn.LeakyReLU):
            layer.register_forward_hook(lambda _, inputs, output: outputs.append(output.clone()))
    logits = network(image)
    expected = outputs.copy()
    maps = network.feature_maps(image)
    assert [len(each) for each in maps] == [5] * scales
    torch.testing.assert_close([each for scale in maps for each in scale[:-1]], expected, atol=0, rtol=0)
    torch.testing.assert_close(tuple(scale[-1] for scale in maps), logits if scales > 1 else (logits,), atol=0, rtol=0)


def test_further_scales_leave_the_first_as_it_is() -> None:
    for norm in ("batch", "spectral"):
        states = []
        for scales in (1, 2):
            torch.manual_seed(0)
            states.append(patchgan(layers=2, scales=scales, norm=norm).state_dict())
        assert list(states[1]) == [*states[0], *(f"coarser.{key}" for key in states[0])]
        for key, value in states[0].items():
            assert torch.equal(value, states[1][key])


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_the_smallest_image_of_several_scales_is_found_exactly(scales: int) -> None:
    least = {1: 12, 2: 23, 3: 45}[scales]  # Half of 23 is 12, rounded up.
    network = patchgan(layers=2, scales=scales, shape=(3, least, least), norm="instance")
    logits = network(torch.randn(1, 3, least, least))
    assert (logits if scales == 1 else logits[-1]).shape == (1, 1, 1, 1)
    with pytest.raises(ConfigError) as refused:
        patchgan(layers=2, scales=scales, shape=(3, least, least - 1))
    assert_mentions(str(refused.value), f"at least {least} x {least}", f"not {least} x {least - 1}")
    assert ("lower network.discriminator.scales" in str(refused.value)) == (scales > 1)


# ---- settings


@pytest.mark.parametrize("norm", ["batch", "instance", "none", "spectral"])
@pytest.mark.parametrize("make", MAKERS)
def test_gradients_reach_every_weight(make: Any, norm: str) -> None:
    torch.manual_seed(0)
    network = make(norm=norm)
    logits = network(torch.randn(2, 3, 48, 64))
    assert logits.shape[:2] == (2, 1)
    (logits * torch.randn_like(logits)).sum().backward()
    # An instance norm cancels the bias before it; the first and the last layer have no norm.
    ends = [list(network.state_dict())[place] for place in (1, -1)]
    counted = {n: p for n, p in network.named_parameters() if norm != "instance" or p.ndim > 1 or n in ends}
    assert [name for name, p in counted.items() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_images_of_any_size_above_the_smallest_give_a_map_of_logits(layers: int) -> None:
    least = 3 * 2**layers
    for height, width in ((least, least), (least + 1, 2 * least + 3)):
        network = patchgan(layers=layers, shape=(3, height, width), norm="instance")
        expected = (1, 1, height // 2**layers - 2, width // 2**layers - 2)
        assert network(torch.randn(1, 3, height, width)).shape == expected


def test_the_textbook_discriminator_trains_on_one_smallest_image() -> None:
    for norm in ("batch", "instance"):
        assert textbook(norm=norm)(torch.randn(1, 3, 32, 32)).shape == (1, 1, 2, 2)


def test_biases_are_those_of_the_reference() -> None:
    for norm, there in {"batch": False, "none": False, "instance": True, "spectral": True}.items():
        for make, always, depends in (
            (patchgan, ["model.0", "model.11"], ["model.2", "model.5", "model.8"]),
            (pixelgan, ["net.0"], ["net.2", "net.5"]),
        ):
            network = make(norm=norm)
            assert all(network.get_submodule(name).bias is not None for name in always)
            assert [network.get_submodule(name).bias is not None for name in depends] == [there] * len(depends)


# ---- refusals


@pytest.mark.parametrize(
    ("make", "name", "side", "least"), [(patchgan, "patchgan", 23, 24), (textbook, "patchgan_textbook", 31, 32)]
)
def test_images_without_a_single_patch_are_refused(make: Any, name: str, side: int, least: int) -> None:
    with pytest.raises(ConfigError) as refused:
        make(shape=(3, 64, side))
    assert_mentions(
        str(refused.value), f"'{name}'", f"at least {least} x {least}", f"64 x {side}", "set data.crop_size"
    )


@pytest.mark.parametrize("sizes", [{"num_classes": 10}, {"num_outputs": 11}])
@pytest.mark.parametrize("name", ["patchgan", "patchgan_textbook", "pixelgan"])
def test_labels_and_several_outputs_are_refused(name: str, sizes: dict[str, int]) -> None:
    (argument,) = sizes
    text = rf"network/discriminator={name}: model=acgan .* {argument} .*: dcgan, mlp, resnet_gan$"
    with pytest.raises(ConfigError, match=text):
        DISCRIMINATORS.build({"name": name}, needed_by="model=acgan", shape=(3, 32, 32), **sizes)
