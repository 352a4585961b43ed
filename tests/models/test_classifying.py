"""GANs whose discriminator also classifies, compared with cross entropies computed by hand."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from tiny import ReadOff, Watched, build, image_batches, written
from torch import Tensor

from gantrain.models.classifying import class_loss
from gantrain.models.losses.adversarial import gradient_penalty
from gantrain.runtime.seeding import StepRandom

LN2, LN3, LN5 = log(2), log(3), log(5)
NO_LATENT = torch.zeros(0)


def reading(name: str, **keys: Any) -> Any:
    """The model with a discriminator whose logits are the first pixels."""
    model = build(name, **keys)
    model.discriminator = ReadOff(model.num_outputs)
    return model


def close(actual: Tensor, expected: float | Tensor) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=torch.float64), atol=1e-12, rtol=1e-12)


# one logit for real against generated, and one per class: softmax of (0, ln 2, ln 5) is 1/8, 2/8, 5/8
ACGAN_REAL = written([[0.0, 0.0, LN2, LN5], [LN2, 0.0, 0.0, 0.0]])
ACGAN_FAKE = written([[LN3, 0.0, 0.0, 0.0], [0.0, 0.0, LN2, LN5]])
ACGAN = {"lambda_class": 0.5, "classify_generated": True}
SGAN = {"lambda_class": 1.0, "critic_lambda_class": 1.0}
REAL_LABELS, FAKE_LABELS = torch.tensor([2, 0]), torch.tensor([1, 1])


def test_the_acgan_discriminator_classifies_real_and_generated_images() -> None:
    real = {"image": ACGAN_REAL, "label": REAL_LABELS}
    loss, parts = reading("acgan", **ACGAN).discriminator_loss(real, ACGAN_FAKE, NO_LATENT, FAKE_LABELS)
    close(parts["d_real"], log(3) / 2)  # -(ln 1/2 + ln 2/3) / 2
    close(parts["d_fake"], log(8) / 2)  # -(ln 1/4 + ln 1/2) / 2
    # real: -(ln 5/8 + ln 1/3) / 2, generated: -(ln 1/3 + ln 2/8) / 2
    close(parts["d_class"], log(8 / 5 * 3) / 2 + log(3 * 4) / 2)
    close(loss, log(3) / 2 + log(8) / 2 + 0.5 * (log(24 / 5) + log(12)) / 2)


def test_the_acgan_discriminator_may_classify_real_images_alone() -> None:
    real = {"image": ACGAN_REAL, "label": REAL_LABELS}
    model = reading("acgan", **ACGAN | {"classify_generated": False})
    loss, parts = model.discriminator_loss(real, ACGAN_FAKE, NO_LATENT, FAKE_LABELS)
    close(parts["d_class"], log(8 / 5 * 3) / 2)
    close(loss, log(3) / 2 + log(8) / 2 + 0.5 * log(24 / 5) / 2)


def test_the_acgan_generator_minimises_the_real_and_the_class_loss() -> None:
    loss, parts = reading("acgan", **ACGAN).generator_loss(ACGAN_FAKE, NO_LATENT, FAKE_LABELS)
    close(parts["g"], log(4 / 3 * 2) / 2)  # -(ln 3/4 + ln 1/2) / 2
    close(parts["g_class"], log(3 * 4) / 2)  # -(ln 1/3 + ln 2/8) / 2
    close(loss, log(8 / 3) / 2 + 0.5 * log(12) / 2)


def test_the_class_loss_counts_known_labels_and_divides_by_all() -> None:
    logits = torch.tensor([[0.0, LN2, LN5], [0.0, 0.0, 0.0], [9.0, 9.0, 1.0]], dtype=torch.float64)
    # -(ln 5/8 + ln 1/3) / 3; the third label is unknown
    close(class_loss(logits, torch.tensor([2, 0, -1])), log(8 / 5 * 3) / 3)


def test_without_any_known_label_the_class_loss_is_zero_with_a_gradient() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    loss = class_loss(logits, torch.full((3,), -1))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(3, 4))


# ---- SGAN


def k_plus_one(count: int, seed: int) -> Tensor:
    """Random logits: three classes and "fake"."""
    return 3 * torch.randn(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("labels", [[0, 1, 2, 2, 0, 1], [-1, 1, -1, 2, 0, -1], [-1] * 6], ids=["all", "some", "none"])
def test_the_sgan_critic_minimises_cross_entropy_over_classes_and_fake(labels: list[int]) -> None:
    """Salimans et al. 2016, arXiv:1606.03498, section 5."""
    real, fake = k_plus_one(6, 0), k_plus_one(6, 1)
    # a known label: -log p(y); an unknown one: -log(1 - p(fake)); generated: -log p(fake)
    of_real, of_fake = real.log_softmax(dim=1), fake.log_softmax(dim=1)
    real_terms = [
        -of_real[row, label] if label >= 0 else -(1 - of_real[row, 3].exp()).log() for row, label in enumerate(labels)
    ]
    expected = torch.stack(real_terms).mean() - of_fake[:, 3].mean()
    batch = {"image": written(real), "label": torch.tensor(labels)}
    loss, parts = reading("sgan", **SGAN).discriminator_loss(batch, written(fake), NO_LATENT, None)
    close(loss, expected)
    close(parts["d_real"], -(1 - of_real[:, 3].exp()).log().mean())
    close(parts["d_fake"], -of_fake[:, 3].mean())


def test_the_sgan_generator_minimises_the_cross_entropy_of_its_label() -> None:
    fake, labels = k_plus_one(6, 1), torch.tensor([0, 1, 2, 2, 0, 1])
    loss, parts = reading("sgan", **SGAN).generator_loss(written(fake), NO_LATENT, labels)
    logs = fake.log_softmax(dim=1)
    close(loss, -logs[torch.arange(6), labels].mean())
    close(parts["g"], -(1 - logs[:, 3].exp()).log().mean())


def test_the_classes_of_the_sgan_critic_are_weighted() -> None:
    real, fake, labels = k_plus_one(6, 0), k_plus_one(6, 1), torch.tensor([0, 1, 2, 2, 0, 1])
    batch = {"image": written(real), "label": labels}
    loss, _ = reading("sgan", lambda_class=1.0, critic_lambda_class=0.25).discriminator_loss(
        batch, written(fake), NO_LATENT, None
    )
    of_real, of_fake = real.log_softmax(dim=1), fake.log_softmax(dim=1)
    of_classes = real[:, :3].log_softmax(dim=1)[torch.arange(6), labels]
    is_real = (1 - of_real[:, 3].exp()).log()
    close(loss, -is_real.mean() - of_fake[:, 3].mean() - 0.25 * of_classes.mean())


def test_unknown_labels_do_not_stop_training() -> None:
    model = build("sgan", **SGAN)
    batch = next(image_batches(labels=True))
    batch["label"][::2] = -1
    losses = model.train_step(iter([batch]), Watched(model))
    assert all(value.isfinite() for value in losses.values())


def test_accuracy_is_the_fraction_of_images_whose_largest_logit_is_right() -> None:
    def batch(logits: list[list[float]], labels: list[int]) -> dict[str, Tensor]:
        return {"image": written(logits), "label": torch.tensor(labels)}

    # The last logit is "fake", which is not a class.
    batches = [
        batch([[3.0, 1.0, 1.0, 9.0], [0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 2.0, 5.0]], [0, 1, 2]),
        batch([[0.0, 1.0, 0.0, 0.0]], [0]),
    ]
    assert reading("sgan", **SGAN).evaluate(batches) == {"held_out_accuracy": 0.75}
    assert reading("sgan", **SGAN).evaluate([]) == {}


@pytest.mark.parametrize(
    ("name", "keys"), [("acgan", {"lambda_class": 1.0, "classify_generated": True}), ("sgan", SGAN)]
)
def test_penalties_take_the_gradient_of_the_adversarial_logit(name: str, keys: dict[str, Any]) -> None:
    model = build(name, gradient_penalty=1.0, **keys)
    real, fake = next(image_batches(labels=True)), next(image_batches(seed=5))["image"]
    found = model.penalties(real, fake, StepRandom(3, torch.device("cpu")))

    def logit(images: Tensor) -> Tensor:
        logits = model.discriminator(images)
        return logits[:, 0] if name == "acgan" else logits[:, :3].exp().sum(dim=1).log() - logits[:, 3]

    mix = StepRandom(3, torch.device("cpu")).uniform(6)
    close(found["gradient_penalty"].detach(), gradient_penalty(logit, real["image"], fake, mix).detach())


@pytest.mark.parametrize(
    ("name", "keys"), [("acgan", {"lambda_class": 1.0, "classify_generated": True}), ("sgan", SGAN)]
)
def test_the_discriminator_has_a_logit_per_class_and_one_more(name: str, keys: dict[str, Any]) -> None:
    model = build(name, **keys)
    assert model.discriminator(torch.zeros(2, 1, 4, 4).double()).shape == (2, 4)
    assert model.discriminator.label is None
