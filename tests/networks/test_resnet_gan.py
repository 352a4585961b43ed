"""The residual networks of SNGAN: layers, formulas, labels, attention, spectral norm."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from network_checks import normalised
from resnet_gan_by_hand import State, assert_same_with_gradients, attended, class_norm, conv, halved, shaken, twice
from tiny import CPU, resnet_gan_discriminator, resnet_gan_generator
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gantrain.errors import ConfigError
from gantrain.networks.common import is_spectral, set_precision
from gantrain.networks.resnet_gan import ClassNorm, SelfAttention

SIZES = [32, 48, 64, 128]
NORMS = ["batch", "instance", "none", "spectral"]


# ---- layers


def shapes(network: nn.Module, *kinds: type[nn.Module]) -> list[tuple[int, ...]]:
    return [tuple(each.weight.shape[:2]) for each in network.modules() if isinstance(each, kinds)]


def test_the_channels_are_those_of_the_authors_code() -> None:
    """Pairs of outputs and inputs of the 3 x 3 convolutions and shortcuts, read off pfnet-research/sngan_projection."""
    generators = {
        32: [256, 256, 256, 256],
        64: [1024, 512, 256, 128, 64],
        128: [1024, 1024, 512, 256, 128, 64],
    }
    discriminators = {
        32: [(3, 128), (128, 128), (128, 128), (128, 128)],
        64: [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024)],
        128: [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 1024)],
    }
    with torch.device("meta"):
        for side, channels in generators.items():
            network = resnet_gan_generator(shape=(3, side, side), width=64, latent_dim=128)
            assert shapes(network, nn.Linear) == [(channels[0] * 16, 128)]
            pairs = zip(channels[:-1], channels[1:], strict=True)
            blocks = [pair for inner, outer in pairs for pair in ((outer, inner), (outer, outer), (outer, inner))]
            assert shapes(network, nn.Conv2d) == [*blocks, (3, channels[-1])]
        for side, pairs in discriminators.items():
            network = resnet_gan_discriminator(shape=(3, side, side), width=64, norm="none")
            expected = []
            for number, (inner, outer) in enumerate(pairs):
                hidden = outer if number == 0 else inner
                halves = number < {32: 2, 64: 5, 128: 5}[side]
                expected += [(hidden, inner), (outer, hidden), *([(outer, inner)] if halves else [])]
            assert shapes(network, nn.Conv2d) == expected
            assert shapes(network, nn.Linear) == [(1, pairs[-1][1])]


def test_the_channels_for_48_pixels_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        generator = resnet_gan_generator(shape=(3, 48, 48), width=64, latent_dim=128)
        discriminator = resnet_gan_discriminator(shape=(3, 48, 48), width=64, norm="none")
    assert shapes(generator, nn.Linear) == [(6 * 6 * 512, 128)]
    assert [block.conv2.out_channels for block in generator.blocks] == [256, 128, 64]
    blocks = list(discriminator.blocks)[:-1]
    assert [block.residual[-1].out_channels for block in blocks] == [64, 128, 256, 512, 1024]
    assert [isinstance(block.halve, nn.AvgPool2d) for block in blocks] == [True] * 4 + [False]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_and_norm_fits_and_trains_every_weight(size: int, norm: str) -> None:
    torch.manual_seed(0)
    keys = {"shape": (3, size, size), "norm": norm, "num_classes": 3, "attention": [16 if size != 48 else 24]}
    networks = shaken(resnet_gan_generator(**keys)), shaken(resnet_gan_discriminator(**keys))
    labels = torch.tensor([0, 1, 2])
    images = networks[0](torch.randn(3, 3).double(), labels)
    assert images.shape == (3, 3, size, size)
    assert images.abs().max() <= 1
    logits = networks[1](images, labels)
    assert logits.shape == (3, 1)
    (logits * torch.randn_like(logits)).sum().backward()
    for network in networks:
        assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(("height", "width"), [(28, 28), (16, 16), (32, 64), (256, 256), (96, 96)])
def test_an_unsupported_size_is_refused_with_the_supported_ones(height: int, width: int) -> None:
    text = rf"^the network 'resnet_gan' takes square images of 32, 48, 64 or 128 pixels, not {height} x {width}: "
    for make in (resnet_gan_generator, resnet_gan_discriminator):
        with pytest.raises(ConfigError, match=text + r"set data\.load_size .*"):
            make(shape=(3, height, width))


# ---- formulas


def test_the_generator_computes_its_formula() -> None:
    """A conditional generator of 32 pixels with attention, written out."""
    torch.manual_seed(0)
    network = shaken(resnet_gan_generator(num_classes=3, attention=[8], width=1))
    latent, labels = torch.randn(4, 3).double(), torch.tensor([2, 0, 0, 1])

    def formula(state: State) -> Tensor:
        x = (latent @ state["linear.weight"].T + state["linear.bias"]).view(4, 4, 4, 4)
        for number in range(3):
            block = f"blocks.{number}"
            y = conv(twice(class_norm(x, labels, state, f"{block}.norm1").relu()), state, f"{block}.conv1")
            y = conv(class_norm(y, labels, state, f"{block}.norm2").relu(), state, f"{block}.conv2")
            x = y + conv(twice(x), state, f"{block}.shortcut")
            x = attended(x, state, f"{block}.attention.") if number == 0 else x
        return conv(normalised(x, "batch", state, "output.0").relu(), state, "output.2").tanh()

    assert_same_with_gradients(network, formula, latent, labels)


@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
@pytest.mark.parametrize("head", ["projection", "linear"])
def test_the_discriminator_computes_its_formula(head: str, norm: str) -> None:
    """A conditional discriminator of 32 pixels with attention, written out."""
    torch.manual_seed(0)
    network = shaken(resnet_gan_discriminator(num_classes=3, attention=[8], width=2, head=head, norm=norm))
    image, labels = torch.randn(4, 3, 32, 32).double(), torch.tensor([2, 0, 0, 1])

    def norm_of(x: Tensor, state: State, key: str) -> Tensor:
        if norm == "none":
            return x
        gain, bias = (state[f"{key}.{name}"][:, None, None] for name in ("weight", "bias"))
        return (
            normalised(x, "instance", {}, "") * gain + bias if norm == "instance" else normalised(x, norm, state, key)
        )

    def formula(state: State) -> Tensor:
        x = image
        if head == "linear":
            x = torch.cat([x, torch.stack([state["label.weight"][label].view(1, 32, 32) for label in labels])], dim=1)
        y = conv(conv(x, state, "blocks.0.residual.0").relu(), state, "blocks.0.residual.2")
        x = halved(y) + conv(halved(x), state, "blocks.0.shortcut")
        shift = 0 if norm == "none" else 1
        for number in (1, 2, 3):
            key = f"blocks.{number}.residual"
            y = norm_of(x, state, f"{key}.0").relu()
            y = norm_of(conv(y, state, f"{key}.{1 + shift}"), state, f"{key}.{2 + shift}").relu()
            y = conv(y, state, f"{key}.{3 + 2 * shift}")
            x = halved(y) + halved(conv(x, state, "blocks.1.shortcut")) if number == 1 else y + x
            x = attended(x, state, "blocks.1.attention.") if number == 1 else x
        sums = [sum(x[n, :, i, j].relu() for i in range(8) for j in range(8)) for n in range(4)]
        logits = [state["linear.weight"][0] @ each + state["linear.bias"][0] for each in sums]
        if head == "projection":
            vectors = [state["projection.weight"][:, label] for label in labels]
            logits = [logit + vector @ each for logit, vector, each in zip(logits, vectors, sums, strict=True)]
        return torch.stack(logits)[:, None]

    assert_same_with_gradients(network, formula, image, labels)


@pytest.mark.parametrize("channels", [2, 16])
def test_attention_computes_its_formula(channels: int) -> None:
    torch.manual_seed(0)
    network = shaken(SelfAttention(channels))
    x = torch.randn(2, channels, 6, 5).double()
    assert_same_with_gradients(network, lambda state: attended(x, state), x)
    assert network.query.out_channels == max(1, channels // 8)
    assert network.value.out_channels == channels // 2


def test_attention_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(SelfAttention(8)(x), x)


@pytest.mark.parametrize("norm", NORMS)
def test_a_class_norm_starts_as_the_norm_and_has_a_gain_for_each_class(norm: Any) -> None:
    torch.manual_seed(0)
    x, labels = torch.randn(5, 2, 4, 4).double(), torch.tensor([1, 0, 2, 1, 0])
    layer = ClassNorm(norm, 2, 3).double()
    start = {"n.weight": torch.ones(2), "n.bias": torch.zeros(2)}
    plain = normalised(x, norm, start, "n") if norm in ("batch", "instance") else x
    torch.testing.assert_close(layer(x, labels), plain)
    with torch.no_grad():
        layer.gain.weight[1], layer.bias.weight[1] = torch.tensor([3.0, 4.0]), torch.tensor([5.0, 6.0])
    found = layer(x, labels)
    for number, label in enumerate(labels.tolist()):
        gain, bias = ([3.0, 4.0], [5.0, 6.0]) if label == 1 else ([1.0, 1.0], [0.0, 0.0])
        for channel in range(2):
            torch.testing.assert_close(found[number, channel], plain[number, channel] * gain[channel] + bias[channel])


# ---- options


def test_labels_change_the_outputs_of_both_networks() -> None:
    torch.manual_seed(0)
    for norm in ("none", "batch"):
        generator = shaken(resnet_gan_generator(num_classes=3, norm=norm)).eval()
        latent, labels = torch.randn(1, 3).double().repeat(4, 1), torch.tensor([0, 1, 2, 0])
        images = generator(latent, labels)
        for head in ("projection", "linear"):
            discriminator = shaken(resnet_gan_discriminator(num_classes=3, head=head)).eval()
            logits = discriminator(images[:1].repeat(4, 1, 1, 1), labels)
            for made in (images, logits):
                torch.testing.assert_close(made[3], made[0])
                assert not torch.allclose(made[1], made[0])
                assert not torch.allclose(made[2], made[1])


def test_spectral_norm_is_beside_the_norm_in_every_layer() -> None:
    torch.manual_seed(0)
    generator = resnet_gan_generator(spectral=True, attention=[16], num_classes=3)
    discriminator = resnet_gan_discriminator(norm="spectral", attention=[16], num_classes=3)
    assert any(isinstance(each, nn.BatchNorm2d) for each in generator.modules())
    for network in (generator, discriminator):
        assert is_spectral(network)
        layers = [each for each in network.modules() if is_parametrized(each, "weight")]
        assert {"query", "key", "value", "output"} <= {name.split(".")[-1] for name, _ in network.named_modules()}
        for _ in range(60):
            values = [torch.linalg.svdvals(layer.weight.flatten(1))[0] for layer in layers]
        torch.testing.assert_close(torch.stack(values), torch.ones(len(values)), atol=1e-3, rtol=0)
    assert any(layer is discriminator.projection for layer in layers)
    assert not is_spectral(resnet_gan_generator())


def test_attention_adds_only_its_own_weights() -> None:
    for make in (resnet_gan_generator, resnet_gan_discriminator):
        without, with_it = make(), make(attention=[8, 16])
        added = {name: value for name, value in with_it.state_dict().items() if name not in without.state_dict()}
        assert with_it.state_dict().keys() >= without.state_dict().keys()
        assert len(added) == 10
        assert all(".attention." in name for name in added)
        assert sum(isinstance(each, SelfAttention) for each in with_it.modules()) == 2


@pytest.mark.parametrize("attention", [[32], [4], [8, 8], [7]], ids=str)
def test_attention_at_sides_that_do_not_exist_is_refused(attention: list[int]) -> None:
    for make, side, sides in (
        (resnet_gan_generator, "generator", "8, 16, 32"),
        (resnet_gan_discriminator, "discriminator", "8, 16"),
    ):
        if attention == [32] and side == "generator":
            continue
        with pytest.raises(ConfigError) as error:
            make(attention=attention)
        message = str(error.value)
        assert message.startswith(f"network.{side}.attention={attention}: for images of 32 x 32 pixels, ")
        assert f" the sides {sides}: " in message


def test_keys_without_effect_are_named() -> None:
    assert resnet_gan_generator(norm="spectral").without_effect.keys() == {"spectral"}
    assert resnet_gan_generator().without_effect == {}
    assert resnet_gan_discriminator().without_effect.keys() == {"head"}
    assert resnet_gan_discriminator(num_classes=3).without_effect == {}


@pytest.mark.parametrize("channels", [1, 4])
def test_images_may_have_any_number_of_channels(channels: int) -> None:
    images = resnet_gan_generator(shape=(channels, 32, 32))(torch.randn(2, 3))
    assert images.shape == (2, channels, 32, 32)
    assert resnet_gan_discriminator(shape=(channels, 32, 32), num_outputs=7)(images).shape == (2, 7)


def test_half_precision_is_close_and_trains_every_weight() -> None:
    torch.manual_seed(0)
    keys: dict[str, Any] = {"num_classes": 3, "attention": [16]}
    networks = resnet_gan_generator(**keys, spectral=True), resnet_gan_discriminator(**keys, norm="spectral")
    labels = torch.tensor([0, 1, 2, 1])
    for network, x in zip(networks, (torch.randn(4, 3), torch.randn(4, 3, 32, 32)), strict=True):
        shaken(network).float()
        expected = copy.deepcopy(network)(x, labels)
        set_precision(network, device=CPU, autocast=torch.bfloat16, compiled=False)
        output = network(x, labels)
        assert output.dtype == torch.float32
        assert 0 < (output - expected).abs().mean() < 0.02 * expected.abs().mean()
        output.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
