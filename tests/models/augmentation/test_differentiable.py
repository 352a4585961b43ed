"""DiffAugment compared with loops over images and pixels, and what of a step sees augmented images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny import CPU, Watched, build, build_translator, image_batches, play, resnet, translation_batches, unet
from tiny_keys import IMAGES, LABELLED, OWN_KEYS, PAIRS
from torch import Tensor

from gantrain.errors import ConfigError
from gantrain.models.augmentation.differentiable import augmented
from gantrain.runtime.seeding import StepRandom

ALL = ["color", "translation", "cutout"]
SIDES = [(16, 16), (28, 28), (9, 13), (4, 4), (1, 1), (2, 3), (12, 32)]


def images(height: int, width: int, *, count: int = 5, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(count, channels, height, width, dtype=torch.float64, generator=generator) * 2 - 1


def draws() -> StepRandom:
    return StepRandom(3, CPU)


def color_by_hand(image: Tensor, numbers: StepRandom, count: int) -> Iterator[Tensor]:
    amounts = numbers.uniform(count, 3).double()
    for place in range(count):
        brightness, saturation, contrast = amounts[place].tolist()
        x = image[place] + brightness - 0.5
        gray = sum(channel for channel in x) / len(x)
        x = torch.stack([gray + 2 * saturation * (channel - gray) for channel in x])
        mean = x.sum() / x.numel()
        yield mean + (contrast + 0.5) * (x - mean)


def translation_by_hand(image: Tensor, numbers: StepRandom, count: int) -> Iterator[Tensor]:
    _, _, height, width = image.shape
    far = [int(height / 8 + 0.5), int(width / 8 + 0.5)]
    down, right = (numbers.integers(count, 2 * each + 1) for each in far)
    for place in range(count):
        moved = torch.zeros_like(image[place])
        for row in range(height):
            for column in range(width):
                i, j = row + int(down[place]) - far[0], column + int(right[place]) - far[1]
                if i in range(height) and j in range(width):
                    moved[:, row, column] = image[place, :, i, j]
        yield moved


def cutout_by_hand(image: Tensor, numbers: StepRandom, count: int) -> Iterator[Tensor]:
    _, _, height, width = image.shape
    size = [int(height / 2 + 0.5), int(width / 2 + 0.5)]
    centers = [numbers.integers(count, side + (1 - s % 2)) for side, s in zip((height, width), size, strict=True)]
    for place in range(count):
        cut = image[place].clone()
        for i in range(size[0]):
            for j in range(size[1]):  # The authors clamp these numbers to the edges.
                row = min(max(i + int(centers[0][place]) - size[0] // 2, 0), height - 1)
                column = min(max(j + int(centers[1][place]) - size[1] // 2, 0), width - 1)
                cut[:, row, column] = 0
        yield cut


BY_HAND = {"color": color_by_hand, "translation": translation_by_hand, "cutout": cutout_by_hand}


@pytest.mark.parametrize("sides", SIDES, ids=str)
@pytest.mark.parametrize("operation", ALL)
def test_operations_equal_loops_over_images_and_pixels(operation: Any, sides: tuple[int, int]) -> None:
    given = images(*sides)
    expected = torch.stack(list(BY_HAND[operation](given, draws(), len(given))))
    torch.testing.assert_close(augmented(given, [operation], draws()), expected, atol=1e-14, rtol=0)


def test_operations_are_applied_in_the_given_order() -> None:
    given = images(16, 24)
    for order in (["color", "cutout", "translation"], ["translation", "color"]):
        numbers, expected = draws(), given
        for operation in order:
            expected = torch.stack(list(BY_HAND[operation](expected, numbers, len(given))))
        torch.testing.assert_close(augmented(given, order, draws()), expected, atol=1e-14, rtol=0)


def test_every_image_has_its_own_draw_and_extremes_are_reached() -> None:
    given = images(16, 16, count=1).expand(400, -1, -1, -1)
    for operation in ALL:
        assert len(augmented(given, [operation], draws()).flatten(1).unique(dim=0)) > 20
    rows = augmented(torch.ones(400, 1, 16, 24), ["translation"], draws())[:, 0].amax(2).sum(1)
    assert set(rows.tolist()) == {14.0, 15.0, 16.0}  # A shift by 2 of 16 rows leaves 14.
    columns = augmented(torch.ones(400, 1, 16, 24), ["cutout"], draws())[:, 0].amin(1).sum(1)
    assert set(columns.tolist()) == {12.0 + cut for cut in range(7)}  # Half of a hole of 12 may be cut off.


@pytest.mark.parametrize("operation", ALL)
def test_gradients_and_those_of_gradients_equal_finite_differences(operation: Any) -> None:
    given = images(5, 4, count=2, channels=2).requires_grad_()

    def change(x: Tensor) -> Tensor:
        return augmented(x, [operation], draws()).square()

    assert torch.autograd.gradcheck(change, [given])
    assert torch.autograd.gradgradcheck(change, [given])


def test_both_images_of_a_pair_have_the_same_draw() -> None:
    a, b = images(16, 16, channels=1), images(16, 16, channels=3)
    pair = augmented(torch.cat([a, b], dim=1), ALL, draws(), channels=[1, 3])
    torch.testing.assert_close(pair[:, :1], augmented(a, ALL, draws()), atol=0, rtol=0)
    torch.testing.assert_close(pair[:, 1:], augmented(b, ALL, draws()), atol=0, rtol=0)


def test_no_operations_draw_nothing() -> None:
    given, numbers = images(4, 4), draws()
    assert augmented(given, [], numbers) is given
    assert torch.equal(numbers.uniform(5), draws().uniform(5))


@pytest.mark.parametrize("operation", ALL)
def test_two_ranks_make_the_draws_of_one(operation: Any) -> None:
    given = images(16, 16, count=6)
    ranks = [StepRandom(3, CPU, rank=rank, world_size=2) for rank in (0, 1)]
    halves = [augmented(half, [operation], numbers) for half, numbers in zip(given.chunk(2), ranks, strict=True)]
    assert torch.equal(torch.cat(halves), augmented(given, [operation], draws()))


# ---- in models


def model_and_batches(name: str, **keys: Any) -> tuple[Any, Iterator[Any]]:
    if name in OWN_KEYS:
        return build(name, **OWN_KEYS[name] | keys), image_batches(labels=name in LABELLED)
    model = build_translator(name, generator=unet if name == "pix2pix" else resnet, **keys)
    return model, translation_batches(2, spec=IMAGES if name == "colorization" else PAIRS)


@pytest.mark.parametrize("name", [*OWN_KEYS, "pix2pix", "cyclegan", "colorization"])
def test_discriminators_see_augmented_images_only_and_generators_learn(name: str) -> None:
    model, batches = model_and_batches(name, augment=["cutout"], gradient_penalty=1.0)
    seen: list[Tensor] = []
    for discriminator in model.discriminators():
        discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    update = Watched(model)
    model.train_step(batches, update)
    assert len(seen) >= 4  # Real and generated images, the points of the penalty, and again generated ones.
    for image in seen:
        assert (image == 0).all(1).flatten(1).any(1).all()
    assert all(names for _, names in update.log)


def test_a_step_is_that_of_the_paper() -> None:
    """Zhao et al. 2020, equations 4 to 6, with an R1 penalty on real images before they are augmented."""
    model, by_hand = (build("gan", augment=ALL, r1=3.0) for _ in range(2))
    real = next(image_batches())["image"]
    update, numbers = Watched(model, lr=0.0), StepRandom(7, CPU)
    model.train_step(image_batches(), update)
    d, softplus = by_hand.discriminator, torch.nn.functional.softplus
    fake = by_hand.generator(numbers.normal(6, 3).double())
    d_loss = softplus(-d(augmented(real, ALL, numbers))).mean() + softplus(d(augmented(fake, ALL, numbers))).mean()
    points = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(d(augmented(points, ALL, numbers)).sum(), points)
    fake = by_hand.generator(numbers.normal(6, 3).double())
    g_loss = softplus(-d(augmented(fake, ALL, numbers))).mean()
    d_loss = d_loss + 1.5 * slope.square().sum() / 6
    (_, first), (_, second) = update.losses
    torch.testing.assert_close([first, second], [d_loss.detach(), g_loss.detach()], atol=1e-12, rtol=0)


def test_stored_images_are_not_augmented() -> None:
    model = build("gan", augment=["cutout"], pool_size=50)
    play(model, image_batches(), Watched(model), steps=3)
    stored = [row[0] for row in model.pool.get_extra_state()]
    assert len(stored) == 18
    assert not any((image == 0).any() for image in stored)


def test_color_is_refused_for_lightness_and_colour() -> None:
    with pytest.raises(ConfigError, match=r"model\.augment .*color.*model=colorization.*\[translation,cutout\]"):
        build_translator("colorization", augment=["color"])


def test_other_operations_are_refused_with_those_that_exist() -> None:
    for wrong in (["colour"], "color"):
        with pytest.raises(
            ConfigError, match=r"model\.augment: expected a list \(one of 'color', 'translation', 'cutout'"
        ):
            build("gan", augment=wrong)
