"""pix2pix, compared with the algorithm of its paper written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from tiny import (
    CPU,
    AdamByHand,
    Counted,
    Watched,
    adam_updates,
    build_translator,
    play,
    resnet,
    translation_batches,
    unet,
    weights,
)
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.data.base import Batch, ImageSpec
from gantrain.runtime.seeding import StepRandom

UNLIKE = ImageSpec(height=32, width=32, channels={"a": 1, "b": 3}, depth={"a": "uint8", "b": "uint8"})

Criterion = Callable[[Tensor, bool], Tensor]  # The logits, and whether the target is "real".
CRITERIA: dict[str, Criterion] = {
    "logistic": lambda x, real: F.binary_cross_entropy_with_logits(x, torch.full_like(x, float(real))),
    "least_squares": lambda x, real: F.mse_loss(x, torch.full_like(x, float(real))),
}


def play_by_hand(
    generator: nn.Module, discriminator: nn.Module, batches: Iterator[Batch], criterion: Criterion, steps: int = 10
) -> list[dict[str, float]]:
    """Isola et al. 2017, arXiv:1611.07004, section 3: changes the networks, and returns the losses of each step."""
    of_g, of_d = AdamByHand(generator.parameters()), AdamByHand(discriminator.parameters())
    logged = []
    for _ in range(steps):
        batch = next(batches)
        a, b = batch["a"], batch["b"]
        fake = generator(a)
        d_real = criterion(discriminator(torch.cat((a, b), 1)), True)
        d_fake = criterion(discriminator(torch.cat((a, fake.detach()), 1)), False)
        of_d.step(0.5 * d_real + 0.5 * d_fake)
        g_gan = criterion(discriminator(torch.cat((a, fake), 1)), True)
        g_l1 = 100 * (fake - b).abs().mean()
        of_g.step(g_gan + g_l1)
        terms = {"g_gan": g_gan, "g_l1": g_l1 / 200, "d_real": d_real, "d_fake": d_fake}
        logged.append({key: value.item() for key, value in terms.items()})
    return logged


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("loss", CRITERIA)
@pytest.mark.parametrize("size", [1, 2])
def test_ten_steps_are_those_of_the_paper(size: int, loss: str, norm: str) -> None:
    model = build_translator("pix2pix", spec=UNLIKE, loss=loss, norm=norm, generator=unet)
    generator, discriminator = deepcopy(model.generator), deepcopy(model.discriminator)
    a = next(translation_batches(2, spec=UNLIKE, seed=5))["a"]
    first = generator(a)
    expected = play_by_hand(generator, discriminator, translation_batches(size, spec=UNLIKE), CRITERIA[loss])
    logged = play(model, translation_batches(size, spec=UNLIKE), adam_updates(model))
    torch.testing.assert_close(logged, expected, atol=1e-9, rtol=0)
    assert (model.generator(a) - first).abs().max() > 0.01  # Otherwise the next lines would test nothing.
    torch.testing.assert_close(model.generator(a), generator(a), atol=1e-6, rtol=0)
    # Biases before an instance norm have no effect: their gradients are rounding errors.
    torch.testing.assert_close(weights(model.discriminator), weights(discriminator), atol=1e-6, rtol=0)


def test_a_step_updates_the_discriminator_first_on_one_generator_pass() -> None:
    model = build_translator("pix2pix", norm="none", generator=unet)
    passes: list[Tensor] = []
    model.generator.register_forward_hook(lambda _, inputs, output: passes.append(inputs[0]))
    update, batches = Watched(model), Counted(translation_batches(2))
    model.train_step(batches, update)
    assert batches.drawn == 1
    assert len(passes) == 1
    assert update.log == [
        (side, {f"{side}.{key}" for key, _ in getattr(model, side).named_parameters()})
        for side in ("discriminator", "generator")
    ]


def test_the_discriminator_gets_real_pairs_then_generated_ones_twice() -> None:
    model = build_translator("pix2pix", spec=UNLIKE)
    seen: list[Tensor] = []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    batch = next(translation_batches(2, spec=UNLIKE))
    fake = model.generator(batch["a"]).detach()
    model.train_step(iter([batch]), Watched(model))
    real_pair, fake_pair = torch.cat([batch["a"], batch["b"]], 1), torch.cat([batch["a"], fake], 1)
    torch.testing.assert_close(seen, [real_pair, fake_pair, fake_pair], atol=0, rtol=0)


def d_loss(**keys: float | str) -> tuple[Tensor, nn.Module, Tensor, Tensor]:
    """The discriminator's loss of the first step, the discriminator before it, and its input pairs."""
    model = build_translator("pix2pix", **keys)
    before = deepcopy(model)
    batch = next(translation_batches(2))
    update = Watched(model)
    model.train_step(iter([batch]), update)
    a, fake = batch["a"], before.generator(batch["a"]).detach()
    return update.losses[0][1], before.discriminator, torch.cat([a, batch["b"]], 1), torch.cat([a, fake], 1)


def test_label_smoothing_changes_only_the_target_of_real_pairs() -> None:
    off, discriminator, real, _ = d_loss()
    logits = discriminator(real).detach()
    # softplus(-x) + s x against softplus(-x), and half of it
    torch.testing.assert_close(d_loss(label_smoothing=0.25)[0] - off, 0.25 * logits.mean() / 2)
    off = d_loss(loss="least_squares")[0]
    on = d_loss(loss="least_squares", label_smoothing=0.25)[0]
    torch.testing.assert_close(on - off, ((logits - 0.75) ** 2 - (logits - 1) ** 2).mean() / 2)


def test_the_gradient_penalty_is_of_points_between_pairs_and_is_not_halved() -> None:
    off, discriminator, real, fake = d_loss(loss="wasserstein", gradient_penalty=1e-300)
    on = d_loss(loss="wasserstein", gradient_penalty=7.0)[0]
    share = StepRandom(7, CPU).uniform(2).double()[:, None, None, None]
    points = (share * real + (1 - share) * fake).requires_grad_()
    (slopes,) = torch.autograd.grad(discriminator(points).sum(), points)
    norms = slopes.square().sum(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(on - off, 7 * ((norms - 1) ** 2).mean())
    torch.testing.assert_close(off, (discriminator(fake).mean() - discriminator(real).mean()).detach() / 2)


def test_visuals_are_input_output_and_target() -> None:
    model = build_translator("pix2pix", spec=UNLIKE)
    batch = next(translation_batches(2, spec=UNLIKE))
    made = model.generator(batch["a"]).detach()
    shown = model.visuals(batch)
    assert list(shown) == ["real_a", "fake_b", "real_b"]
    torch.testing.assert_close(list(shown.values()), [batch["a"], made, batch["b"]])
    del batch["b"]
    assert list(model.results(batch, "a_to_b")) == ["real_a", "fake_b"]


def test_the_generator_and_the_discriminator_are_sized_for_the_domains() -> None:
    model = build_translator("pix2pix", spec=UNLIKE, generator=resnet)
    assert model.generators() == [model.generator]
    assert model.discriminators() == [model.discriminator]
    assert model.generator(torch.zeros(1, 1, 32, 32).double()).shape == (1, 3, 32, 32)
    assert model.discriminator.model[0].in_channels == 4
    assert model.directions == ("a_to_b",)


def test_held_out_l1_is_the_mean_absolute_difference_of_first_pairs() -> None:
    model = build_translator("pix2pix", spec=UNLIKE, norm="batch", generator=unet)
    batch = next(translation_batches(70, spec=UNLIKE))
    figures = model.evaluate([batch, batch])
    total = 0.0
    for number in range(64):
        one = {key: value[number : number + 1] for key, value in batch.items()}
        made = model.results(one, "a_to_b")["fake_b"]
        total += sum(abs(x - y) for x, y in zip(made.flatten().tolist(), one["b"].flatten().tolist(), strict=True))
    assert figures == {"held_out_l1": pytest.approx(total / 2 / (64 * 3 * 32 * 32), rel=1e-9)}
    assert model.evaluate([]) == {}
