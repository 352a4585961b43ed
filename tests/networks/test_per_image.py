"""Networks in training mode, applied to each image separately."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from conftest import assert_same_bits
from tiny import resnet, unet
from torch import Tensor, nn

from gantrain.networks.common import set_precision
from gantrain.networks.per_image import as_in_training

TRANSLATORS = [resnet, unet]


def images(count: int, channels: int = 2, side: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, channels, side, side, dtype=torch.float64, generator=generator) * 2 - 1


def translator(make=unet, *, norm: str = "batch", dropout: float = 0.5) -> nn.Module:
    """A network whose running statistics and affine weights are far from those of a new one.

    Of 64 pixels, so that the U-Net has dropout: it halves six times, and drops after the fifth.
    """
    torch.manual_seed(0)
    network = make(input_shape=(2, 64, 64), shape=(1, 64, 64), norm=norm, dropout=dropout).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                values.data.uniform_(0.5, 1.5)
    return network


def alone(network: nn.Module, image: Tensor, seeds: list[int]) -> Tensor:
    with torch.no_grad(), as_in_training(network, seeds):
        return network(image)


@pytest.mark.parametrize("make", TRANSLATORS)
@pytest.mark.parametrize("norm", ["batch", "instance", "none", "spectral"])
def test_a_batch_gives_the_same_results_as_its_images_one_by_one(make, norm: str) -> None:
    network, batch, seeds = translator(make, norm=norm), images(5), [3, 1, 4, 1, 5]
    together = alone(network, batch, seeds)
    singly = torch.cat([alone(network, batch[i : i + 1], seeds[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, singly, atol=1e-12, rtol=0)
    torch.testing.assert_close(alone(network, batch.flip(0), seeds[::-1]), together.flip(0), atol=1e-12, rtol=0)


@pytest.mark.parametrize("make", TRANSLATORS)
def test_without_dropout_it_equals_training_mode_on_a_batch_of_one(make) -> None:
    network, batch = translator(make, dropout=0.0), images(3)
    singly = torch.cat([deepcopy(network).train()(image[None]) for image in batch])
    torch.testing.assert_close(alone(network, batch, [0, 0, 0]), singly.detach(), atol=1e-12, rtol=0)
    assert not torch.allclose(network.eval()(batch), singly)  # With running statistics.
    assert not torch.allclose(deepcopy(network).train()(batch), singly)  # With statistics of the batch.


def test_a_fraction_of_features_is_dropped_and_the_others_are_scaled_up() -> None:
    dropout = nn.Sequential(nn.Dropout(0.3))
    found = alone(dropout, torch.ones(4, 5, 100, 100), [1, 2, 3, 4])
    torch.testing.assert_close(found.unique(), torch.tensor([0.0, 1 / 0.7]))
    # standard error of the fraction of 50,000: 0.002
    torch.testing.assert_close(
        (found == 0).double().mean(dim=(1, 2, 3)), torch.full((4,), 0.3).double(), atol=0.01, rtol=0
    )
    remaining = (found > 0).flatten(1).double()
    # Two independent masks agree in 0.49 + 0.09 of all places.
    assert abs((remaining[0] == remaining[1]).double().mean() - 0.58) < 0.015


def test_every_dropout_layer_and_every_pass_draws_different_masks() -> None:
    two = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    # Two different masks leave a quarter; equal masks would leave half.
    share = (alone(two, torch.ones(1, 1, 200, 200), [1]) > 0).double().mean()
    assert abs(share - 0.25) < 0.015
    with as_in_training(two, [1]):
        first, second = two(torch.ones(1, 1, 20, 20)), two(torch.ones(1, 1, 20, 20))
    assert not torch.equal(first, second)
    assert torch.equal(alone(two, torch.ones(1, 1, 20, 20), [1]), first)


def test_dropout_depends_only_on_the_seed() -> None:
    network, batch = translator(), images(2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = alone(network, batch, [8, 9])
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(alone(network, batch, [8, 9]), first)
    other = alone(network, batch, [8, 7])
    torch.testing.assert_close(other[0], first[0], atol=1e-12, rtol=0)
    assert not torch.allclose(other[1], first[1], atol=0.01)
    # One seed gives one mask, so a lower precision gives nearly the same image.
    torch.testing.assert_close(alone(network.float(), batch.float(), [8, 9]).double(), first, atol=1e-3, rtol=0)


@pytest.mark.parametrize("norm", ["batch", "instance", "spectral"])
@pytest.mark.parametrize("training", [True, False])
def test_the_networks_mode_has_no_effect_and_its_state_does_not_change(training: bool, norm: str) -> None:
    network, batch = translator(norm=norm), images(3)
    expected = alone(deepcopy(network).eval(), batch, [1, 2, 3])
    network.train(training)
    network.model.model[1].eval()  # Some layers may be in another mode than the rest.
    modes = [module.training for module in network.modules()]
    state = deepcopy(dict(network.state_dict()))
    assert torch.equal(alone(network, batch, [1, 2, 3]), expected)
    assert_same_bits(dict(network.state_dict()), state)
    assert [module.training for module in network.modules()] == modes


@pytest.mark.parametrize("fails", [False, True])
def test_every_layer_is_restored_even_after_an_error(fails: bool) -> None:
    network, batch = translator(), images(2)
    expected = deepcopy(network).eval()(batch)
    if fails:
        with pytest.raises(RuntimeError), as_in_training(network, [1, 2]):
            network(images(2, channels=3))
    else:
        alone(network, batch, [1, 2])
    assert not any("forward" in vars(module) for module in network.modules())
    assert torch.equal(network.eval()(batch), expected)
    assert network.train()(batch).shape == expected.shape


def test_gradients_are_those_of_training_mode() -> None:
    network, image = translator(dropout=0.0), images(1)
    in_training = deepcopy(network).train()
    in_training(image).sum().backward()
    with as_in_training(network, [1]):
        network(image).sum().backward()
    for (name, ours), expected in zip(network.named_parameters(), in_training.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, msg=name)


def test_the_precision_of_layers_is_restored() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Dropout(0.5))
    set_precision(network, device=torch.device("cpu"), autocast=torch.bfloat16, compiled=False)
    before = [layer.forward for layer in network]
    with as_in_training(network, [0]):
        assert [layer.forward for layer in network] != before
    assert [layer.forward for layer in network] == before
