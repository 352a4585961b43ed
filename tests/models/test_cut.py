"""CUT and FastCUT, compared with their step written out layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from conftest import assert_same_bits
from cut_by_hand import LAYERS, STEPS, layers_of, play_by_hand
from tiny import (
    CPU,
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

from gantrain.data.base import Batch, ImageSpec
from gantrain.errors import ConfigError
from gantrain.networks.common import set_precision
from gantrain.runtime.seeding import StepRandom

SMOOTH = {"generator": partial(resnet, antialias=True), "discriminator": partial(patchgan, antialias=True)}
MODES: dict[str, dict[str, Any]] = {
    "cut": {"nce_idt": True, "flip_equivariance": False, "lambda_nce": 1.0},
    "fastcut": {"nce_idt": False, "flip_equivariance": True, "lambda_nce": 10.0},
    "both": {"nce_idt": True, "flip_equivariance": True, "lambda_nce": 2.0},
}


def of_unequal_sizes(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, of which the images of B are smaller."""
    return (batch | {"b": batch["b"][..., :24, :28]} for batch in batches)


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize(
    ("mode", "size", "batches_of"),
    [
        ("cut", 1, iter),
        ("fastcut", 1, iter),
        ("both", 2, iter),
        ("cut", 1, of_unequal_sizes),
        ("both", 1, of_unequal_sizes),
    ],
)
def test_steps_are_those_of_the_authors(mode: str, size: int, smooth: bool, batches_of: Any) -> None:
    keys = {**MODES[mode], "nce_layers": LAYERS[smooth], "num_patches": 20, **(SMOOTH if smooth else {})}
    model = build_translator("cut", **keys)
    with torch.no_grad():
        for parameter in model.head.parameters():  # So narrow a head may make zeros, whose length has no slope by hand.
            parameter += 1e-4 * torch.randn_like(parameter)
    by_hand, first = deepcopy(model), deepcopy(model)
    expected, mirrored = play_by_hand(by_hand, batches_of(translation_batches(size)), smooth=smooth)
    logged = play(model, batches_of(translation_batches(size)), adam_updates(model), len(STEPS), start=STEPS[0])
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
    with pytest.raises(ConfigError, match=rf"no layer 99: .* 0 to {every[-1]}$"):
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
        ({"nce_layers": [0, 99]}, r"model\.nce_layers=\[0, 99\]: .* no layer 99: .* are 0 to 19$"),
        ({"nce_layers": [4, 0]}, r"model\.nce_layers=\[4, 0\]: expected ascending .* \[0,4,8\]"),
        ({"nce_layers": []}, r"model\.nce_layers=\[\]: expected ascending"),
        ({"num_patches": 1}, r"model\.num_patches.* at least 2, got 1"),
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
