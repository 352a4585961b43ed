"""The precision that networks compute in, their memory layout, and what is compiled."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from makers import MAKERS, inputs_of
from tiny import CPU, dcgan_discriminator, dcgan_generator, mlp_discriminator
from torch import Tensor, nn

from gantrain.models.losses.adversarial import gradient_penalty
from gantrain.networks.common import full_precision, set_precision


@pytest.mark.parametrize("make", MAKERS)
def test_under_bfloat16_the_output_is_float32_and_close(make: Any) -> None:
    torch.manual_seed(0)
    network = make(init="default")
    x = inputs_of(network)
    expected = network(x)
    set_precision(network, device=CPU, autocast=torch.bfloat16, compiled=False)
    output = network(x)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, expected, atol=0.05, rtol=0)
    assert not torch.equal(output, expected)  # It did compute in lower precision.
    assert not torch.is_autocast_enabled("cpu")


class Recorder(nn.Linear):
    """Records the types that it computes in."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.types: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Tensor:
        outputs = super().forward(x)
        self.types.append(outputs.dtype)
        return outputs


class Trunk(nn.Module):
    """A discriminator with a layer and a method for its features."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(Recorder(3, 4), nn.ReLU())
        self.head = Recorder(4, 1)

    def forward(self, x: Tensor, *, pair: bool = False) -> Any:
        features = self.embed(x)
        return [features, (self.head(features), len(x))] if pair else self.head(features)

    def embed(self, x: Tensor) -> Tensor:
        return self.features(x)


def test_a_layer_called_directly_computes_in_the_same_precision() -> None:
    network = Trunk()
    set_precision(network, device=CPU, autocast=torch.bfloat16, compiled=False)
    x = torch.randn(2, 3)
    network(x)
    for call in (network.features, network.embed, lambda x: network.features[0](x)):
        network.features[0].types.clear()
        assert call(x).dtype == torch.float32
        assert network.features[0].types == [torch.bfloat16]
        with full_precision():
            call(x)
        assert network.features[0].types == [torch.bfloat16, torch.float32]
    assert network.head(network.features(x)).dtype == torch.float32
    assert set(network.head.types) == {torch.bfloat16}


def test_features_and_logits_together_are_float32() -> None:
    network = Trunk()
    set_precision(network, device=CPU, autocast=torch.bfloat16, compiled=False)
    features, (logits, count) = network(torch.randn(2, 3), pair=True)
    assert features.dtype == logits.dtype == torch.float32
    assert count == 2


@pytest.mark.slow
def test_a_layer_of_a_compiled_network_keeps_the_precision() -> None:
    torch.manual_seed(0)
    network = Trunk()
    fast = copy.deepcopy(network)
    set_precision(network, device=CPU, autocast=torch.bfloat16, compiled=False)
    set_precision(fast, device=CPU, autocast=torch.bfloat16, compiled=True)
    x = torch.randn(2, 3)
    torch.testing.assert_close(fast(x), network(x))
    torch.testing.assert_close(fast.features(x), network.features(x))
    assert fast.features[0].types[-1] == torch.bfloat16


def test_a_spectral_norm_is_computed_in_the_type_of_the_weights() -> None:
    torch.manual_seed(0)
    network = mlp_discriminator(norm="spectral").eval()
    before = network.layers[0].weight
    set_precision(network, device=CPU, autocast=torch.bfloat16, compiled=False)
    assert torch.equal(network.layers[0].weight, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_suspends_autocast_even_after_an_error(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = mlp_discriminator().to(dtype)
    x = inputs_of(network)
    expected = network(x)
    set_precision(network, device=CPU, autocast=torch.bfloat16, compiled=False)
    with full_precision():
        assert network(x).dtype == dtype
        assert torch.equal(network(x), expected)
        with full_precision():
            pass
        assert torch.equal(network(x), expected)
    with pytest.raises(KeyError, match="inside"), full_precision():
        raise KeyError("inside")
    assert not torch.equal(network(x).to(dtype), expected)


def test_a_penalty_of_an_autocast_critic_is_that_of_the_plain_one() -> None:
    torch.manual_seed(0)
    critic = mlp_discriminator()
    real, fake = inputs_of(critic, 8).chunk(2)
    mix = torch.tensor([0.1, 0.4, 0.6, 0.9])
    expected = gradient_penalty(critic, real, fake, mix)
    set_precision(critic, device=CPU, autocast=torch.bfloat16, compiled=False)
    with full_precision():
        assert torch.equal(gradient_penalty(critic, real, fake, mix), expected)
    assert not torch.equal(gradient_penalty(critic, real, fake, mix), expected)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", MAKERS)
def test_the_keys_of_the_state_dict_do_not_change(make: Any, compiled: bool) -> None:
    network = make()
    before = copy.deepcopy(network.state_dict())
    set_precision(network, device=CPU, autocast=torch.bfloat16, compiled=compiled)
    torch.testing.assert_close(network.state_dict(), before, atol=0, rtol=0)


def test_gradients_of_an_autocast_network_are_float32() -> None:
    torch.manual_seed(0)
    network = dcgan_discriminator()
    set_precision(network, device=CPU, autocast=torch.bfloat16, compiled=False)
    network(inputs_of(network)).sum().backward()
    assert {p.grad.dtype for p in network.parameters() if p.grad is not None} == {torch.float32}


def outputs_and_gradients(network: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    output = network(x)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return output.detach(), list(torch.autograd.grad((output * weight).sum(), list(network.parameters())))


@pytest.mark.parametrize("norm", ["batch", "instance", "none", "spectral"])
@pytest.mark.parametrize("make", [dcgan_generator, dcgan_discriminator])
def test_channels_last_computes_the_same(make: Any, norm: str) -> None:
    torch.manual_seed(0)
    plain = make(norm=norm, init="default").double()
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    assert any(p.is_contiguous(memory_format=torch.channels_last) for p in last.parameters() if p.ndim == 4)
    x = inputs_of(plain)
    moved = x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
    torch.testing.assert_close(
        outputs_and_gradients(last, moved), outputs_and_gradients(plain, x), atol=1e-10, rtol=1e-10
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS)
def test_compiled_networks_compute_the_same(make: Any) -> None:
    torch.manual_seed(0)
    plain = make(init="default").double()
    fast = copy.deepcopy(plain)
    set_precision(fast, device=CPU, autocast=None, compiled=True)
    x = inputs_of(plain)
    expected = outputs_and_gradients(plain, x)
    torch.testing.assert_close(outputs_and_gradients(fast, x), expected, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(fast.state_dict(), plain.state_dict(), atol=1e-10, rtol=1e-10)


@pytest.mark.slow
def test_a_gradient_penalty_works_beside_a_compiled_critic() -> None:
    torch.manual_seed(0)
    plain = dcgan_discriminator(norm="none", init="default").double()
    fast = copy.deepcopy(plain)
    set_precision(fast, device=CPU, autocast=None, compiled=True)
    real, fake = inputs_of(plain, 8).chunk(2)
    mix = torch.tensor([0.1, 0.4, 0.6, 0.9])
    slopes = []
    for critic in (plain, fast):
        loss = critic(fake).mean() - critic(real).mean()
        with full_precision():
            loss = loss + 10 * gradient_penalty(critic, real, fake, mix)
        slopes.append(torch.autograd.grad(loss, list(critic.parameters())))
    torch.testing.assert_close(slopes[1], slopes[0], atol=1e-10, rtol=1e-10)
