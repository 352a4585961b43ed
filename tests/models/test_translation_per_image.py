"""Models that translate: each image is translated independently of its batch."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from conftest import assert_same_bits
from tiny import (
    CPU,
    adam_updates,
    build_translator,
    play,
    translation_batches,
    unet,
)
from translation_batches import noise, part

from gantrain.data.base import ImageSpec
from gantrain.models.translation import in_mode, names_of
from gantrain.networks.common import set_precision


def seeds_of(batch: Any) -> Any:
    return in_mode(names_of(batch), "train")["seeds"]


# From this size on, a U-Net has dropout.
LARGER = ImageSpec(height=64, width=64, channels={"a": 2, "b": 2}, depth={"a": "uint8", "b": "uint8"})


def with_noise(seed: int = 0) -> Any:
    """A model with dropout and batch norm, with the running statistics of ten steps."""
    model = build_translator("cyclegan", spec=LARGER, generator=unet, norm="batch", dropout=0.5, seed=seed)
    play(model, translation_batches(2, spec=LARGER), adam_updates(model, lr=0.01))
    return model


@pytest.mark.parametrize("network_mode", ["train", "eval"])
def test_a_translation_depends_neither_on_the_batch_nor_on_the_order(network_mode: str) -> None:
    model, batch = with_noise().eval(), next(translation_batches(5, spec=LARGER, seed=2))
    together = model.results(batch, "b_to_a", network_mode=network_mode)
    for places in ([0], [1], [2], [3], [4], [3, 1], [4, 3, 2, 1, 0]):
        torch.rand(3)  # The global random state differs.
        found = model.results(part(batch, places), "b_to_a", network_mode=network_mode)
        torch.testing.assert_close(found, {k: v[places] for k, v in together.items()}, atol=1e-12, rtol=0)


def test_dropout_is_seeded_by_name_in_train_mode_and_off_in_eval_mode() -> None:
    model, batch = with_noise().eval(), next(translation_batches(2, spec=LARGER))
    batch = {"a": batch["a"][:1].repeat(3, 1, 1, 1), "name": ["x", "y", "x"]}
    in_training = model.results(batch, "a_to_b")["fake_b"]
    torch.testing.assert_close(in_training[0], in_training[2], atol=1e-12, rtol=0)
    assert (in_training[0] - in_training[1]).abs().max() > 0.01
    plain = model.results(batch, "a_to_b", network_mode="eval")["fake_b"]
    torch.testing.assert_close(plain, model.generator_ab(batch["a"]).detach(), atol=0, rtol=0)
    torch.testing.assert_close(plain[0], plain[1], atol=1e-12, rtol=0)
    assert (plain[0] - in_training[0]).abs().max() > 0.01


def test_train_mode_equals_the_training_network_on_a_batch_of_one() -> None:
    model = build_translator("pix2pix", spec=LARGER, generator=unet, norm="batch")
    play(model, translation_batches(2, spec=LARGER), adam_updates(model, lr=0.01))
    batch = next(translation_batches(3, spec=LARGER, seed=2))
    alone = [deepcopy(model.generator).train()(image[None]).detach() for image in batch["a"]]
    model.eval()
    found = model.results(batch, "a_to_b")["fake_b"]
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-12, rtol=0)
    assert (found - model.generator(batch["a"])).abs().max() > 0.01
    assert (found - deepcopy(model.generator).train()(batch["a"])).abs().max() > 0.01


def test_train_mode_uses_running_statistics_after_larger_batches() -> None:
    model = build_translator("pix2pix", spec=LARGER, generator=unet, norm="batch")
    play(model, translation_batches(4, spec=LARGER), adam_updates(model, lr=0.01))
    batch = next(translation_batches(3, spec=LARGER, seed=2))
    model.eval()
    alone = model.results(batch, "a_to_b")["fake_b"]
    model.image_statistics = False
    torch.testing.assert_close(model.results(batch, "a_to_b")["fake_b"], model.generator(batch["a"]).detach())
    torch.testing.assert_close(model.results(batch, "a_to_b", network_mode="per_image")["fake_b"], alone)
    assert (alone - model.generator(batch["a"])).abs().max() > 0.01


def test_dropout_stays_on_without_the_statistics_of_images() -> None:
    model, batch = with_noise().eval(), next(translation_batches(2, spec=LARGER))
    model.image_statistics = False
    assert (model.results(batch, "a_to_b")["fake_b"] - model.generator_ab(batch["a"])).abs().max() > 0.01


@pytest.mark.parametrize("network_mode", ["train", "eval"])
def test_results_change_no_state_and_have_no_gradient(network_mode: str) -> None:
    model, batch = with_noise().eval(), next(translation_batches(2, spec=LARGER))
    state, numbers = deepcopy(dict(model.state_dict())), torch.get_rng_state()
    made = model.results(batch, "a_to_b", network_mode=network_mode)
    assert not any(images.requires_grad for images in made.values())
    assert torch.equal(torch.get_rng_state(), numbers)
    assert_same_bits(dict(model.state_dict()), state)
    assert not any("forward" in vars(module) for module in model.modules())

    def fail(*_: object) -> None:
        raise RuntimeError

    [*model.generator_of("a_to_b").modules()][-1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError):
        model.translate(noise(2, 2, 64, 64), "a_to_b", seeds=[1, 2] if network_mode == "train" else None)
    assert not any("forward" in vars(module) for module in model.modules())


def test_visuals_do_not_change_training() -> None:
    def logged(*, looked: bool) -> list[dict[str, float]]:
        model = build_translator("cyclegan", norm="batch", dropout=0.5)
        update, batches = adam_updates(model), translation_batches(2)
        play(model, batches, update, steps=2)
        if looked:
            model.visuals(next(translation_batches(model.previews, seed=9)))
        assert model.training
        return play(model, batches, update, steps=2, start=2)

    assert logged(looked=True) == logged(looked=False)


def test_seeds_depend_on_the_name_or_on_the_position_without_names() -> None:
    images = noise(2, 1, 4, 4)
    named = seeds_of({"a": images, "name": ["x", "y"]})
    assert named == seeds_of({"image": noise(2, 1, 4, 4, seed=2), "name": ["x", "y"]})
    assert seeds_of({"b": images, "name": ["y", "x"]}) == named[::-1]
    assert len({*named, *seeds_of({"a": images})}) == 4
    assert in_mode(["x", "y"], "eval") == {"seeds": None}


def test_train_mode_computes_in_the_precision_of_the_weights() -> None:
    model = build_translator("pix2pix").float()
    image = noise(1, 2, 32, 32).float()
    exact = model.translate(image, seeds=[1])
    set_precision(model.generator, device=CPU, autocast=torch.bfloat16, compiled=False)
    assert torch.equal(model.translate(image, seeds=[1]), exact)
    assert not torch.equal(model.translate(image), exact)
