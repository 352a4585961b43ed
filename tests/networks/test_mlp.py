"""The fully connected networks: sizes, counts, labels, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import mlp_discriminator, mlp_generator
from torch import nn

from gantrain.errors import ConfigError

NORMS = ["batch", "none", "spectral"]


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def widths(network: nn.Module) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in network.layers if isinstance(layer, nn.Linear)]


def without_gradient(network: nn.Module, *inputs: Any) -> list[str]:
    output = network(*inputs)
    (output * torch.randn_like(output)).sum().backward()
    return [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 16), (3, 5, 9)])
@pytest.mark.parametrize("layers", [1, 3])
def test_both_networks_fit_any_shape_and_train_every_weight(
    shape: tuple[int, int, int], norm: str, layers: int
) -> None:
    torch.manual_seed(0)
    keys = {"shape": shape, "norm": norm, "num_layers": layers}
    generator, discriminator = mlp_generator(**keys), mlp_discriminator(num_outputs=4, **keys)
    images = generator(torch.randn(4, 3))
    assert images.shape == (4, *shape)
    assert images.abs().max() <= 1
    assert discriminator(images.detach()).shape == (4, 4)
    assert without_gradient(generator, torch.randn(4, 3)) == []
    assert without_gradient(discriminator, torch.randn(4, *shape)) == []


def test_layers_double_toward_the_image_and_halve_away_from_it() -> None:
    keys = {"shape": (1, 4, 4), "hidden": 5, "num_layers": 3}
    assert widths(mlp_generator(**keys)) == [(3, 5), (5, 10), (10, 20), (20, 16)]
    assert widths(mlp_discriminator(**keys)) == [(16, 20), (20, 10), (10, 5), (5, 1)]
    assert widths(mlp_generator(doubling=False, **keys)) == [(3, 5), (5, 5), (5, 5), (5, 16)]
    assert widths(mlp_discriminator(doubling=False, **keys)) == [(16, 5), (5, 5), (5, 5), (5, 1)]


def test_parameter_counts_are_those_of_the_layers() -> None:
    keys = {"shape": (1, 28, 28), "hidden": 64, "num_layers": 2}
    # (100 + 1) 64 + (64 + 1) 128 + (128 + 1) 784
    assert parameters_of(mlp_generator(latent_dim=100, **keys)) == 6464 + 8320 + 101_136
    # (784 + 1) 128 + (128 + 1) 64 + (64 + 1)
    assert parameters_of(mlp_discriminator(**keys)) == 100_480 + 8256 + 65
    # 100 * 64 + 2 * 64 + 64 * 128 + 2 * 128 + (128 + 1) 784: scales and shifts in place of biases
    assert parameters_of(mlp_generator(latent_dim=100, norm="batch", **keys)) == 6528 + 8448 + 101_136


def test_both_networks_compute_their_formula() -> None:
    torch.manual_seed(0)
    generator, discriminator = mlp_generator().double(), mlp_discriminator().double()
    latent = torch.randn(4, 3, dtype=torch.float64)

    def two_layers(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        state = network.state_dict()
        x = x @ state["layers.0.weight"].T + state["layers.0.bias"]
        return torch.where(x > 0, x, 0.2 * x) @ state["layers.2.weight"].T + state["layers.2.bias"]

    images = generator(latent).detach()
    torch.testing.assert_close(images, two_layers(generator, latent).tanh().view(4, 1, 4, 4))
    torch.testing.assert_close(discriminator(images).detach(), two_layers(discriminator, images.flatten(1)))


def test_labels_change_the_outputs_of_both_networks() -> None:
    torch.manual_seed(0)
    generator, discriminator = mlp_generator(num_classes=3), mlp_discriminator(num_classes=3)
    labels = torch.tensor([0, 1, 2, 0])
    latent = torch.randn(1, 3).repeat(4, 1)
    images = generator(latent, labels)
    logits = discriminator(images[:1].repeat(4, 1, 1, 1), labels)
    for made in (images, logits):
        torch.testing.assert_close(made[3], made[0])
        assert not torch.allclose(made[1], made[0])
        assert not torch.allclose(made[2], made[1])
    assert without_gradient(generator, latent, labels) == []
    assert without_gradient(discriminator, images.detach(), labels) == []


def test_dropout_follows_every_activation_and_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    for network, given in (
        (mlp_generator(dropout=0.5, num_layers=2), torch.randn(8, 3)),
        (mlp_discriminator(dropout=0.5, num_layers=2), torch.randn(8, 1, 4, 4)),
    ):
        assert sum(isinstance(layer, nn.Dropout) for layer in network.layers) == 2
        assert not torch.equal(network(given), network(given))
        network.eval()
        assert torch.equal(network(given), network(given))
    assert not any(isinstance(layer, nn.Dropout) for layer in mlp_generator(dropout=0.0).layers)


@pytest.mark.parametrize("make", [mlp_generator, mlp_discriminator])
def test_instance_norm_is_refused_with_the_supported_norms(make: Any) -> None:
    with pytest.raises(ConfigError, match="norm=instance .*; use batch, sync_batch, none or spectral$"):
        make(norm="instance")
