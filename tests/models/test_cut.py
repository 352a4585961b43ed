"""CUT and FastCUT, compared with their step written out layer by layer."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_same_bits
from tiny import (
    CPU,
    AdamByHand,
    Counted,
    Watched,
    adam_updates,
    build_translator,
    patchgan,
    play,
    resnet,
    translation_batches,
    unet,
)
from torch import Tensor, nn

from gantrain.data.base import ImageSpec
from gantrain.errors import ConfigError
from gantrain.networks.common import set_precision
from gantrain.runtime.seeding import StepRandom, derive_seed

SMOOTH = {"generator": partial(resnet, antialias=True), "discriminator": partial(patchgan, antialias=True)}
MODES: dict[str, dict[str, Any]] = {
    "cut": {"nce_idt": True, "flip_equivariance": False, "lambda_nce": 1.0},
    "fastcut": {"nce_idt": False, "flip_equivariance": True, "lambda_nce": 10.0},
    "both": {"nce_idt": True, "flip_equivariance": True, "lambda_nce": 2.0},
}
LAYERS = {True: [0, 4, 8, 12], False: [0, 4, 8]}  # With and without filters, of a generator with one block.
STEPS = range(5, 9)  # With the seed of ``adam_updates``, some are mirrored and some are not.


# ---- the networks, layer by layer


def normal(x: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) / ((x - mean).square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


def halved(x: Tensor) -> Tensor:
    weights = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype) / 4
    x = F.pad(x, [1] * 4, "reflect").unfold(2, 3, 2).unfold(3, 3, 2)
    return torch.einsum("nchwij,i,j->nchw", x, weights, weights)


def doubled(x: Tensor) -> Tensor:
    for axis in (2, 3):
        size = x.size(axis)
        before = x.index_select(axis, torch.arange(-1, size - 1).clamp(min=0))
        after = x.index_select(axis, torch.arange(1, size + 1).clamp(max=size - 1))
        halves = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = halves.flatten(axis, axis + 1)
    return x


def layers_of(generator: nn.Module, x: Tensor, *, smooth: bool) -> list[Tensor]:
    """The outputs of all layers of a generator with one block, none of them changed later."""
    at = dict(generator.named_parameters())

    def convolved(x: Tensor, key: str, **how: Any) -> Tensor:
        return F.conv2d(x, at[f"{key}.weight"], at[f"{key}.bias"], **how)

    found: list[Tensor] = []

    def add(x: Tensor) -> Tensor:
        found.append(x)
        return x

    x = add(F.pad(x, [3] * 4, "reflect"))
    x = add(add(normal(add(convolved(x, "model.1")))).relu())
    for _ in range(2):
        x = add(convolved(x, f"model.{len(found)}", padding=1, stride=1 if smooth else 2))
        x = add(add(normal(x)).relu())
        x = add(halved(x)) if smooth else x
    block = f"model.{len(found)}.conv_block"
    inner = normal(convolved(F.pad(x, [1] * 4, "reflect"), f"{block}.1")).relu()
    x = add(x + normal(convolved(F.pad(inner, [1] * 4, "reflect"), f"{block}.5")))
    for _ in range(2):
        if smooth:
            x = add(doubled(x))
            x = add(convolved(x, f"model.{len(found)}", padding=1))
        else:
            key = f"model.{len(found)}"
            x = add(F.conv_transpose2d(x, at[f"{key}.weight"], at[f"{key}.bias"], 2, 1, output_padding=1))
        x = add(add(normal(x)).relu())
    x = add(F.pad(x, [3] * 4, "reflect"))
    add(add(convolved(x, f"model.{len(found)}")).tanh())
    return found


def features_of(generator: nn.Module, x: Tensor, *, smooth: bool) -> list[Tensor]:
    """What the authors' code compares: an activation changes the norm before it, if it is computed at all."""
    layers, last = layers_of(generator, x, smooth=smooth), LAYERS[smooth][-1]
    norms = {2, 5, 9} if smooth else {2, 5, 8}
    return [layers[n + 1] if n in norms and n < last else layers[n] for n in LAYERS[smooth]]


def logits_of(discriminator: nn.Module, x: Tensor, *, smooth: bool) -> Tensor:
    at = dict(discriminator.named_parameters())
    numbers = [0, 3, 7, 10] if smooth else [0, 2, 5, 8]
    for place, number in enumerate(numbers):
        stride = 2 if place < 2 and not smooth else 1
        x = F.conv2d(x, at[f"model.{number}.weight"], at[f"model.{number}.bias"], stride, 1)
        if place == 3:
            return x
        x = F.leaky_relu(normal(x) if place else x, 0.2)
        x = halved(x) if smooth and place < 2 else x
    raise AssertionError


# ---- the step


def play_by_hand(model: Any, batches: Any, *, smooth: bool) -> tuple[list[dict[str, float]], list[bool]]:
    """The algorithm of the authors' code; the networks are changed. Returns the losses, and the steps mirrored."""
    g, head, d = model.generator, model.head, model.discriminator
    of_g, of_d = AdamByHand([*g.parameters(), *head.parameters()]), AdamByHand(d.parameters())
    logged, mirrored = [], []

    def vector(number: int, patch: Tensor) -> Tensor:
        first, one, second, two = head.get_submodule(f"mlp_{number}").parameters()
        x = second @ (first @ patch + one).relu() + two
        return x / (x.square().sum().sqrt() + 1e-7)

    def contrast(source: Tensor, target: Tensor, flip: bool, draws: torch.Generator) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        queries, keys = (features_of(g, images, smooth=smooth) for images in (target, source))
        for number, (query, key) in enumerate(zip(queries, keys, strict=True)):
            query = query.flip(3) if flip else query
            height, width = key.shape[2:]
            chosen = torch.randperm(height * width, generator=draws)[: model.num_patches].tolist()
            assert len(chosen) == min(model.num_patches, height * width)
            for image in range(len(source)):
                q = torch.stack([vector(number, query[image, :, p // width, p % width]) for p in chosen])
                k = torch.stack([vector(number, key[image, :, p // width, p % width]) for p in chosen]).detach()
                similar = q @ k.T / 0.07
                others = similar.masked_fill(torch.eye(len(chosen), dtype=torch.bool), -10 / 0.07)
                right = similar.diagonal()
                odds = torch.cat([right[:, None], others], 1).logsumexp(1)
                total = total + model.lambda_nce * (odds - right).mean() / len(source) / len(keys)
        return total

    for step in STEPS:
        batch = next(batches)
        a, b = batch["a"], batch["b"]
        draws = torch.Generator().manual_seed(derive_seed(7, "draws", step))
        flip = model.flip_equivariance and torch.rand((), generator=draws).item() < 0.5
        given = torch.cat([a, b]).flip(3) if flip else torch.cat([a, b])
        made = layers_of(g, given, smooth=smooth)[-1]
        fake, identity = made[: len(a)], made[len(a) :]
        d_fake = logits_of(d, fake.detach(), smooth=smooth).square().mean()
        d_real = (logits_of(d, b, smooth=smooth) - 1).square().mean()
        of_d.step((d_fake + d_real) * 0.5)
        terms = {
            "g_gan": (logits_of(d, fake, smooth=smooth) - 1).square().mean(),
            "nce": contrast(a, fake, flip, draws),
        }
        if model.nce_idt:
            terms["nce_y"] = contrast(b, identity, flip, draws)
            terms["g"] = terms["g_gan"] + (terms["nce"] + terms["nce_y"]) * 0.5
        else:
            terms["g"] = terms["g_gan"] + terms["nce"]
        of_g.step(terms["g"])
        logged.append({key: value.item() for key, value in {**terms, "d_real": d_real, "d_fake": d_fake}.items()})
        mirrored.append(flip)
    return logged, mirrored


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize(("mode", "size"), [("cut", 1), ("fastcut", 1), ("both", 2)])
def test_steps_are_those_of_the_authors(mode: str, size: int, smooth: bool) -> None:
    keys = {**MODES[mode], "nce_layers": LAYERS[smooth], "num_patches": 20, **(SMOOTH if smooth else {})}
    model = build_translator("cut", **keys)
    with torch.no_grad():
        for parameter in model.head.parameters():  # So narrow a head may make zeros, whose length has no slope by hand.
            parameter += 1e-4 * torch.randn_like(parameter)
    by_hand, first = deepcopy(model), deepcopy(model)
    expected, mirrored = play_by_hand(by_hand, translation_batches(size), smooth=smooth)
    logged = play(model, translation_batches(size), adam_updates(model), len(STEPS), start=STEPS[0])
    torch.testing.assert_close(logged, expected, atol=1e-9, rtol=0)
    assert len({*mirrored}) == (2 if model.flip_equivariance else 1)
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        if ours.ndim > 1:  # Adam amplifies the rounding errors of biases that an instance norm cancels.
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)
    for name in ("generator", "head", "discriminator"):
        moved = [
            (now - old).abs().max()
            for now, old in zip(getattr(model, name).parameters(), getattr(first, name).parameters(), strict=True)
        ]
        assert max(moved) > 5e-4  # Otherwise the lines before would test nothing.


def test_a_step_updates_the_discriminator_then_the_generator_and_the_head() -> None:
    model = build_translator("cut")
    assert model.generators() == [model.generator, model.head]
    assert model.discriminators() == [model.discriminator]
    update, batches = Watched(model), Counted(translation_batches(2))
    losses = model.train_step(batches, update)
    assert batches.drawn == 1
    (d_side, d_loss), (g_side, g_loss) = update.losses
    assert (d_side, g_side) == ("discriminator", "generator")
    assert all(name.startswith("discriminator") for name in update.log[0][1])
    assert {name.partition(".")[0] for name in update.log[1][1]} == {"generator", "head"}
    assert set(losses) == {"g", "g_gan", "nce", "nce_y", "d_real", "d_fake"}
    torch.testing.assert_close(losses["g"], g_loss)
    torch.testing.assert_close((losses["d_real"] + losses["d_fake"]) / 2, d_loss)


def test_features_of_a_norm_are_those_after_its_activation() -> None:
    torch.manual_seed(0)
    network = resnet(input_shape=(2, 16, 16), shape=(2, 16, 16)).double()
    image = torch.randn(1, 2, 16, 16, dtype=torch.float64)
    plain = layers_of(network, image, smooth=False)
    norm, block = network.features(image, [8, 10])
    torch.testing.assert_close(norm, plain[9], atol=1e-12, rtol=0)
    torch.testing.assert_close(block, plain[10], atol=1e-12, rtol=0)
    (last,) = network.features(image, [8])
    torch.testing.assert_close(last, plain[8], atol=1e-12, rtol=0)
    assert (plain[8] - plain[9]).abs().max() > 1


@pytest.mark.parametrize("antialias", [True, False])
def test_the_channels_of_features_are_known_before_any_image(antialias: bool) -> None:
    network = resnet(input_shape=(2, 16, 16), shape=(3, 16, 16), antialias=antialias)
    every = list(range(len(network.model)))
    found = network.features(torch.randn(1, 2, 16, 16), every)
    assert network.feature_channels(every) == [features.size(1) for features in found]
    with pytest.raises(ConfigError, match=rf"^99: .* 0 to {every[-1]}$"):
        network.feature_channels([0, 99])


def test_a_run_of_two_parts_is_bit_identical_to_one() -> None:
    def parts(seed: int = 0) -> tuple[Any, Any]:
        model = build_translator("cut", pool_size=2, ema=0.9, seed=seed)
        return model, adam_updates(model)

    whole, update = parts()
    logged = play(whole, translation_batches(1), update, steps=6)
    first, update = parts()
    batches = translation_batches(1)
    begun = play(first, batches, update, steps=3)
    second, other = parts(seed=1)
    second.load_state_dict(deepcopy(first.state_dict()))
    other.load_state_dict(deepcopy(update.state_dict()))
    assert begun + play(second, batches, other, steps=3, start=3) == logged
    assert_same_bits(second.state_dict(), whole.state_dict())


def test_random_numbers_are_those_of_the_step_on_every_rank() -> None:
    ranks = [StepRandom(7, CPU, rank=rank, world_size=2) for rank in (0, 1)]
    alone = StepRandom(7, CPU)
    coins = []
    for step in range(20):
        for draws in (alone, *ranks):
            draws.start(step)
        numbers = [(draws.coin(), draws.permutation(9)) for draws in (alone, *ranks)]
        coins.append(bool(numbers[0][0]))
        assert sorted(numbers[0][1].tolist()) == list(range(9))
        for coin, order in numbers[1:]:
            assert bool(coin) == coins[-1]
            assert torch.equal(order, numbers[0][1])
    assert 4 <= sum(coins) <= 16


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"nce_layers": [0, 99]}, r"model\.nce_layers=\[0, 99\]: 99: .* from 0 to 19$"),
        ({"nce_layers": [4, 0]}, r"model\.nce_layers=\[4, 0\]: expected ascending .* \[0,4,8\]"),
        ({"nce_layers": []}, r"model\.nce_layers=\[\]: expected ascending"),
        ({"nce_temperature": 0}, r"model\.nce_temperature.* above 0, got 0"),
        ({"lambda_nce": 0}, r"model\.lambda_nce.* above 0, got 0"),
        ({"generator": unet}, r"network/generator: .* features.*UNetGenerator.* resnet has$"),
    ],
)
def test_settings_that_leave_nothing_to_compare_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_translator("cut", **keys)


def test_domains_of_different_channels_are_refused() -> None:
    spec = ImageSpec(height=32, width=32, channels={"a": 1, "b": 3}, depth={"a": "uint8", "b": "uint8"})
    with pytest.raises(ConfigError, match=r"1 and 3 channels: give data\.channels "):
        build_translator("cut", spec=spec)


def test_autocast_compares_vectors_of_full_precision() -> None:
    losses = []
    for autocast in (None, torch.bfloat16):
        model = build_translator("cut", nce_layers=[0], head_width=64).float()
        for network in (*model.generators(), *model.discriminators()):
            set_precision(network, device=CPU, autocast=autocast, compiled=False)
        batch = {key: value.float() for key, value in next(translation_batches(1)).items() if key != "name"}
        losses.append(model.train_step(iter([batch]), adam_updates(model)))
    # The first layer is the padded image, which autocast leaves as it is; the output is not compared with the head's.
    assert losses[1]["nce_y"].dtype == torch.float32
    assert losses[1]["nce_y"].item() == pytest.approx(losses[0]["nce_y"].item(), rel=0.02)
