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


@pytest.mark.parametrize(("height", "width"), [(28, 28), (8, 8), (512, 512), (64, 32), (48, 48), (4, 4)])
def test_an_unsupported_size_is_refused_with_the_supported_ones(height: int, width: int) -> None:
    text = rf"^the network 'dcgan' takes square images of 16, 32, 64, 128 or 256 pixels, not {height} x {width}: "
    for make in (dcgan_generator, dcgan_discriminator):
        with pytest.raises(ConfigError, match=text + r"set data\.load_size .*"):
            make(shape=(3, height, width))


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
