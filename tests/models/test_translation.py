"""Models that translate: steps that keep the sides apart, and images of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from conftest import assert_same_bits
from tiny import Watched, adam_updates, build_translator, play, resnet, unet
from tiny_keys import TRANSLATION_KEYS
from torch import Tensor, nn
from translation_batches import batches_for, noise

from gantrain.errors import ConfigError
from gantrain.models.translation import BareGenerator, TranslationGAN
from gantrain.registry import MODELS

NAMES = list(TRANSLATION_KEYS)


def test_every_model_that_translates_is_tested() -> None:
    assert sorted(name for name in MODELS if issubclass(MODELS[name], TranslationGAN)) == sorted(NAMES)


# ---- steps


class Apart(Watched):
    """Updates that check that a loss of one side leaves the gradients of the other side unchanged."""

    def _note(self, side: str, loss: Tensor, act: Callable[[Tensor], None]) -> None:
        sides = (self._model.generators(), self._model.discriminators())
        of_g, of_d = ([p for network in networks for p in network.parameters()] for networks in sides)
        others = of_d if side == "generator" else of_g
        if side == "discriminator":  # Its input has no graph of the generator.
            assert set(torch.autograd.grad(loss, of_g, retain_graph=True, allow_unused=True)) == {None}
        before = [None if p.grad is None else p.grad.clone() for p in others]
        super()._note(side, loss, act)
        assert_same_bits([p.grad for p in others], before)
        assert all(p.grad is not None for p in (of_g if side == "generator" else of_d))


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_of_one_side_gives_the_other_side_no_gradients(name: str, penalty: float) -> None:
    model = build_translator(name, gradient_penalty=penalty)
    update = Apart(model)
    for _ in range(2):
        model.train_step(batches_for(name), update)
    assert len(update.log) == 4


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_finite_detached_scalars(name: str) -> None:
    model = build_translator(name)
    for value in model.train_step(batches_for(name), adam_updates(model)).values():
        assert value.shape == ()
        assert not value.requires_grad
        assert value.isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_with_dropout_a_step_depends_only_on_the_seed_and_its_number(name: str) -> None:
    def logged(number: int) -> list[dict[str, float]]:
        model = build_translator(name, dropout=0.5)
        torch.rand(number)  # The global random state differs.
        return play(model, batches_for(name), adam_updates(model), steps=1, start=number)

    assert logged(3) == logged(3)
    assert logged(3) != logged(4)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"loss": "logistics"}, r"model\.loss\b.*'logistics'.*'logistic'"),
        ({"loss": "hinge", "label_smoothing": 0.1}, r"model\.label_smoothing=0\.1 .*: set it to 0$"),
        ({"gradient_penalty": -1.0}, r"model\.gradient_penalty\b.* at least 0, got -1\.0$"),
        ({"ema": 1.0}, r"model\.ema\b.* at least 0 and below 1, got 1\.0$"),
        ({"nonsense": 1}, r"model\.nonsense=1: unknown.*gradient_penalty"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_an_invalid_value_is_refused(name: str, keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build_translator(name, **keys)


@pytest.mark.parametrize(
    ("name", "keys", "text"),
    [
        ("pix2pix", {"lambda_l1": -1.0}, r"model\.lambda_l1\b.* at least 0, got -1\.0$"),
        ("cyclegan", {"cycle_loss": "l3"}, r"model\.cycle_loss\b.*'l1', 'l2', got 'l3'"),
        ("cyclegan", {"pool_size": -1}, r"model\.pool_size\b.* at least 0, got -1$"),
    ],
)
def test_an_invalid_value_of_a_models_own_key_is_refused(name: str, keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build_translator(name, **keys)


@pytest.mark.parametrize("name", NAMES)
def test_a_wasserstein_critic_with_its_penalty_is_not_refused(name: str) -> None:
    model = build_translator(name, loss="wasserstein", gradient_penalty=10.0)
    play(model, batches_for(name), adam_updates(model), steps=1)


# ---- images of any size
class Echo(nn.Module):
    """Returns its input, and records it."""

    def __init__(self, multiple: int, smallest: int) -> None:
        super().__init__()
        self.multiple, self.smallest = multiple, smallest
        self.given: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.given.append(image)
        return image


def bare(generator: nn.Module, direction: str = "a_to_b") -> BareGenerator:
    return BareGenerator(generator, direction, {"a": 3, "b": 3})


@pytest.mark.parametrize("seeds", [None, [1, 2]])
@pytest.mark.parametrize(
    ("multiple", "smallest", "size", "padded"),
    [
        (1, 1, (7, 5), (7, 5)),
        (4, 1, (8, 12), (8, 12)),
        (4, 1, (7, 5), (8, 8)),
        (4, 1, (9, 1), (12, 4)),
        (32, 1, (1, 1), (32, 32)),
        (4, 8, (5, 20), (8, 20)),
        (4, 10, (3, 9), (12, 12)),
        (1, 10, (10, 2), (10, 10)),
        (32, 64, (70, 33), (96, 64)),
    ],
)
def test_images_are_padded_symmetrically_for_the_network_and_cropped_back(
    multiple: int, smallest: int, size: tuple[int, int], padded: tuple[int, int], seeds: Sequence[int] | None
) -> None:
    echo, image = Echo(multiple, smallest), noise(2, 3, *size)
    assert torch.equal(bare(echo).translate(image, seeds=seeds), image)
    (given,) = echo.given
    assert given.shape == (2, 3, *padded)
    by_hand = np.pad(
        image.numpy(), [(0, 0), (0, 0), (0, padded[0] - size[0]), (0, padded[1] - size[1])], mode="symmetric"
    )
    assert torch.equal(given, torch.from_numpy(by_hand))


def test_a_network_without_size_attributes_gets_images_unpadded() -> None:
    image = noise(1, 3, 5, 3)
    assert torch.equal(bare(nn.Identity()).translate(image), image)


@pytest.mark.parametrize("size", [(1, 1), (1, 45), (33, 31), (64, 32), (100, 7)])
@pytest.mark.parametrize("generator", [unet, resnet])
@pytest.mark.parametrize("network_mode", ["train", "eval"])
def test_a_model_translates_any_size_in_both_modes(
    size: tuple[int, int], generator: Callable[..., nn.Module], network_mode: str
) -> None:
    model = build_translator("cyclegan", generator=generator, norm="batch").eval()
    batch = {"a": noise(2, 2, *size), "name": ["x", "y"]}
    made = model.results(batch, "a_to_b", network_mode=network_mode)
    assert {images.shape for images in made.values()} == {(2, 2, *size)}
    assert all(images.isfinite().all() for images in made.values())


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_direction_is_refused(name: str) -> None:
    model = build_translator(name)
    known = "a_to_b and b_to_a" if name == "cyclegan" else "a_to_b"
    wrong = "b_to_c" if name == "cyclegan" else "b_to_a"
    with pytest.raises(ConfigError, match=f"direction={wrong}: .* {known}$"):
        model.translate(noise(1, 2, 32, 32), wrong)


def test_a_bare_generator_translates_only_in_its_direction() -> None:
    image = noise(1, 3, 5, 5)
    assert torch.equal(bare(nn.Identity(), "b_to_a").translate(image, "b_to_a"), image)
    with pytest.raises(ConfigError, match="direction=a_to_b: .* b_to_a$"):
        bare(nn.Identity(), "b_to_a").translate(image)
