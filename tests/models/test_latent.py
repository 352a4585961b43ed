"""The training step of models that start from noise: updates, options, and what is logged."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from tiny import CPU, Counted, Watched, build, image_batches, weights
from tiny_keys import LABELLED, OWN_KEYS, SPEC, WGAN_KEYS
from torch import Tensor

from gantrain.data.base import Batch
from gantrain.errors import ConfigError
from gantrain.models.losses.adversarial import gradient_penalty, r1_penalty
from gantrain.registry import MODELS
from gantrain.runtime.seeding import StepRandom, derive_seed

PLAIN = ["gan", "dcgan", "lsgan", "wgan", "wgan_gp"]


def batches_for(name: str, size: int = 6, seed: int = 1) -> Iterator[Batch]:
    return image_batches(size, seed=seed, labels=name in LABELLED)


# ---- updates of a step


def test_every_latent_model_is_tested() -> None:
    assert set(MODELS) >= set(OWN_KEYS) >= set(PLAIN + LABELLED)


@pytest.mark.parametrize("critic_steps", [1, 3])
@pytest.mark.parametrize("name", OWN_KEYS)
def test_a_step_is_critic_updates_followed_by_one_generator_update(name: str, critic_steps: int) -> None:
    model = build(name, critic_steps=critic_steps, **OWN_KEYS[name])
    update, batches = Watched(model), Counted(batches_for(name))
    losses = model.train_step(batches, update)
    assert batches.drawn == critic_steps
    assert [side for side, _ in update.log] == ["discriminator"] * critic_steps + ["generator"]
    for side, names in update.log:  # Exactly its own weights.
        own = {f"{side}.{key}" for key, _ in getattr(model, side).named_parameters()}
        if name in ("wgan", "wgan_gp"):  # the bias of the critic's output cancels in the Wasserstein loss
            names, own = names | {"discriminator.layers.2.bias"}, own | {"discriminator.layers.2.bias"}
        assert names == own
    assert {"d_real", "d_fake", "g"} <= set(losses)
    for value in losses.values():
        assert value.shape == ()
        assert not value.requires_grad
        assert value.isfinite()


@pytest.mark.parametrize("name", OWN_KEYS)
def test_the_terms_of_the_losses_are_logged(name: str) -> None:
    keys = OWN_KEYS[name] | {"gradient_penalty": 2.0, "r1": 3.0}
    model = build(name, **keys)
    update = Watched(model)
    losses = model.train_step(batches_for(name), update)
    (_, d_loss), (_, g_loss) = update.losses
    weight_of = {"gradient_penalty": 2.0, "r1": 1.5}  # r1 is gamma / 2
    if name == "acgan":
        weight_of |= {"d_class": 0.5, "g_class": 0.5}
    if name == "infogan":
        weight_of |= {"info_categorical": 0.5, "info_continuous": 0.1}
    d_terms = [key for key in losses if key.startswith("d_") or key in ("gradient_penalty", "r1")]
    g_terms = [key for key in losses if key not in d_terms]
    torch.testing.assert_close(sum(weight_of.get(key, 1.0) * losses[key] for key in g_terms), g_loss)
    if name != "infogan":  # Only the generator's information loss is logged.
        torch.testing.assert_close(sum(weight_of.get(key, 1.0) * losses[key] for key in d_terms), d_loss)


def test_each_critic_update_gets_a_new_batch_and_new_noise() -> None:
    model = build("gan", critic_steps=3)
    seen: list[Tensor] = []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    model.train_step(image_batches(), Watched(model))
    expected = [batch["image"] for batch in islice(image_batches(), 3)]
    reals, fakes = seen[0:6:2], seen[1:6:2]
    torch.testing.assert_close(reals, expected, atol=0, rtol=0)
    made = [*fakes, seen[6]]  # The last is for the generator's update.
    assert len(seen) == 7
    assert all(not torch.allclose(one, other) for i, one in enumerate(made) for other in made[:i])


def test_the_critic_schedule_of_wgan_is_that_of_the_authors_code() -> None:
    model = build(
        "wgan", **WGAN_KEYS | {"warmup_critic_steps": 100, "warmup_steps": 25, "warmup_every": 500, "critic_steps": 5}
    )
    at = {step: model.critic_steps_at(step) for step in (0, 1, 24, 25, 26, 100, 499, 500, 501, 524, 999, 1000, 1001)}
    warm = {step for step, count in at.items() if count == 100}
    assert warm == {0, 1, 24, 500, 1000}
    assert set(at.values()) == {5, 100}


@pytest.mark.parametrize(
    ("keys", "warm"),
    [
        ({"warmup_critic_steps": 0, "warmup_steps": 25, "warmup_every": 500}, []),
        ({"warmup_critic_steps": 9, "warmup_steps": 2, "warmup_every": 0}, [0, 1]),
        ({"warmup_critic_steps": 9, "warmup_steps": 0, "warmup_every": 0}, []),
        ({"warmup_critic_steps": 9, "warmup_steps": 0, "warmup_every": 3}, [0, 3]),
    ],
)
def test_each_part_of_the_critic_schedule_can_be_disabled(keys: dict[str, int], warm: list[int]) -> None:
    model = build("wgan", **WGAN_KEYS | keys | {"critic_steps": 2})
    assert [step for step in range(5) if model.critic_steps_at(step) == 9] == warm
    update = Watched(model)
    for step in range(2):
        batches = Counted(image_batches())
        update.begin(step, 0.0)
        model.train_step(batches, update)
        assert batches.drawn == (9 if step in warm else 2)


# ---- options


def d_loss(real: Batch, fake: Tensor, **keys: Any) -> tuple[Tensor, Any]:
    """The discriminator's loss of one update of a fixed initial model, and that model."""
    model, before = build("gan", **keys), build("gan", **keys)
    update = Watched(model)
    model.update_discriminator(real, fake, torch.zeros(6, 3).double(), None, update)
    return update.losses[0][1], before


def real_and_fake() -> tuple[Batch, Tensor]:
    return next(image_batches(seed=2)), next(image_batches(seed=3))["image"]


def test_the_gradient_penalty_is_added_with_its_weight() -> None:
    real, fake = real_and_fake()
    off, model = d_loss(real, fake)
    on, _ = d_loss(real, fake, gradient_penalty=7.0)
    penalty = gradient_penalty(model.discriminator, real["image"], fake, StepRandom(7, CPU).uniform(6))
    torch.testing.assert_close(on - off, 7 * penalty.detach())
    assert penalty > 0.01


def test_r1_is_added_with_half_its_gamma() -> None:
    real, fake = real_and_fake()
    off, model = d_loss(real, fake)
    on, _ = d_loss(real, fake, r1=7.0)
    penalty = r1_penalty(model.discriminator, real["image"])
    torch.testing.assert_close(on - off, 3.5 * penalty.detach())
    assert penalty > 0.01


def test_label_smoothing_changes_only_the_target_of_real_images() -> None:
    real, fake = real_and_fake()
    off, model = d_loss(real, fake)
    on, _ = d_loss(real, fake, label_smoothing=0.25)
    # softplus(-x) + s x against softplus(-x)
    torch.testing.assert_close(on - off, 0.25 * model.discriminator(real["image"]).detach().mean())


def test_penalties_with_a_weight_of_zero_are_not_logged() -> None:
    model = build("gan")
    losses = model.train_step(image_batches(), Watched(model))
    assert set(losses) == {"d_real", "d_fake", "g"}
    model = build("gan", gradient_penalty=1.0, r1=1.0)
    losses = model.train_step(image_batches(), Watched(model))
    assert set(losses) == {"d_real", "d_fake", "g", "gradient_penalty", "r1"}


def fakes_shown(pool_size: int, steps: int = 8) -> tuple[list[Tensor], list[Tensor]]:
    """The generated images that the discriminator gets in each step, and those that are generated for it."""
    model = build("gan", pool_size=pool_size)
    update, batches = Watched(model), image_batches()
    shown: list[Tensor] = []
    made: list[Tensor] = []
    model.generator.register_forward_hook(lambda _, inputs, output: made.append(output.detach()))
    model.discriminator.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].detach()))
    for step in range(steps):
        update.begin(step, 0.0)
        model.train_step(batches, update)
    return shown[1::3], made[0::2]


def test_with_a_pool_the_discriminator_also_gets_older_images() -> None:
    shown, made = fakes_shown(pool_size=0)
    torch.testing.assert_close(shown, made, atol=0, rtol=0)
    shown, made = fakes_shown(pool_size=4)
    earlier = torch.cat(made).flatten(1)
    assert all((earlier == image).all(dim=1).any() for image in torch.cat(shown).flatten(1))
    assert any(not torch.equal(one, other) for one, other in zip(shown, made, strict=True))


def test_ema_averages_the_generator_with_its_decay() -> None:
    model = build("gan", ema=0.75)
    update = Watched(model)
    first = weights(model.generator)
    model.train_step(image_batches(), update)
    last = weights(model.generator)
    with update.averaged():
        for name, value in weights(model.generator).items():
            torch.testing.assert_close(value, 0.75 * first[name] + 0.25 * last[name])


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"critic_steps": 0}, r"model\.critic_steps\b.* at least 1\b.*, got 0$"),
        ({"ema": 1.0}, r"model\.ema\b.* at least 0 and below 1, got 1\.0$"),
        ({"ema": -0.1}, r"model\.ema\b.* at least 0 and below 1, got -0\.1$"),
        ({"pool_size": -1}, r"model\.pool_size\b.* at least 0, got -1$"),
        (WGAN_KEYS | {"name": "wgan", "clip": -0.1}, r"model\.clip\b.* at least 0, got -0\.1$"),
        ({"loss": "logistics"}, r"model\.loss\b.*'logistics'.*'logistic'"),
        ({"loss": "hinge", "label_smoothing": 0.1}, r"model\.label_smoothing=0\.1 .*: set it to 0$"),
        ({"noise": "gauss"}, r"model\.noise\b.*'normal', 'uniform', got 'gauss'"),
    ],
)
def test_an_invalid_value_is_refused(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build(**{"name": "gan", **keys})


def test_a_clip_of_zero_clips_no_weights() -> None:
    model = build("wgan", **WGAN_KEYS | {"clip": 0.0})
    model.discriminator.layers[0].weight.data.fill_(5.0)
    model.train_step(image_batches(), Watched(model))
    assert model.discriminator.layers[0].weight.abs().max() > 4


def test_a_step_depends_only_on_the_seed_and_its_number() -> None:
    one, other = build("gan"), build("gan")
    torch.manual_seed(5)
    updates = [Watched(one), Watched(other)]
    for model, update in zip((one, other), updates, strict=True):
        torch.rand(int(update is updates[1]) * 3 + 1)  # The global random state differs.
        update.begin(4, 0.0)
        model.train_step(image_batches(), update)
    torch.testing.assert_close(weights(one), weights(other), atol=0, rtol=0)
    assert derive_seed(7, "draws", 4) != derive_seed(7, "draws", 5)


# ---- CGAN
def test_both_networks_of_a_cgan_get_the_labels() -> None:
    model = build("cgan", gradient_penalty=1.0)
    asked: list[Tensor] = []
    inputs_of_discriminator: list[tuple[Tensor, Tensor]] = []
    model.generator.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[1]))
    model.discriminator.register_forward_pre_hook(lambda _, inputs: inputs_of_discriminator.append(inputs))
    batch = next(image_batches(labels=True))
    model.train_step(iter([batch]), Watched(model))
    (_, of_real), (_, of_fake), (points, of_points), (_, of_last) = inputs_of_discriminator
    assert torch.equal(of_real, batch["label"])
    assert torch.equal(of_fake, asked[0])
    assert points.shape == batch["image"].shape
    assert torch.equal(of_points, batch["label"])
    assert torch.equal(of_last, asked[1])
    assert not torch.equal(asked[0], asked[1])


def test_only_a_cgans_networks_have_an_embedding_of_labels() -> None:
    assert build("cgan").discriminator.label.num_embeddings == SPEC.num_classes
    assert build("cgan").generator.label.num_embeddings == SPEC.num_classes
    assert build("gan").discriminator.label is None
    assert build("gan").generator.label is None
