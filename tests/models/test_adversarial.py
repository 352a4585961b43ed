"""Losses that compare, and the penalties of all adversarial models, compared with their formulas written out."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from tiny import CPU, Counted, Watched, build, build_translator, image_batches, play, translation_batches, unet
from tiny_keys import LABELLED, OWN_KEYS
from torch import Tensor
from torch.nn.functional import softplus

from gantrain.runtime.seeding import StepRandom


def norm_of_slope(critic: Any, images: Tensor) -> Tensor:
    """The mean of the squared norms of the gradients, image by image."""
    norms = []
    for image in images.detach():
        point = image[None].clone().requires_grad_()
        norms.append(torch.autograd.grad(critic(point).sum(), point, create_graph=True)[0].square().sum())
    return torch.stack(norms).mean()


def losses_of(update: Watched) -> list[Tensor]:
    return [loss for _, loss in update.losses]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    torch.testing.assert_close(found, [each.detach() for each in expected], atol=1e-12, rtol=1e-12)


def test_a_step_is_that_of_r3gan() -> None:
    """Huang et al. 2024, equations 2 to 4: pairing loss, R1 and R2, and another real batch for the generator."""
    model, by_hand = (build("gan", loss="relativistic", r1=3.0, r2=5.0) for _ in range(2))
    update, numbers, batches = Watched(model, lr=0.0), StepRandom(7, CPU), Counted(image_batches())
    logged = model.train_step(batches, update)
    assert batches.drawn == 2
    first, second = (batch["image"] for batch in islice(image_batches(), 2))
    g, d = by_hand.generator, by_hand.discriminator
    fake = g(numbers.normal(6, 3).double())
    terms = [softplus(d(fake[i : i + 1]) - d(first[i : i + 1])) for i in range(6)]
    r1, r2 = norm_of_slope(d, first), norm_of_slope(d, fake)
    d_loss = torch.stack(terms).mean() + 1.5 * r1 + 2.5 * r2
    fake = g(numbers.normal(6, 3).double())
    g_loss = torch.stack([softplus(d(second[i : i + 1]) - d(fake[i : i + 1])) for i in range(6)]).mean()
    assert_same(losses_of(update), [d_loss, g_loss])
    assert set(logged) == {"d", "g", "r1", "r2"}
    assert_same([logged["r1"], logged["r2"]], [r1, r2])


def test_gradients_of_r3gan_reach_the_side_that_is_updated() -> None:
    model, by_hand = (build("gan", loss="relativistic", r1=3.0, r2=5.0) for _ in range(2))
    play(model, image_batches(), Watched(model, lr=0.1), steps=1)
    first, second = (batch["image"] for batch in islice(image_batches(), 2))
    numbers, g, d = StepRandom(7, CPU), by_hand.generator, by_hand.discriminator
    fake = g(numbers.normal(6, 3).double()).detach()
    d_loss = softplus(d(fake) - d(first)).mean() + 1.5 * norm_of_slope(d, first) + 2.5 * norm_of_slope(d, fake)
    weights = list(d.parameters())
    slopes = torch.autograd.grad(d_loss, weights, allow_unused=True)
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            weight -= 0.1 * (0 if slope is None else slope)
    weights = list(g.parameters())
    slopes = torch.autograd.grad(softplus(d(second) - d(g(numbers.normal(6, 3).double()))).mean(), weights)
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            weight -= 0.1 * slope
    torch.testing.assert_close(model.state_dict(), by_hand.state_dict(), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", OWN_KEYS)
def test_every_latent_model_trains_by_comparison(name: str) -> None:
    model = build(name, **OWN_KEYS[name] | {"loss": "relativistic", "r1": 1.0, "r2": 1.0})
    update = Watched(model)
    logged = model.train_step(image_batches(labels=name in LABELLED), update)
    assert {"d", "g", "r1", "r2"} <= set(logged)
    assert [side for side, _ in update.log] == ["discriminator", "generator"]
    assert all(names for _, names in update.log)


def test_conditional_critics_compare_images_of_one_class() -> None:
    model = build("cgan", loss="relativistic", r2=1.0)
    seen: list[Tensor] = []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    model.generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    model.train_step(image_batches(labels=True), Watched(model))
    first, second = (batch["label"] for batch in islice(image_batches(labels=True), 2))
    assert [labels.tolist() for labels in seen] == [first.tolist()] * 4 + [second.tolist()] * 3


def test_r2_of_a_conditional_critic_is_that_of_the_labels_of_its_images() -> None:
    model, by_hand = (build("cgan", r2=4.0) for _ in range(2))
    logged = model.train_step(image_batches(labels=True), Watched(model))
    numbers = StepRandom(7, CPU)
    labels = numbers.integers(6, 3)
    fake = by_hand.generator(numbers.normal(6, 3).double(), labels)
    points = fake.detach().requires_grad_()
    (slope,) = torch.autograd.grad(by_hand.discriminator(points, labels).sum(), points)
    assert_same([logged["r2"]], [slope.square().sum() / 6])


def test_pix2pix_compares_a_pair_with_the_pair_of_its_output() -> None:
    model, by_hand = (build_translator("pix2pix", generator=unet, loss="relativistic", r1=3.0) for _ in range(2))
    update = Watched(model, lr=0.0)
    model.train_step(translation_batches(2), update)
    batch = next(translation_batches(2))
    a, b, d = batch["a"], batch["b"], by_hand.discriminator
    fake = by_hand.generator(a)
    real_pair, fake_pair = torch.cat([a, b], 1), torch.cat([a, fake], 1)
    d_loss = softplus(d(fake_pair) - d(real_pair)).mean() / 2 + 1.5 * norm_of_slope(d, real_pair)
    g_loss = softplus(d(real_pair) - d(fake_pair)).mean() + 100 * (fake - b).abs().mean()
    assert_same(losses_of(update), [d_loss, g_loss])


def test_cyclegan_compares_the_images_of_each_domain() -> None:
    model, by_hand = (build_translator("cyclegan", loss="relativistic", r2=3.0) for _ in range(2))
    logged = model.train_step(translation_batches(2), Watched(model, lr=0.0))
    batch = next(translation_batches(2))
    for source, target, other in (("a", "b", "a"), ("b", "a", "b")):
        generator = getattr(by_hand, f"generator_{source}{target}")
        d, real, fake = getattr(by_hand, f"discriminator_{target}"), batch[target], generator(batch[source])
        d_loss = softplus(d(fake) - d(real)).mean() / 2 + 1.5 * norm_of_slope(d, fake)
        assert_same([logged[f"g_{other}"], logged[f"d_{other}"]], [softplus(d(real) - d(fake)).mean(), d_loss])


def test_lazy_penalties_have_the_weight_of_the_steps_without() -> None:
    lazy, eager = (build("gan", r1=3.0, r2=5.0, r1_every=every) for every in (4, 1))
    watched = [Watched(model, lr=0.0) for model in (lazy, eager)]
    seldom, always = (play(update._model, image_batches(), update, steps=9) for update in watched)
    assert [step for step, logged in enumerate(seldom) if "r1" in logged and "r2" in logged] == [0, 4, 8]
    assert all(("r1" in logged) == ("r2" in logged) for logged in seldom)
    for step, (some, all_) in enumerate(zip(seldom, always, strict=True)):
        adversarial = all_["d_real"] + all_["d_fake"]
        due = 4 * (1.5 * all_["r1"] + 2.5 * all_["r2"]) if step % 4 == 0 else 0.0
        assert float(losses_of(watched[0])[2 * step]) == pytest.approx(adversarial + due, rel=1e-12)
        assert some["d_real"] == all_["d_real"]


def test_keys_without_effect_are_listed() -> None:
    of_ada = {"augment_target", "augment_every", "augment_kimg"}
    assert set(build("gan").without_effect) == {"r1_every", "ema_rampup", *of_ada}
    for keys in ({"r1": 1.0}, {"r2": 1.0}):
        assert build("gan", ema=0.9, augment="ada", **keys).without_effect == {}
