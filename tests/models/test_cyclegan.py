"""CycleGAN and DiscoGAN, compared with the algorithms of their papers written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_same_bits
from omegaconf import OmegaConf
from tiny import (
    CPU,
    AdamByHand,
    Counted,
    Watched,
    adam_updates,
    build_translator,
    dcgan_discriminator,
    play,
    translation_batches,
    unet,
    weights,
)
from tiny_keys import PAIRS
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.data.base import Batch, ImageSpec
from gantrain.errors import ConfigError
from gantrain.runtime.seeding import StepRandom

UNLIKE = ImageSpec(height=32, width=32, channels={"a": 1, "b": 3}, depth={"a": "uint8", "b": "uint8"})
Criterion = Callable[[Tensor, bool], Tensor]  # The logits, and whether the target is "real".
CRITERIA: dict[str, Criterion] = {
    "logistic": lambda x, real: F.binary_cross_entropy_with_logits(x, torch.full_like(x, float(real))),
    "least_squares": lambda x, real: F.mse_loss(x, torch.full_like(x, float(real))),
}
# By the names in the authors' code: D_A discriminates the outputs of G_A, which are images of b.
CODE_NAMES = {"g_a": "generator_ab", "g_b": "generator_ba", "d_a": "discriminator_b", "d_b": "discriminator_a"}


def copies(model: Any) -> dict[str, nn.Module]:
    return {name: deepcopy(getattr(model, ours)) for name, ours in CODE_NAMES.items()}


def play_by_hand(
    networks: dict[str, nn.Module], batches: Iterator[Batch], criterion: Criterion, identity: float, steps: int
) -> list[dict[str, float]]:
    """Zhu et al. 2017, arXiv:1703.10593, with lambdas of 10 and 7 and no pool; the networks are changed.

    Returns:
        The losses of each step.
    """
    g_a, g_b, d_a, d_b = networks["g_a"], networks["g_b"], networks["d_a"], networks["d_b"]
    of_g = AdamByHand([*g_a.parameters(), *g_b.parameters()])
    of_d = AdamByHand([*d_a.parameters(), *d_b.parameters()])
    logged = []
    for _ in range(steps):
        batch = next(batches)
        a, b = batch["a"], batch["b"]
        fake_b, fake_a = g_a(a), g_b(b)
        terms = {
            "g_a": criterion(d_a(fake_b), True),
            "g_b": criterion(d_b(fake_a), True),
            "cycle_a": 10 * (g_b(fake_b) - a).abs().mean(),
            "cycle_b": 7 * (g_a(fake_a) - b).abs().mean(),
            "idt_a": 7 * identity * (g_a(b) - b).abs().mean() if identity else torch.zeros(()).double(),
            "idt_b": 10 * identity * (g_b(a) - a).abs().mean() if identity else torch.zeros(()).double(),
        }
        of_g.step(sum(terms.values()))
        terms["d_a"] = (criterion(d_a(b), True) + criterion(d_a(fake_b.detach()), False)) * 0.5
        terms["d_b"] = (criterion(d_b(a), True) + criterion(d_b(fake_a.detach()), False)) * 0.5
        of_d.step(terms["d_a"] + terms["d_b"])
        logged.append({key: value.item() for key, value in terms.items()})
    return logged


# Half of all combinations: every three values of different keys are in one of them.
@pytest.mark.parametrize(
    ("identity", "size", "loss", "norm"),
    [
        (0.5, 1, "logistic", "instance"),
        (0.5, 1, "least_squares", "batch"),
        (0.5, 2, "logistic", "batch"),
        (0.5, 2, "least_squares", "instance"),
        (0.0, 1, "logistic", "batch"),
        (0.0, 1, "least_squares", "instance"),
        (0.0, 2, "logistic", "instance"),
        (0.0, 2, "least_squares", "batch"),
    ],
)
def test_five_steps_are_those_of_the_paper(identity: float, size: int, loss: str, norm: str) -> None:
    spec = PAIRS if identity else UNLIKE
    model = build_translator("cyclegan", spec=spec, loss=loss, norm=norm, lambda_identity=identity)
    networks, first = copies(model), copies(model)
    expected = play_by_hand(networks, translation_batches(size, spec=spec), CRITERIA[loss], identity, 5)
    logged = play(model, translation_batches(size, spec=spec), adam_updates(model), 5)
    torch.testing.assert_close(logged, expected, atol=1e-9, rtol=0)
    batch = next(translation_batches(2, spec=spec, seed=5))
    for name, source in (("g_a", "a"), ("g_b", "b"), ("d_a", "b"), ("d_b", "a")):
        ours, by_hand = getattr(model, CODE_NAMES[name]), networks[name]
        made = ours(batch[source])
        torch.testing.assert_close(made, by_hand(batch[source]), atol=1e-6, rtol=0)
        assert (made - first[name](batch[source])).abs().max() > 0.01  # Otherwise the line before would test nothing.


def test_a_step_updates_the_generators_then_the_discriminators() -> None:
    model = build_translator("cyclegan", norm="none")
    assert model.generators() == [model.generator_ab, model.generator_ba]
    assert model.discriminators() == [model.discriminator_b, model.discriminator_a]
    update, batches = Watched(model), Counted(translation_batches(2))
    model.train_step(batches, update)
    assert batches.drawn == 1
    assert [side for side, _ in update.log] == ["generator", "discriminator"]
    for side, moved in update.log:
        assert moved == {name for name, _ in model.named_parameters() if name.startswith(side)}


def test_the_terms_of_the_losses_are_logged() -> None:
    model = build_translator("cyclegan", gradient_penalty=3.0)
    update = Watched(model)
    losses = model.train_step(translation_batches(2), update)
    (_, g_loss), (_, d_loss) = update.losses
    terms = ["g_a", "g_b", "cycle_a", "cycle_b", "idt_a", "idt_b"]
    assert set(losses) == {*terms, "d_a", "d_b"}
    torch.testing.assert_close(sum(losses[key] for key in terms), g_loss)
    torch.testing.assert_close(losses["d_a"] + losses["d_b"], d_loss)


# ---- pools


class Shown:
    """The inputs of each discriminator, and the outputs of each generator."""

    def __init__(self, model: Any) -> None:
        self.made: dict[str, list[Tensor]] = {"a": [], "b": []}
        self.inputs: dict[str, list[Tensor]] = {"a": [], "b": []}
        for generator, domain in ((model.generator_ab, "b"), (model.generator_ba, "a")):
            generator.register_forward_hook(lambda _, i, o, domain=domain: self.made[domain].append(o.detach()))
        for discriminator, domain in ((model.discriminator_b, "b"), (model.discriminator_a, "a")):
            discriminator.register_forward_pre_hook(
                lambda _, i, domain=domain: self.inputs[domain].append(i[0].detach())
            )

    def take(self, domain: str) -> tuple[Tensor, Tensor]:
        """The generated images of this step, and the last input of the discriminator."""
        made, inputs = self.made[domain], self.inputs[domain]
        assert len(inputs) == 3
        (made,) = [images for images in made if torch.equal(inputs[0], images)]
        self.made[domain], self.inputs[domain] = [], []
        return made, inputs[2]


def test_each_discriminator_is_trained_on_images_of_its_own_pool() -> None:
    model = build_translator("cyclegan", pool_size=2)
    update, batches, shown = adam_updates(model), translation_batches(1), Shown(model)
    pools = {"a": model.pool_a, "b": model.pool_b}
    stored: dict[str, list[Tensor]] = {"a": [], "b": []}  # The expected contents of each pool.
    exchanged = {"a": [], "b": []}
    for step in range(12):
        play(model, batches, update, steps=1, start=step)
        for domain, pool in pools.items():
            made, inputs = shown.take(domain)
            old, stored[domain] = stored[domain], [row[0] for row in pool.get_extra_state()]
            if step < 2:  # The pool is filled first.
                assert torch.equal(inputs, made)
                expected = [*old, made[0]]
            else:
                places = [place for place, image in enumerate(old) if torch.equal(image, inputs[0])]
                exchanged[domain].append(bool(places))
                assert places or torch.equal(inputs, made)
                expected = [made[0] if place in places else image for place, image in enumerate(old)]
            assert_same_bits(stored[domain], expected)
    for choices in exchanged.values():
        assert set(choices) == {True, False}
    assert exchanged["a"] != exchanged["b"]


def test_a_model_with_pools_resumes_bit_identically() -> None:
    def state(model: Any, update: Any, logged: list[dict[str, float]]) -> dict[str, Any]:
        return {"model": dict(model.state_dict()), "update": update.state_dict(), "logged": logged}

    def fresh(seed: int) -> tuple[Any, Any, Iterator[Batch]]:
        model = build_translator("cyclegan", pool_size=2, norm="batch", dropout=0.5, ema=0.9, seed=seed)
        return model, adam_updates(model), translation_batches(1)

    model, update, batches = fresh(seed=0)
    play(model, batches, update, steps=4)
    half = deepcopy(state(model, update, []))
    assert [len(half["model"][f"pool_{domain}._extra_state"]) for domain in "ab"] == [2, 2]
    whole = state(model, update, play(model, batches, update, steps=4, start=4))

    model, update, batches = fresh(seed=3)
    play(model, batches, update, steps=4)  # Another history, with other images in the pools.
    model.load_state_dict(half["model"])
    update.load_state_dict(half["update"])
    assert_same_bits(state(model, update, play(model, batches, update, steps=4, start=4)), whole)


# ---- options
def first_step(**keys: Any) -> tuple[dict[str, Tensor], list[tuple[str, Tensor]], Any, Batch]:
    """Losses of the first step, those that the updates were given, the model before its step, and the batch."""
    model = build_translator("cyclegan", **keys)
    before, update = deepcopy(model), Watched(model)
    batch = next(translation_batches(2))
    return model.train_step(iter([batch]), update), update.losses, before, batch


def test_a_squared_cycle_loss_leaves_the_identity_loss_absolute() -> None:
    losses, _, model, batch = first_step(cycle_loss="l2")
    a, b, ab, ba = batch["a"], batch["b"], model.generator_ab, model.generator_ba
    expected = {
        "cycle_a": 10 * (ba(ab(a)) - a).square().mean(),
        "cycle_b": 7 * (ab(ba(b)) - b).square().mean(),
        "idt_a": 3.5 * (ab(b) - b).abs().mean(),
        "idt_b": 5 * (ba(a) - a).abs().mean(),
    }
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value.detach())


def test_label_smoothing_changes_only_the_target_of_real_images() -> None:
    off, _, model, batch = first_step(loss="logistic")
    on, _, _, _ = first_step(loss="logistic", label_smoothing=0.25)
    for loss, discriminator, domain in (("d_a", model.discriminator_b, "b"), ("d_b", model.discriminator_a, "a")):
        # softplus(-x) + s x against softplus(-x), and half of it
        torch.testing.assert_close(on[loss] - off[loss], 0.25 * discriminator(batch[domain]).detach().mean() / 2)
    for key in ("g_a", "g_b", "cycle_a", "idt_a"):
        torch.testing.assert_close(on[key], off[key], atol=0, rtol=0)


def test_the_gradient_penalty_of_each_discriminator_is_not_halved() -> None:
    off, _, model, batch = first_step(loss="wasserstein", gradient_penalty=1e-300)
    on, _, _, _ = first_step(loss="wasserstein", gradient_penalty=7.0)
    draws = StepRandom(7, CPU)
    made = {"b": model.generator_ab(batch["a"]), "a": model.generator_ba(batch["b"])}
    for loss, discriminator, domain in (("d_a", model.discriminator_b, "b"), ("d_b", model.discriminator_a, "a")):
        real, fake = batch[domain], made[domain].detach()
        share = draws.uniform(2).double()[:, None, None, None]
        points = (share * real + (1 - share) * fake).requires_grad_()
        (slopes,) = torch.autograd.grad(discriminator(points).sum(), points)
        norms = slopes.square().sum(dim=(1, 2, 3)).sqrt()
        torch.testing.assert_close(on[loss] - off[loss], 7 * ((norms - 1) ** 2).mean())
        torch.testing.assert_close(off[loss], (discriminator(fake).mean() - discriminator(real).mean()).detach() / 2)


def test_an_identity_loss_between_different_channels_is_refused() -> None:
    text = r"model\.lambda_identity\b.*0\.5.* 1 and 3 channels: set it to 0"
    with pytest.raises(ConfigError, match=text):
        build_translator("cyclegan", spec=UNLIKE)
    model = build_translator("cyclegan", spec=UNLIKE, lambda_identity=0.0)
    batch = next(translation_batches(1, spec=UNLIKE))
    assert model.generator_ab(batch["a"]).shape == batch["b"].shape
    assert model.generator_ba(batch["b"]).shape == batch["a"].shape
    assert "idt_b" not in model.results(batch, "a_to_b")


def test_with_the_values_of_discogan_yaml_a_step_is_that_of_discogan() -> None:
    """Kim et al. 2017, arXiv:1703.05192, section 2.3: mean squared reconstruction errors, logistic losses, halved."""
    path = Path(str(resources.files("gantrain.configs"))) / "model" / "discogan.yaml"
    keys: Any = OmegaConf.to_container(OmegaConf.load(path).model)
    assert keys.pop("name") == "cyclegan"
    encoder_decoder = {"generator": lambda **sizes: unet(skips=False, **sizes), "discriminator": dcgan_discriminator}
    losses, _, model, batch = first_step(**encoder_decoder, norm="batch", **keys)
    assert set(losses) == {"g_a", "g_b", "cycle_a", "cycle_b", "idt_a", "idt_b", "d_a", "d_b"}
    assert not losses["idt_a"]
    assert not losses["idt_b"]
    a, b, ab, ba = batch["a"], batch["b"], model.generator_ab, model.generator_ba
    fake_b = ab(a).detach()
    judged_b, judged_fake = model.discriminator_b(b), model.discriminator_b(fake_b)
    assert judged_b.shape == (2, 1)  # One logit per image.
    torch.testing.assert_close(losses["g_a"], -judged_fake.sigmoid().log().mean().detach())
    torch.testing.assert_close(losses["cycle_a"], ((ba(fake_b) - a) ** 2).mean().detach())
    torch.testing.assert_close(losses["cycle_b"], ((ab(ba(b)) - b) ** 2).mean().detach())
    real, fake = -judged_b.sigmoid().log().mean(), -(1 - judged_fake.sigmoid()).log().mean()
    torch.testing.assert_close(losses["d_a"], ((real + fake) / 2).detach())


def test_ema_averages_both_generators_with_its_decay() -> None:
    model = build_translator("cyclegan", ema=0.75, norm="none")
    update = adam_updates(model, lr=0.01)
    first = [weights(network) for network in model.generators()]
    play(model, translation_batches(1), update, steps=1)
    last = [weights(network) for network in model.generators()]
    discriminators = [weights(network) for network in model.discriminators()]
    with update.averaged():
        for network, before, after in zip(model.generators(), first, last, strict=True):
            assert before
            for name, value in weights(network).items():
                assert not torch.equal(before[name], after[name])
                torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * after[name])
        torch.testing.assert_close([weights(n) for n in model.discriminators()], discriminators, atol=0, rtol=0)
    torch.testing.assert_close([weights(network) for network in model.generators()], last, atol=0, rtol=0)
