"""Feature matching and discriminators of several scales, compared with sums over maps written out."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from tiny import (
    CPU,
    Watched,
    build_translator,
    image_batches,
    mlp_generator,
    patchgan,
    play,
    translation_batches,
    unet,
)
from tiny_keys import LATENT_KEYS, PAIRS
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.data.base import ImageSpec
from gantrain.models.adversarial import scores
from gantrain.models.feature_matching import feature_matching, paired_distance, unpaired_distance
from gantrain.networks.common import set_precision
from gantrain.registry import MODELS
from gantrain.runtime.seeding import StepRandom

IMAGE = ImageSpec(height=32, width=32, channels={"image": 1}, depth={"image": "uint8"})
two_scales = partial(patchgan, scales=2)


def random_maps(*shapes: tuple[int, ...], seed: int) -> list[list[Tensor]]:
    numbers = torch.Generator().manual_seed(seed)
    maps = [torch.randn(shape, dtype=torch.float64, generator=numbers) for shape in shapes]
    return [maps[:4], maps[4:]]


SHAPES = [
    (2, 3, 8, 8),
    (2, 5, 4, 4),
    (2, 6, 3, 3),
    (2, 1, 2, 2),
    (2, 3, 4, 4),
    (2, 5, 2, 2),
    (2, 6, 1, 1),
    (2, 1, 1, 1),
]


def test_the_sum_over_scales_and_maps_has_the_weights_of_pix2pixhd() -> None:
    fake, real = random_maps(*SHAPES, seed=1), random_maps(*SHAPES, seed=2)
    for maps in (*fake, *real):
        for each in maps:
            each.requires_grad_()
    expected = torch.zeros((), dtype=torch.float64)
    for scale in (0, 1):
        for number in range(3):  # Not of the logits.
            x, y = fake[scale][number].flatten().tolist(), real[scale][number].flatten().tolist()
            distance = sum(abs(one - other) for one, other in zip(x, y, strict=True)) / len(x)
            expected += 1 / 2 * 4 / 3 * distance
    loss = feature_matching(fake, real, paired_distance)
    torch.testing.assert_close(loss.detach(), expected, atol=1e-12, rtol=0)
    loss.backward()
    assert all(each.grad is not None for maps in fake for each in maps[:-1])
    assert all(each.grad is None for maps in real for each in maps)


def test_unpaired_features_are_compared_in_their_means() -> None:
    fake, real = torch.randn(3, 4, 5, 2).double().requires_grad_(), torch.randn(3, 4, 5, 2).double()
    total = 0.0
    signs = []
    for channel in range(4):
        difference = sum(
            float(fake.detach()[n, channel, i, j] - real[n, channel, i, j]) / 30
            for n in range(3)
            for i in range(5)
            for j in range(2)
        )
        total += abs(difference) / 4
        signs.append(1.0 if difference > 0 else -1.0)
    loss = unpaired_distance(fake, real)
    assert loss.item() == pytest.approx(total, abs=1e-12)
    loss.backward()
    expected = torch.tensor(signs).double().view(1, 4, 1, 1).expand(3, 4, 5, 2) / 4 / 30
    torch.testing.assert_close(fake.grad, expected, atol=1e-12, rtol=0)
    other = torch.cat([real, real], dim=3)  # Another size, with the same means.
    assert unpaired_distance(fake, other).item() == pytest.approx(total, abs=1e-12)
    shuffled = real[torch.tensor([2, 0, 1])]
    assert float(unpaired_distance(real, shuffled)) == pytest.approx(0, abs=1e-12)


def halves(discriminator: nn.Module, image: Tensor) -> list[list[Tensor]]:
    """The outputs of each activation and the logits, of both scales."""
    small = F.avg_pool2d(image, 3, 2, 1, count_include_pad=False)
    found = []
    for network, x in ((discriminator.model, image), (discriminator.coarser.model, small)):
        maps = []
        for layer in network:
            x = F.leaky_relu(x, 0.2) if isinstance(layer, nn.LeakyReLU) else layer(x)
            if isinstance(layer, nn.LeakyReLU):
                maps.append(x)
        found.append([*maps, x])
    return found


def bce(logits: Tensor, real: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def test_a_step_of_pix2pix_is_that_of_pix2pixhd() -> None:
    keys: dict[str, Any] = {"generator": unet, "discriminator": two_scales, "lambda_features": 7.0}
    model, other = (build_translator("pix2pix", **keys) for _ in range(2))
    update = Watched(model, lr=0.0)
    (logged,) = play(model, translation_batches(2), update, steps=1)
    batch, d = next(translation_batches(2)), other.discriminator
    a, b = batch["a"], batch["b"]
    fake = other.generator(a)
    maps, real = halves(d, torch.cat([a, fake], 1)), halves(d, torch.cat([a, b], 1))
    g_gan = bce(maps[0][-1], True) + bce(maps[1][-1], True)
    pairs = [(x, y) for one, two in zip(maps, real, strict=True) for x, y in zip(one[:-1], two[:-1], strict=True)]
    features = 7 * sum((x - y).abs().mean() for x, y in pairs) / 2 * 4 / 3
    d_real = bce(real[0][-1], True) + bce(real[1][-1], True)
    d_fake = bce(maps[0][-1], False) + bce(maps[1][-1], False)
    l1 = (fake - b).abs().mean()
    expected = {"g_gan": g_gan, "g_l1": l1 / 2, "g_features": features, "d_real": d_real, "d_fake": d_fake}
    assert logged == pytest.approx({name: value.item() for name, value in expected.items()}, abs=1e-10)
    (_, d_loss), (_, g_loss) = update.losses
    assert float(d_loss) == pytest.approx(float(d_real + d_fake) / 2, abs=1e-10)
    assert float(g_loss) == pytest.approx(float(g_gan + features + 100 * l1), abs=1e-9)


def test_a_step_of_cyclegan_compares_mean_features_of_each_domain() -> None:
    keys: dict[str, Any] = {"discriminator": two_scales, "lambda_features": 7.0}
    model, other = (build_translator("cyclegan", **keys) for _ in range(2))
    update = Watched(model, lr=0.0)
    (logged,) = play(model, translation_batches(2), update, steps=1)
    batch, features = next(translation_batches(2)), 0.0
    for source, target in ("ab", "ba"):
        discriminator = getattr(other, f"discriminator_{target}")
        fake = getattr(other, f"generator_{source}{target}")(batch[source])
        maps, real = halves(discriminator, fake), halves(discriminator, batch[target])
        adversarial = sum((scale[-1] - 1).square().mean() for scale in maps)
        assert logged[f"g_{source}"] == pytest.approx(float(adversarial), abs=1e-10)
        for one, two in zip(maps, real, strict=True):
            for x, y in zip(one[:-1], two[:-1], strict=True):
                means = x.mean(dim=(0, 2, 3)) - y.mean(dim=(0, 2, 3))
                features += 7 * 4 / 3 / 2 * float(means.abs().mean())
    assert logged["g_features"] == pytest.approx(features, abs=1e-10)
    terms = ["g_a", "g_b", "g_features", "cycle_a", "cycle_b", "idt_a", "idt_b"]
    assert float(update.losses[0][1]) == pytest.approx(sum(logged[name] for name in terms), abs=1e-9)


class Perfect(nn.Module):
    """Returns its input."""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor) -> Tensor:
        return image + self.offset


@pytest.mark.parametrize("augment", [["color", "translation", "cutout"], "ada"])
def test_both_pairs_are_augmented_by_the_same_draws(augment: Any) -> None:
    model = build_translator("pix2pix", generator=Perfect, lambda_features=10.0, augment=augment)
    if augment == "ada":
        model.adaptive.p.fill_(1.0)
    batch = next(translation_batches(2))
    seen: list[Tensor] = []
    model.discriminator.model[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    losses = model.train_step(iter([batch | {"b": batch["a"]}]), Watched(model))
    assert float(losses["g_features"]) == pytest.approx(0, abs=1e-12)
    fake, real = seen[-2:]
    torch.testing.assert_close(fake, real)
    assert (real[:, :2] - batch["a"]).abs().max() > 0.1
    torch.testing.assert_close(real[:, :2], real[:, 2:])


@pytest.mark.parametrize("loss", ["logistic", "relativistic"])
def test_the_losses_and_penalties_of_noise_models_are_sums_over_scales(loss: str) -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        config = {"name": "gan", **LATENT_KEYS, "loss": loss, "r1": 3.0, "r2": 5.0, "gradient_penalty": 2.0}
        networks = {"make_generator": mlp_generator, "make_discriminator": two_scales_of_images}
        made.append(MODELS.build(config, spec=IMAGE, **networks).double())
    model, other = made
    batches = ({"image": F.interpolate(batch["image"], size=(32, 32))} for batch in image_batches(2))
    first = next(batches)
    update = Watched(model, lr=0.0)
    logged = model.train_step(iter([first, first]), update)
    numbers, real = StepRandom(7, CPU), first["image"]
    fake = other.generator(numbers.normal(2, 3).double()).detach()
    d = other.discriminator
    one, two = d(real), d(fake)
    if loss == "logistic":
        expected = sum(bce(x, True) for x in one) + sum(bce(x, False) for x in two)
    else:
        expected = sum(F.softplus(y - x).mean() for x, y in zip(one, two, strict=True))
    mix = numbers.uniform(2).double().view(2, 1, 1, 1)
    slopes = []
    for points in (mix * real + (1 - mix) * fake, real, fake):
        points = points.detach().requires_grad_()
        slopes.append(torch.autograd.grad(sum(x.sum() for x in d(points)), points)[0].flatten(1).norm(dim=1))
    penalties = [(slopes[0] - 1).square().mean(), slopes[1].square().mean(), slopes[2].square().mean()]
    names = ["gradient_penalty", "r1", "r2"]
    torch.testing.assert_close([logged[name] for name in names], penalties, atol=1e-10, rtol=0)
    whole = expected + 2 * penalties[0] + 1.5 * penalties[1] + 2.5 * penalties[2]
    torch.testing.assert_close(update.losses[0][1], whole.detach(), atol=1e-10, rtol=0)
    fake = other.generator(numbers.normal(2, 3).double())
    three = d(fake)
    expected = sum(
        bce(y, True) if loss == "logistic" else F.softplus(x - y).mean() for x, y in zip(one, three, strict=True)
    )
    torch.testing.assert_close(logged["g"], expected.detach(), atol=1e-10, rtol=0)


def two_scales_of_images(*, shape: Any, num_classes: int, num_outputs: int) -> nn.Module:
    return two_scales(shape=shape)


def test_scores_are_means_of_each_image_over_scales() -> None:
    fine, coarse = torch.randn(3, 1, 4, 4).double(), torch.randn(3, 1, 1, 1).double()
    expected = [(float(fine[n].mean()) + float(coarse[n].mean())) / 2 for n in range(3)]
    assert scores((fine, coarse)).tolist() == pytest.approx(expected, abs=1e-12)
    assert scores(fine).tolist() == pytest.approx([float(each.mean()) for each in fine], abs=1e-12)


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan"])
def test_mixed_precision_computes_nearly_the_same(name: str) -> None:
    logged = []
    for autocast in (None, torch.bfloat16):
        model = build_translator(
            name, generator=unet, discriminator=two_scales, lambda_features=10.0, r1=1.0, augment="ada"
        ).float()
        model.adaptive.p.fill_(0.5)
        for network in (*model.generators(), *model.discriminators()):
            set_precision(network, device=CPU, autocast=autocast, compiled=False)
        batch = {key: x.float() if isinstance(x, Tensor) else x for key, x in next(translation_batches(2)).items()}
        assert set(batch) >= set(PAIRS.channels)
        losses = model.train_step(iter([batch]), Watched(model, lr=0.0))
        assert {value.dtype for value in losses.values()} == {torch.float32}
        logged.append({key: float(value) for key, value in losses.items()})
    assert logged[1] == pytest.approx(logged[0], rel=0.05, abs=0.02)
    assert logged[1] != logged[0]
