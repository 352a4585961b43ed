"""The step that starts from noise, against the papers' algorithms written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from tiny import CPU, LABELLED, OWN_KEYS, SPEC, WGAN_KEYS, Counted, Watched, build, image_batches, updates_of, weights
from torch import Tensor

from gantrain.data.base import Batch
from gantrain.errors import ConfigError
from gantrain.models.losses import gradient_penalty, r1_penalty
from gantrain.optim.optimizers import Adam, RMSprop
from gantrain.registry import MODELS
from gantrain.runtime.seeding import StepRandom, derive_seed

PLAIN = ["gan", "dcgan", "lsgan", "wgan", "wgan_gp"]


def batches_for(name: str, size: int = 6, seed: int = 1) -> Iterator[Batch]:
    return image_batches(size, seed=seed, labels=name in LABELLED)


# ---- by hand: both networks are two linear layers with LeakyReLU 0.2 between

Weights = list[Tensor]  # first weight and bias, second weight and bias


def layers(weights_of: Weights, x: Tensor) -> Tensor:
    w1, b1, w2, b2 = weights_of
    hidden = x @ w1.T + b1
    return torch.where(hidden > 0, hidden, 0.2 * hidden) @ w2.T + b2


def image_slopes(critic: Weights, x: Tensor) -> Tensor:
    """The gradient of the only logit in x, in closed form: w2 times the activation's slope, through w1."""
    w1, b1, w2, _ = critic
    return (torch.where(x @ w1.T + b1 > 0, 1.0, 0.2) * w2) @ w1


def fresh(module: torch.nn.Module) -> Weights:
    return [parameter.detach().clone().requires_grad_() for parameter in module.parameters()]


Rule = Callable[[int, Tensor, dict[str, Tensor]], Tensor]  # number of the update, gradient and memory to the change


def descend(rule: Rule, weights_of: Weights, memories: list[dict[str, Tensor]], number: int, loss: Tensor) -> Weights:
    slopes = torch.autograd.grad(loss, weights_of)
    return [
        (weight - rule(number, slope, memory)).detach().requires_grad_()
        for weight, slope, memory in zip(weights_of, slopes, memories, strict=True)
    ]


def rmsprop_rule(lr: float, alpha: float) -> Rule:
    def rule(number: int, slope: Tensor, memory: dict[str, Tensor]) -> Tensor:
        memory["square"] = alpha * memory.get("square", torch.zeros_like(slope)) + (1 - alpha) * slope**2
        return lr * slope / (memory["square"].sqrt() + 1e-8)

    return rule


def adam_rule(lr: float, beta1: float, beta2: float) -> Rule:
    def rule(number: int, slope: Tensor, memory: dict[str, Tensor]) -> Tensor:
        memory["mean"] = beta1 * memory.get("mean", torch.zeros_like(slope)) + (1 - beta1) * slope
        memory["square"] = beta2 * memory.get("square", torch.zeros_like(slope)) + (1 - beta2) * slope**2
        mean, square = memory["mean"] / (1 - beta1**number), memory["square"] / (1 - beta2**number)
        return lr * mean / (square.sqrt() + 1e-8)

    return rule


def play_by_hand(
    model: Any,
    rule: Rule,
    *,
    critic_steps: int,
    critic_loss: Callable[[Weights, Tensor, Tensor, StepRandom], Tensor],
    generator_loss: Callable[[Tensor], Tensor],
    after_critic: Callable[[Tensor], Tensor] = lambda weight: weight,
    steps: int = 1,
) -> tuple[Weights, Weights]:
    """Generator and critic after some steps on the batches and the noise that the model would have had."""
    generator, critic = fresh(model.generator), fresh(model.discriminator)
    memories = [[{} for _ in range(4)] for _ in range(2)]
    batches, draws, number = image_batches(), StepRandom(7, CPU), 0
    for step in range(steps):
        draws.start(step)
        for _ in range(critic_steps):
            number += 1
            real = next(batches)["image"].flatten(1)
            fake = layers(generator, draws.normal(6, 3).double()).tanh().detach()
            critic = descend(rule, critic, memories[1], number, critic_loss(critic, real, fake, draws))
            critic = [after_critic(weight).detach().requires_grad_() for weight in critic]
        fake = layers(generator, draws.normal(6, 3).double()).tanh()
        generator = descend(rule, generator, memories[0], step + 1, generator_loss(layers(critic, fake)))
    return generator, critic


def play(model: Any, generator: Any, discriminator: Any, steps: int = 1) -> tuple[Weights, Weights]:
    """The same steps by the model itself."""
    update, batches = updates_of(generator, discriminator), image_batches()
    for step in range(steps):
        update.begin(step, step / steps)
        model.train_step(batches, update)
    return [list(network.parameters()) for network in (model.generator, model.discriminator)]


def assert_equal_play(actual: tuple[Weights, Weights], expected: tuple[Weights, Weights]) -> None:
    for side, by_hand in zip(actual, expected, strict=True):
        # optimizers divide the rounding errors of gradients near zero by their epsilon of 1e-8
        torch.testing.assert_close(side, by_hand, atol=1e-8, rtol=0)


def test_a_wgan_step_is_algorithm_1() -> None:
    """Arjovsky et al. 2017, arXiv:1701.07875: RMSProp, and clipping after every update of the critic."""

    def side(network: torch.nn.Module) -> RMSprop:
        return RMSprop(params=list(network.parameters()), lr=0.02, alpha=0.99, momentum=0.0)

    model = build("wgan", critic_steps=3, **WGAN_KEYS)
    expected = play_by_hand(
        model,
        rmsprop_rule(0.02, 0.99),
        critic_steps=3,
        critic_loss=lambda f, real, fake, _: -(layers(f, real).mean() - layers(f, fake).mean()),
        generator_loss=lambda logits: -logits.mean(),
        after_critic=lambda weight: weight.clamp(-0.3, 0.3),
        steps=2,
    )
    assert_equal_play(play(model, side(model.generator), side(model.discriminator), steps=2), expected)
    size = torch.cat([weight.flatten() for weight in model.discriminator.parameters()]).abs()
    assert (size == 0.3).any()  # some were clipped,
    assert (size < 0.29).any()  # others not
    assert max(weight.abs().max() for weight in model.generator.parameters()) > 0.3  # and no generator's


def test_a_wgan_gp_step_is_algorithm_1() -> None:
    """Gulrajani et al. 2017, arXiv:1704.00028: Adam, and the penalty at random points between real and generated."""

    def side(network: torch.nn.Module) -> Adam:
        return Adam(params=list(network.parameters()), fused=False, lr=0.02, betas=[0.0, 0.9], weight_decay=0.0)

    def critic_loss(f: Weights, real: Tensor, fake: Tensor, draws: StepRandom) -> Tensor:
        epsilon = draws.uniform(6).double()[:, None]
        norms = image_slopes(f, epsilon * real + (1 - epsilon) * fake).square().sum(dim=1).sqrt()
        return layers(f, fake).mean() - layers(f, real).mean() + 10 * (norms - 1).square().mean()

    model = build("wgan_gp", critic_steps=3, **OWN_KEYS["wgan_gp"])
    expected = play_by_hand(
        model,
        adam_rule(0.02, 0.0, 0.9),
        critic_steps=3,
        critic_loss=critic_loss,
        generator_loss=lambda logits: -logits.mean(),
        steps=2,
    )
    assert_equal_play(play(model, side(model.generator), side(model.discriminator), steps=2), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_dcgan_step_is_the_logistic_game(smoothing: float) -> None:
    """Goodfellow et al. 2014, arXiv:1406.2661: log D(x) + log(1 - D(G(z))), then the generator's log D(G(z))."""

    def side(network: torch.nn.Module) -> Adam:
        return Adam(params=list(network.parameters()), fused=False, lr=0.02, betas=[0.5, 0.999], weight_decay=0.0)

    def critic_loss(d: Weights, real: Tensor, fake: Tensor, _: StepRandom) -> Tensor:
        for_real, for_fake = layers(d, real).sigmoid(), layers(d, fake).sigmoid()
        target = 1 - smoothing
        real_term = -(target * for_real.log() + (1 - target) * (1 - for_real).log()).mean()
        return real_term - (1 - for_fake).log().mean()

    model = build("dcgan", label_smoothing=smoothing)
    expected = play_by_hand(
        model,
        adam_rule(0.02, 0.5, 0.999),
        critic_steps=1,
        critic_loss=critic_loss,
        generator_loss=lambda logits: -logits.sigmoid().log().mean(),
        steps=3,
    )
    assert_equal_play(play(model, side(model.generator), side(model.discriminator), steps=3), expected)


# ---- who plays, and how often


def test_every_model_is_checked_below() -> None:
    assert set(MODELS) >= set(OWN_KEYS) >= set(PLAIN + LABELLED)


@pytest.mark.parametrize("critic_steps", [1, 3])
@pytest.mark.parametrize("name", OWN_KEYS)
def test_a_step_is_some_critic_updates_then_one_of_the_generator(name: str, critic_steps: int) -> None:
    model = build(name, critic_steps=critic_steps, **OWN_KEYS[name])
    update, batches = Watched(model), Counted(batches_for(name))
    losses = model.train_step(batches, update)
    assert batches.drawn == critic_steps
    assert [side for side, _ in update.log] == ["discriminator"] * critic_steps + ["generator"]
    for side, names in update.log:  # its own weights, every one of them, and nobody else's
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
def test_what_is_logged_are_the_terms_of_the_losses(name: str) -> None:
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
    if name != "infogan":  # whose discriminator's information loss is not logged beside the generator's
        torch.testing.assert_close(sum(weight_of.get(key, 1.0) * losses[key] for key in d_terms), d_loss)


def test_each_critic_update_sees_a_fresh_batch_and_fresh_noise() -> None:
    model = build("gan", critic_steps=3)
    seen: list[Tensor] = []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    model.train_step(image_batches(), Watched(model))
    expected = [batch["image"] for batch in islice(image_batches(), 3)]
    reals, fakes = seen[0:6:2], seen[1:6:2]
    torch.testing.assert_close(reals, expected, atol=0, rtol=0)
    made = [*fakes, seen[6]]  # the last is for the generator's update
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
def test_each_part_of_the_critic_schedule_can_be_off(keys: dict[str, int], warm: list[int]) -> None:
    model = build("wgan", **WGAN_KEYS | keys | {"critic_steps": 2})
    assert [step for step in range(5) if model.critic_steps_at(step) == 9] == warm
    update = Watched(model)
    for step in range(2):
        batches = Counted(image_batches())
        update.begin(step, 0.0)
        model.train_step(batches, update)
        assert batches.drawn == (9 if step in warm else 2)


# ---- what can be switched on


def d_loss(real: Batch, fake: Tensor, **keys: Any) -> tuple[Tensor, Any]:
    """The discriminator's loss of one update from a fixed start, and the model before it."""
    model, before = build("gan", **keys), build("gan", **keys)
    update = Watched(model)
    model.update_discriminator(real, fake, torch.zeros(6, 3).double(), None, update)
    return update.losses[0][1], before


def real_and_fake() -> tuple[Batch, Tensor]:
    return next(image_batches(seed=2)), next(image_batches(seed=3))["image"]


def test_the_gradient_penalty_joins_the_loss_with_its_weight() -> None:
    real, fake = real_and_fake()
    off, model = d_loss(real, fake)
    on, _ = d_loss(real, fake, gradient_penalty=7.0)
    penalty = gradient_penalty(model.discriminator, real["image"], fake, StepRandom(7, CPU).uniform(6))
    torch.testing.assert_close(on - off, 7 * penalty.detach())
    assert penalty > 0.01


def test_r1_joins_the_loss_with_half_its_gamma() -> None:
    real, fake = real_and_fake()
    off, model = d_loss(real, fake)
    on, _ = d_loss(real, fake, r1=7.0)
    penalty = r1_penalty(model.discriminator, real["image"])
    torch.testing.assert_close(on - off, 3.5 * penalty.detach())
    assert penalty > 0.01


def test_label_smoothing_moves_the_target_of_real_images_alone() -> None:
    real, fake = real_and_fake()
    off, model = d_loss(real, fake)
    on, _ = d_loss(real, fake, label_smoothing=0.25)
    # softplus(-x) + s x against softplus(-x)
    torch.testing.assert_close(on - off, 0.25 * model.discriminator(real["image"]).detach().mean())


def test_penalties_that_are_off_are_neither_computed_nor_logged() -> None:
    model = build("gan")
    losses = model.train_step(image_batches(), Watched(model))
    assert set(losses) == {"d_real", "d_fake", "g"}
    model = build("gan", gradient_penalty=1.0, r1=1.0)
    losses = model.train_step(image_batches(), Watched(model))
    assert set(losses) == {"d_real", "d_fake", "g", "gradient_penalty", "r1"}


def fakes_shown(pool_size: int, steps: int = 8) -> tuple[list[Tensor], list[Tensor]]:
    """Per step, the generated images that the discriminator was shown, and those that were made for it."""
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


def test_with_a_pool_the_discriminator_is_shown_older_images_too() -> None:
    shown, made = fakes_shown(pool_size=0)
    torch.testing.assert_close(shown, made, atol=0, rtol=0)
    shown, made = fakes_shown(pool_size=4)
    earlier = torch.cat(made).flatten(1)
    assert all((earlier == image).all(dim=1).any() for image in torch.cat(shown).flatten(1))
    assert any(not torch.equal(one, other) for one, other in zip(shown, made, strict=True))


def test_ema_asks_for_averages_of_the_generator_by_its_decay() -> None:
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
        ({"critic_steps": 0}, r"model\.critic_steps: expected a whole number at least 1 and at most [\d,]+, got 0"),
        ({"ema": 1.0}, r"model\.ema: expected a number at least 0 and below 1, got 1\.0"),
        ({"ema": -0.1}, r"model\.ema: expected a number at least 0 and below 1, got -0\.1"),
        ({"pool_size": -1}, r"model\.pool_size: expected a whole number at least 0, got -1"),
        (WGAN_KEYS | {"name": "wgan", "clip": -0.1}, r"model\.clip: expected a number at least 0, got -0\.1"),
        ({"loss": "logistics"}, r"model\.loss: no adversarial loss 'logistics'; did you mean 'logistic'\?"),
        ({"loss": "hinge", "label_smoothing": 0.1}, r"model\.label_smoothing=0\.1 has no meaning .*: set it to 0"),
        ({"noise": "gauss"}, r"model\.noise: expected one of 'normal', 'uniform', got 'gauss'"),
    ],
)
def test_a_value_without_meaning_is_refused(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{text}$"):
        build(**{"name": "gan", **keys})


def test_a_clip_of_zero_clips_nothing() -> None:
    model = build("wgan", **WGAN_KEYS | {"clip": 0.0})
    model.discriminator.layers[0].weight.data.fill_(5.0)
    model.train_step(image_batches(), Watched(model))
    assert model.discriminator.layers[0].weight.abs().max() > 4


# ---- noise and samples


def test_normal_noise_is_n_0_1_and_uniform_noise_fills_minus_one_to_one() -> None:
    normal, labels = build("gan", noise="normal").draw(20_000, StepRandom(1, CPU))
    uniform, _ = build("gan", noise="uniform").draw(20_000, StepRandom(1, CPU))
    assert labels is None
    assert normal.shape == uniform.shape == (20_000, 3)
    assert normal.dtype == uniform.dtype == torch.float64
    # 60,000 numbers: five standard errors of a mean are 0.02, of a standard deviation less
    torch.testing.assert_close((normal.mean().item(), normal.std().item()), (0.0, 1.0), atol=0.02, rtol=0)
    torch.testing.assert_close((uniform.mean().item(), uniform.std().item()), (0.0, 3**-0.5), atol=0.02, rtol=0)
    assert -1 <= uniform.min() < -0.999
    assert 0.999 < uniform.max() <= 1


@pytest.mark.parametrize("name", LABELLED)
def test_labels_are_drawn_from_all_classes_alike(name: str) -> None:
    latent, labels = build(name, **OWN_KEYS[name]).draw(9_000, StepRandom(1, CPU))
    assert latent.shape == (9_000, 3)
    # standard error of a share: sqrt(1/3 * 2/3 / 9000) = 0.005
    torch.testing.assert_close(labels.bincount() / 9_000, torch.full((3,), 1 / 3), atol=0.025, rtol=0)


def test_latents_depend_on_their_seed_alone() -> None:
    model = build("gan")
    first = model.latents(4, seed=3)
    model.train_step(image_batches(), Watched(model))
    torch.rand(5)
    assert torch.equal(model.latents(4, seed=3), first)
    assert not torch.equal(model.latents(4, seed=4), first)


def test_the_grid_shows_the_same_noise_all_along_and_after_a_resumption() -> None:
    model = build("gan")
    shown = model.visuals({})["samples"]
    assert shown.shape == (100, 1, 4, 4)
    torch.testing.assert_close(shown, model.sample(model.preview_latent), atol=0, rtol=0)
    torch.testing.assert_close(model.visuals({})["samples"], shown, atol=0, rtol=0)
    other = build("gan", seed=9)
    assert not torch.equal(other.preview_latent, model.preview_latent)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.visuals({})["samples"], shown, atol=0, rtol=0)


@pytest.mark.parametrize("name", LABELLED)
def test_the_grid_has_a_row_for_each_class_on_the_same_noise(name: str) -> None:
    model = build(name, **OWN_KEYS[name])
    assert model.preview_labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    rows = model.preview_latent.view(3, 10, 3)
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[0], rows[2])
    assert len(torch.unique(rows[0], dim=0)) == 10
    assert model.visuals({})["samples"].shape == (30, 1, 4, 4)


def test_labels_must_be_given_where_they_are_used_and_only_there() -> None:
    latent = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ConfigError, match="^this model needs labels: one class number per latent vector$"):
        build("cgan").sample(latent)
    with pytest.raises(ConfigError, match="without labels$"):
        build("gan").sample(latent, torch.tensor([0, 1]))


def test_samples_carry_no_gradient_and_leave_torchs_numbers_alone() -> None:
    model = build("gan")
    before = torch.get_rng_state()
    assert not model.sample(model.latents(2, seed=0)).requires_grad
    assert torch.equal(torch.get_rng_state(), before)


def test_a_step_depends_on_the_seed_and_its_number_alone() -> None:
    one, other = build("gan"), build("gan")
    torch.manual_seed(5)
    updates = [Watched(one), Watched(other)]
    for model, update in zip((one, other), updates, strict=True):
        torch.rand(int(update is updates[1]) * 3 + 1)  # whatever happened before
        update.begin(4, 0.0)
        model.train_step(image_batches(), update)
    torch.testing.assert_close(weights(one), weights(other), atol=0, rtol=0)
    assert derive_seed(7, "draws", 4) != derive_seed(7, "draws", 5)


# ---- CGAN


def test_both_networks_of_a_cgan_are_told_the_labels() -> None:
    model = build("cgan", gradient_penalty=1.0)
    asked: list[Tensor] = []
    judged: list[tuple[Tensor, Tensor]] = []
    model.generator.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[1]))
    model.discriminator.register_forward_pre_hook(lambda _, inputs: judged.append(inputs))
    batch = next(image_batches(labels=True))
    model.train_step(iter([batch]), Watched(model))
    (_, of_real), (_, of_fake), (points, of_points), (_, of_last) = judged
    assert torch.equal(of_real, batch["label"])
    assert torch.equal(of_fake, asked[0])
    assert points.shape == batch["image"].shape
    assert torch.equal(of_points, batch["label"])
    assert torch.equal(of_last, asked[1])
    assert not torch.equal(asked[0], asked[1])


def test_a_cgans_discriminator_is_sized_for_its_classes_and_others_are_not() -> None:
    assert build("cgan").discriminator.label.num_embeddings == SPEC.num_classes
    assert build("cgan").generator.label.num_embeddings == SPEC.num_classes
    assert build("gan").discriminator.label is None
    assert build("gan").generator.label is None
