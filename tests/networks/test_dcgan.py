"""The networks of DCGAN: sizes, counts, labels, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import dcgan_discriminator, dcgan_generator
from torch import nn

from gantrain.errors import ConfigError

SIZES = [16, 32, 64, 128, 256]
NORMS = ["batch", "instance", "none", "spectral"]
ORDERS = ["conv_norm_act", "conv_act_norm"]


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def layers_of(network: nn.Module) -> list[str]:
    return [type(layer).__name__.removeprefix("Parametrized") for layer in network.layers]


def assert_gradients_reach_every_weight(network: nn.Module, *inputs: Any) -> None:
    output = network(*inputs)
    (output * torch.randn_like(output)).sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_parameter_counts_equal_those_of_the_dcgan_in_pytorch_examples() -> None:
    generator = dcgan_generator(latent_dim=100, shape=(3, 64, 64), width=64)
    discriminator = dcgan_discriminator(shape=(3, 64, 64), width=64)
    assert parameters_of(generator) == 3_576_704
    assert parameters_of(discriminator) == 2_765_568


def test_the_layers_equal_those_of_the_dcgan_in_pytorch_examples() -> None:
    up = ["ConvTranspose2d", "BatchNorm2d", "ReLU"]
    down = ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert layers_of(dcgan_generator(shape=(3, 64, 64))) == [*up * 4, "ConvTranspose2d", "Tanh"]
    assert layers_of(dcgan_discriminator(shape=(3, 64, 64))) == ["Conv2d", "LeakyReLU", *down * 3, "Conv2d"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_norm_and_order_fits_and_trains_every_weight(size: int, norm: str, order: str) -> None:
    torch.manual_seed(0)
    keys = {"shape": (3, size, size), "norm": norm, "order": order, "init": "default", "width": 4}
    generator, discriminator = dcgan_generator(**keys), dcgan_discriminator(**keys)
    images = generator(torch.randn(2, 3))
    assert images.shape == (2, 3, size, size)
    assert images.abs().max() <= 1
    assert discriminator(images.detach()).shape == (2, 1)
    assert_gradients_reach_every_weight(generator, torch.randn(2, 3))
    assert_gradients_reach_every_weight(discriminator, torch.randn(2, 3, size, size))


@pytest.mark.parametrize(
    ("norm", "layer"), [("batch", "BatchNorm2d"), ("instance", "InstanceNorm2d"), ("none", None), ("spectral", None)]
)
def test_order_sets_the_order_of_the_layers(norm: str, layer: str | None) -> None:
    between = [layer] if layer else []
    norm_first = dcgan_generator(norm=norm, order="conv_norm_act")
    norm_last = dcgan_generator(norm=norm, order="conv_act_norm")
    assert layers_of(norm_first)[: 2 + len(between)] == ["ConvTranspose2d", *between, "ReLU"]
    assert layers_of(norm_last)[: 2 + len(between)] == ["ConvTranspose2d", "ReLU", *between]


def test_the_discriminators_first_and_last_layers_are_not_normalised() -> None:
    for order in ORDERS:
        layers = layers_of(dcgan_discriminator(order=order))
        assert layers[:3] == ["Conv2d", "LeakyReLU", "Conv2d"]
        assert layers[-1] == "Conv2d"
        assert layers.count("BatchNorm2d") == 1  # of 16 pixels: one layer between


def test_channels_double_away_from_the_image() -> None:
    generator = dcgan_generator(shape=(3, 64, 64), width=5)
    discriminator = dcgan_discriminator(shape=(3, 64, 64), width=5)
    ups = [layer.out_channels for layer in generator.layers if isinstance(layer, nn.ConvTranspose2d)]
    downs = [layer.out_channels for layer in discriminator.layers if isinstance(layer, nn.Conv2d)]
    assert ups == [40, 20, 10, 5, 3]
    assert downs == [5, 10, 20, 40, 1]


@pytest.mark.parametrize("extra", [1, 2])
def test_extra_layers_have_the_resolution_next_to_the_image(extra: int) -> None:
    generator, discriminator = dcgan_generator(extra_layers=extra), dcgan_discriminator(extra_layers=extra)
    sizes: list[tuple[int, int]] = []
    for network in (generator, discriminator):
        for layer in network.layers:
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                layer.register_forward_hook(
                    lambda _, inputs, output: sizes.append((inputs[0].size(-1), output.size(-1)))
                )
    images = generator(torch.randn(2, 3))
    assert images.shape == (2, 3, 16, 16)
    assert discriminator(images).shape == (2, 1)
    assert sizes == [(8, 8)] * 2 * extra
    assert_gradients_reach_every_weight(generator, torch.randn(2, 3))
    assert_gradients_reach_every_weight(discriminator, torch.randn(2, 3, 16, 16))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_may_have_any_number_of_channels(channels: int) -> None:
    images = dcgan_generator(shape=(channels, 16, 16))(torch.randn(2, 3))
    assert images.shape == (2, channels, 16, 16)
    assert dcgan_discriminator(shape=(channels, 16, 16), num_outputs=7)(images).shape == (2, 7)


def test_labels_change_the_outputs_of_both_networks() -> None:
    torch.manual_seed(0)
    keys = {"num_classes": 3, "init": "default", "norm": "none"}
    generator, discriminator = dcgan_generator(**keys), dcgan_discriminator(**keys)
    labels = torch.tensor([0, 1, 2, 0])
    latent = torch.randn(1, 3).repeat(4, 1)
    images = generator(latent, labels)
    logits = discriminator(images[:1].repeat(4, 1, 1, 1), labels)
    for made in (images, logits):
        torch.testing.assert_close(made[3], made[0])
        assert not torch.allclose(made[1], made[0])
        assert not torch.allclose(made[2], made[1])
    assert_gradients_reach_every_weight(generator, latent, labels)
    assert_gradients_reach_every_weight(discriminator, images.detach(), labels)


def test_dropout_follows_every_activation_and_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    discriminator = dcgan_discriminator(dropout=0.5, init="default", extra_layers=1)
    layers = layers_of(discriminator)
    assert layers.count("Dropout") == layers.count("LeakyReLU") == 3
    images = torch.randn(2, 3, 16, 16)
    assert not torch.equal(discriminator(images), discriminator(images))
    discriminator.eval()
    assert torch.equal(discriminator(images), discriminator(images))
    assert "Dropout" not in layers_of(dcgan_discriminator(dropout=0.0))


OTHER_SIZES = [(28, 28), (48, 48), (96, 128), (20, 36), (64, 32), (16, 256), (100, 44), (512, 512), (1024, 768)]


@pytest.mark.parametrize("sides", OTHER_SIZES, ids=str)
def test_other_sizes_fit_and_train_every_weight(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    keys = {"shape": (3, *sides), "init": "default", "width": 1, "norm": "instance", "extra_layers": 1}
    generator, discriminator = dcgan_generator(**keys), dcgan_discriminator(**keys)
    images = generator(torch.randn(2, 3))
    assert images.shape == (2, 3, *sides)
    assert discriminator(images.detach()).shape == (2, 1)
    assert_gradients_reach_every_weight(generator, torch.randn(2, 3))
    real = torch.randn(1, 3, *sides, requires_grad=True)
    discriminator(real).sum().backward()
    assert real.grad is not None
    assert (real.grad != 0).all()  # It sees every pixel, also where halves are rounded down.


@pytest.mark.parametrize("sides", OTHER_SIZES, ids=str)
def test_the_shorter_side_of_the_innermost_layer_has_4_to_7_pixels(sides: tuple[int, int]) -> None:
    generator, discriminator = (make(shape=(1, *sides), width=1) for make in (dcgan_generator, dcgan_discriminator))
    halved = list(sides)
    while min(halved) >= 8:
        halved = [side // 2 for side in halved]
    assert list(generator.layers[0].kernel_size) == list(discriminator.layers[-1].kernel_size) == halved


def test_channels_stay_the_same_beyond_256_pixels() -> None:
    for size, expected in ((256, [32, 16, 8, 4, 2, 1, 3]), (1024, [32, 32, 32, 16, 8, 4, 2, 1, 3])):
        layers = dcgan_generator(shape=(3, size, size), width=1).layers
        assert [layer.out_channels for layer in layers if isinstance(layer, nn.ConvTranspose2d)] == expected
        layers = dcgan_discriminator(shape=(3, size, size), width=1).layers
        assert [layer.in_channels for layer in layers if isinstance(layer, nn.Conv2d)] == expected[::-1]


def test_powers_of_two_have_the_shapes_of_earlier_versions() -> None:
    for size in SIZES:
        channels = [2**level for level in range((size // 4).bit_length() - 2, -1, -1)]
        ups = [tuple(p.shape) for p in dcgan_generator(shape=(3, size, size), width=1, norm="none").parameters()]
        assert ups[::2] == [(i, o, 4, 4) for i, o in zip([3, *channels], [*channels, 3], strict=True)]
        downs = [tuple(p.shape) for p in dcgan_discriminator(shape=(3, size, size), width=1, norm="none").parameters()]
        assert downs[::2] == [(i, o, 4, 4) for i, o in zip([*channels[::-1], 1], [3, *channels[::-1]], strict=True)]


@pytest.mark.parametrize(("height", "width"), [(30, 28), (8, 8), (64, 2048), (12, 48), (33, 33), (4, 4)])
def test_an_unsupported_size_is_refused_with_the_supported_ones(height: int, width: int) -> None:
    text = rf"^the network 'dcgan' takes images .* multiples of 4 from 16 to 1024 pixels, not {height} x {width}: "
    for make in (dcgan_generator, dcgan_discriminator):
        with pytest.raises(ConfigError, match=text + r"set data\.load_size .*"):
            make(shape=(3, height, width))


def test_the_generator_computes_its_formula_at_odd_sides() -> None:
    """The generator of 36 pixels, halved to 18, 9 and 4, written out layer by layer."""
    torch.manual_seed(0)
    generator = dcgan_generator(shape=(3, 36, 36), norm="none", init="default").double()
    latent, state = torch.randn(2, 3, dtype=torch.float64), generator.state_dict()
    x = torch.einsum("ni,iohw->nohw", latent, state["layers.0.weight"]) + state["layers.0.bias"][:, None, None]
    sides = [x.size(2)]
    for number, side in ((2, 9), (4, 18), (6, 36)):
        weight, bias = state[f"layers.{number}.weight"], state[f"layers.{number}.bias"]
        whole = torch.zeros(2, weight.size(1), side + 4, side + 4, dtype=torch.float64)
        for i in range(x.size(2)):
            for j in range(x.size(3)):  # Every pixel adds its kernel at twice its position.
                kernel = torch.einsum("ni,iohw->nohw", x[:, :, i, j].relu(), weight)
                whole[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += kernel
        x = whole[:, :, 1 : side + 1, 1 : side + 1] + bias[:, None, None]
        sides.append(side)
    assert sides == [4, 9, 18, 36]
    torch.testing.assert_close(generator(latent).detach(), x.tanh(), atol=1e-12, rtol=1e-12)


def test_the_generator_computes_its_formula() -> None:
    """One generator of 16 pixels, written out layer by layer."""
    torch.manual_seed(0)
    generator = dcgan_generator(norm="none", init="default").double()
    latent = torch.randn(2, 3, dtype=torch.float64)
    state = generator.state_dict()
    x = torch.einsum("ni,iohw->nohw", latent, state["layers.0.weight"]) + state["layers.0.bias"][:, None, None]
    for number in (2, 4):
        x = x.relu()
        weight, bias = state[f"layers.{number}.weight"], state[f"layers.{number}.bias"]
        x = nn.functional.conv_transpose2d(x, weight, bias, stride=2, padding=1)
    torch.testing.assert_close(generator(latent).detach(), x.tanh(), atol=1e-12, rtol=1e-12)


def test_the_discriminator_computes_its_formula() -> None:
    """One discriminator of 16 pixels, written out layer by layer."""
    torch.manual_seed(0)
    discriminator = dcgan_discriminator(norm="none", init="default").double()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    state = discriminator.state_dict()
    x = images
    for number in (0, 2):
        weight, bias = state[f"layers.{number}.weight"], state[f"layers.{number}.bias"]
        x = nn.functional.conv2d(x, weight, bias, stride=2, padding=1)
        x = torch.where(x > 0, x, 0.2 * x)
    x = torch.einsum("nihw,oihw->no", x, state["layers.4.weight"]) + state["layers.4.bias"]
    torch.testing.assert_close(discriminator(images).detach(), x, atol=1e-12, rtol=1e-12)
