"""Adaptive augmentation compared with its operations one by one, and its probability with the formula of the paper."""

from __future__ import annotations

from math import pi
from typing import Any

import augmented_by_hand
import numpy as np
import pytest
import torch
from tiny import CPU, Watched, build, build_translator, image_batches, play, resnet, translation_batches, unet
from tiny_keys import IMAGES, LABELLED, OWN_KEYS
from torch import Tensor
from torch.nn.functional import softplus

from gantrain.errors import ConfigError
from gantrain.models.augmentation.adaptive import AdaptiveAugmentation
from gantrain.runtime.seeding import StepRandom

SIDES = [(16, 16), (9, 14), (4, 4), (1, 1)]
GEOMETRIC = ["flip", "quarters", "right", "down", "size", "before", "aspect", "after", "move_x", "move_y"]
COLORS = ["brightness", "contrast", "luma", "hue", "saturation"]


def adaptive(p: float, *, loss: str = "logistic", color: bool = True) -> AdaptiveAugmentation:
    made = AdaptiveAugmentation(loss=loss, target=0.6, every=4, kimg=500, color=color).double()
    made.p.fill_(p)
    return made


def images(height: int, width: int, *, count: int = 5, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(count, channels, height, width, dtype=torch.float64, generator=generator) * 2 - 1


def draws(**ranks: int) -> StepRandom:
    return StepRandom(3, CPU, **ranks)


def by_hand(given: Tensor, amounts: dict[str, Tensor]) -> Tensor:
    rows = [{name: float(each[place]) for name, each in amounts.items()} for place in range(len(given))]
    return torch.stack(
        [torch.from_numpy(augmented_by_hand.augmented(x.numpy(), row)) for x, row in zip(given, rows, strict=True)]
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sides", SIDES, ids=str)
@pytest.mark.parametrize("p", [1.0, 0.5])
def test_the_pipeline_is_that_of_the_operations_one_by_one(p: float, sides: tuple[int, int], channels: int) -> None:
    given, augment = images(*sides, count=8, channels=channels), adaptive(p)
    found, amounts = augment(given, draws()), augment.draw(8, draws(), torch.float64)
    torch.testing.assert_close(found, by_hand(given, amounts), atol=1e-9, rtol=0)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_images_are_bit_identical_without_any_probability(sides: tuple[int, int], channels: int) -> None:
    for dtype in (torch.float64, torch.float32):
        given = images(*sides, channels=channels).to(dtype)
        assert torch.equal(adaptive(0.0)(given, draws()), given)


def test_images_that_are_only_copied_have_the_values_of_their_pixels() -> None:
    given, augment = images(16, 16, count=60), adaptive(0.1)
    found, amounts = augment(given, draws()), augment.draw(60, draws(), torch.float64)
    others = torch.stack([amounts[name] for name in [*GEOMETRIC[4:], *COLORS]]).ne(0).any(dim=0)
    copies = ~others & torch.stack([amounts[name] for name in GEOMETRIC[:4]]).ne(0).any(dim=0)
    assert copies.sum() >= 3
    for image, original in zip(found[copies], given[copies], strict=True):
        assert not torch.equal(image, original)
        assert torch.isin(image, original).all()


def test_each_operation_has_the_probability_p_and_its_distribution() -> None:
    p, count = 0.3, 20_000
    amounts = adaptive(p).draw(count, draws(), torch.float64)
    assert set(amounts) == {*GEOMETRIC, *COLORS}
    error = 5 * (p * (1 - p) / count) ** 0.5
    for name, amount in amounts.items():
        chance = {"flip": p / 2, "luma": p / 2, "before": 1 - 0.7**0.5, "after": 1 - 0.7**0.5}.get(name, p)
        assert (amount != 0).double().mean() == pytest.approx(chance, abs=error), name
    assert ((amounts["before"] != 0) | (amounts["after"] != 0)).double().mean() == pytest.approx(p, abs=error)
    for one, other in (("right", "down"), ("move_x", "move_y")):
        assert torch.equal(amounts[one] != 0, amounts[other] != 0)
        assert abs(np.corrcoef(amounts[one], amounts[other])[0, 1]) < 0.05
    used = {name: amount[amount != 0] for name, amount in amounts.items()}
    deviations = {"size": 0.2, "aspect": 0.2, "move_x": 0.125, "move_y": 0.125}
    deviations |= {"brightness": 0.2, "contrast": 0.5, "saturation": 1.0}
    for name, deviation in deviations.items():
        assert used[name].std() == pytest.approx(deviation, rel=0.05), name
        assert used[name].mean() == pytest.approx(0, abs=0.1 * deviation), name
    for name, farthest in {"right": 1.0, "down": 1.0, "before": pi, "after": pi, "hue": pi}.items():
        assert used[name].abs().max() == pytest.approx(farthest, rel=0.01), name
        assert used[name].mean() == pytest.approx(0, abs=0.05 * farthest), name
    quarters = torch.bincount((4 * used["quarters"]).long())
    assert quarters.double().div(len(used["quarters"])).tolist() == pytest.approx([0.25] * 4, abs=0.03)


def test_gradients_and_those_of_gradients_equal_finite_differences() -> None:
    given, augment = images(4, 4, count=2).requires_grad_(), adaptive(0.8)
    assert torch.autograd.gradcheck(lambda x: augment(x, draws()), [given])
    assert torch.autograd.gradgradcheck(lambda x: augment(x, draws()).square(), [given])


@pytest.mark.parametrize("channels", [(1, 3), (3, 3, 3), (2, 2)])
def test_images_of_a_pair_undergo_the_same_operations(channels: tuple[int, ...]) -> None:
    parts, augment = [images(16, 16, channels=count) for count in channels], adaptive(0.9)
    whole = augment(torch.cat(parts, dim=1), draws(), channels=channels)
    for found, part in zip(whole.split(channels, dim=1), parts, strict=True):
        torch.testing.assert_close(found, augment(part, draws()), atol=1e-14, rtol=0)


def test_two_ranks_make_the_draws_of_one() -> None:
    given, augment = images(16, 16, count=6), adaptive(0.7)
    halves = [augment(half, draws(rank=rank, world_size=2)) for rank, half in enumerate(given.chunk(2))]
    torch.testing.assert_close(torch.cat(halves), augment(given, draws()), atol=1e-14, rtol=0)


# ---- the probability


def at(step: int, **ranks: int) -> StepRandom:
    numbers = draws(**ranks)
    numbers.start(step)
    return numbers


def test_p_follows_the_signs_of_logits_by_the_formula_of_the_paper() -> None:
    """Karras et al. 2020, section 3.1: r = E[sign(D(real))], and p changes by a constant per image."""
    model = build("gan", augment="ada", augment_target=0.05, augment_every=3, augment_kimg=0.1)
    logits: list[Tensor] = []
    model.discriminator.register_forward_hook(lambda _, inputs, output: logits.append(output.detach()))
    logged = play(model, image_batches(), Watched(model), steps=40)
    real = logits[::3]  # Then come the generated images, of both updates.
    p, expected = 0.0, []
    for step in range(40):
        if step % 3 == 2:
            signs = [1.0 if logit > 0 else -1.0 for each in real[step - 2 : step + 1] for logit in each.flatten()]
            assert len(signs) == 18
            p += np.sign(sum(signs) / 18 - 0.05) * 18 / 100
            p = min(max(p, 0.0), 1.0)
        expected.append(p)
    assert [each["augment_p"] for each in logged] == pytest.approx(expected, abs=1e-12)
    assert len(set(expected)) > 3
    assert float(model.adaptive.p) == pytest.approx(p, abs=1e-12)


def test_p_stays_between_zero_and_one() -> None:
    for logit, start in ((1.0, 0.98), (-1.0, 0.02)):
        augment = adaptive(start)
        for step in range(8):
            augment.record([torch.full((4, 1, 2, 2), logit)])
            augment.adapt(at(step), 10_000)
        assert float(augment.p) == (logit + 1) / 2


@pytest.mark.parametrize(("loss", "boundary"), [("logistic", 0), ("hinge", 0), ("minimax", 0), ("least_squares", 0.5)])
def test_the_boundary_between_real_and_generated_is_that_of_the_loss(loss: str, boundary: float) -> None:
    for above, target in ((4, 0.5), (3, 0.7)):  # Of 5 logits; the mean sign is 0.6 or 0.2.
        augment = adaptive(0.5, loss=loss)
        augment.every, augment.target = 1, target
        logits = boundary + torch.tensor([0.1] * above + [-0.1] * (5 - above))
        augment.record([logits])
        p = augment.adapt(at(0), 500)
        assert float(p) == pytest.approx(0.5 + (0.001 if above == 4 else -0.001), abs=1e-7)


def test_scales_and_discriminators_have_equal_weights() -> None:
    augment = adaptive(0.5)
    augment.record([torch.ones(2, 1, 8, 8), -torch.ones(2, 1, 2, 2), torch.ones(2, 1, 1, 1)])
    augment.record([torch.ones(2, 1, 2, 2)])
    augment.adapt(at(0), 10)
    assert augment.seen.tolist() == pytest.approx([(1 / 3 + 1) / 2 * 10, 10], rel=1e-6)


# ---- in models


@pytest.mark.parametrize("name", [*OWN_KEYS, "pix2pix", "cyclegan", "colorization"])
def test_every_model_augments_adaptively_or_refuses_its_loss_by_name(name: str) -> None:
    keys: dict[str, Any] = {"augment": "ada", "augment_every": 1, "augment_kimg": 0.001, "augment_target": 0.0}
    if OWN_KEYS.get(name, {}).get("loss") == "wasserstein":
        with pytest.raises(ConfigError, match=r"model\.augment=ada .*model\.loss=wasserstein.*augment=\[color"):
            build(name, **OWN_KEYS[name] | keys)
        return
    if name in OWN_KEYS:
        model, batches = build(name, **OWN_KEYS[name] | keys), image_batches(labels=name in LABELLED)
    else:
        model = build_translator(name, generator=unet if name == "pix2pix" else resnet, **keys)
        batches = translation_batches(2, **({"spec": IMAGES} if name == "colorization" else {}))
    model.adaptive.p.fill_(1.0)
    update = Watched(model)
    first = play(model, batches, update, steps=1)[0]
    assert first["augment_p"] in (0.0, 1.0)
    assert all(names for _, names in update.log)


def test_losses_that_compare_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.augment=ada .*model\.loss=relativistic"):
        build("gan", augment="ada", loss="relativistic")


def test_a_step_sees_augmented_images_and_penalties_of_those_before() -> None:
    model, other = (build("gan", augment="ada", r1=3.0) for _ in range(2))
    for each in (model, other):
        each.adaptive.p.fill_(0.8)
    update, numbers, augment, d = Watched(model, lr=0.0), StepRandom(7, CPU), other.adaptive, other.discriminator
    model.train_step(image_batches(), update)
    real = next(image_batches())["image"]
    fake = other.generator(numbers.normal(6, 3).double())
    d_loss = softplus(-d(augment(real, numbers))).mean() + softplus(d(augment(fake, numbers))).mean()
    points = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(d(augment(points, numbers)).sum(), points)
    d_loss = d_loss + 1.5 * slope.square().sum() / 6
    fake = other.generator(numbers.normal(6, 3).double())
    g_loss = softplus(-d(augment(fake, numbers))).mean()
    losses = [loss for _, loss in update.losses]
    torch.testing.assert_close(losses, [d_loss.detach(), g_loss.detach()], atol=1e-12, rtol=0)


def test_lightness_and_colour_are_moved_but_not_recolored() -> None:
    model = build_translator("colorization", augment="ada")
    model.adaptive.p.fill_(1.0)
    given = torch.full((4, 3, 32, 32), 0.25, dtype=torch.float64)
    torch.testing.assert_close(model.augmented(given, draws()), given, atol=1e-9, rtol=0)


def test_a_state_fits_a_model_that_begins_or_ends_to_augment_adaptively() -> None:
    off, on = build("gan"), build("gan", seed=1, augment="ada")
    on.adaptive.p.fill_(0.5)
    assert set(on.state_dict()) - set(off.state_dict()) == {"adaptive.p", "adaptive.seen"}
    off.load_state_dict(on.state_dict())
    assert torch.equal(off.generator.layers[0].weight, on.generator.layers[0].weight)
    on.load_state_dict(build("gan", seed=2).state_dict())
    assert float(on.adaptive.p) == 0.5
    with pytest.raises(RuntimeError, match="Missing key"):
        on.load_state_dict({})
