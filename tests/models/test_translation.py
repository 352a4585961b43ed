"""What models that translate have in common: sides that keep apart, images of any size, each for itself, ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import assert_same_bits
from tiny import (
    CPU,
    IMAGES,
    TRANSLATION_KEYS,
    Watched,
    adam_updates,
    build_translator,
    play,
    resnet,
    translation_batches,
    unet,
)
from torch import Tensor, nn

from gantrain.data.base import IMAGE_KEYS, Batch, ImageSpec
from gantrain.errors import ConfigError
from gantrain.models.translation import BareGenerator, TranslationGAN, seeds_of
from gantrain.networks.common import set_precision
from gantrain.registry import MODELS
from gantrain.runtime import distributed
from gantrain.runtime.seeding import StepRandom

NAMES = list(TRANSLATION_KEYS)
# of a size from which a U-Net has dropout
LARGER = ImageSpec(height=64, width=64, channels={"a": 2, "b": 2}, depth={"a": "uint8", "b": "uint8"})


def batches_for(name: str, size: int = 2, **keys: Any) -> Iterator[Batch]:
    return translation_batches(size, **({"spec": IMAGES} if name == "colorization" else {}), **keys)


def test_every_model_that_translates_is_checked_below() -> None:
    assert sorted(name for name in MODELS if issubclass(MODELS[name], TranslationGAN)) == sorted(NAMES)


# ---- the step


class Apart(Watched):
    """Updates that see to it that neither side's gradients reach the other's weights."""

    def _note(self, side: str, loss: Tensor, act: Callable[[Tensor], None]) -> None:
        sides = (self._model.generators(), self._model.discriminators())
        of_g, of_d = ([p for network in networks for p in network.parameters()] for networks in sides)
        others = of_d if side == "generator" else of_g
        if side == "discriminator":  # what it is shown carries no graph of its making
            assert set(torch.autograd.grad(loss, of_g, retain_graph=True, allow_unused=True)) == {None}
        before = [None if p.grad is None else p.grad.clone() for p in others]
        super()._note(side, loss, act)
        assert_same_bits([p.grad for p in others], before)
        assert all(p.grad is not None for p in (of_g if side == "generator" else of_d))


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_the_gradients_of_each_side_stay_on_it(name: str, penalty: float) -> None:
    model = build_translator(name, gradient_penalty=penalty)
    update = Apart(model)
    for _ in range(2):
        model.train_step(batches_for(name), update)
    assert len(update.log) == 4


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_detached_scalars_that_stay_where_they_are(name: str) -> None:
    model = build_translator(name)
    for value in model.train_step(batches_for(name), adam_updates(model)).values():
        assert value.shape == ()
        assert not value.requires_grad
        assert value.isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_with_dropout_a_step_depends_on_the_seed_and_its_number_alone(name: str) -> None:
    def logged(number: int) -> list[dict[str, float]]:
        model = build_translator(name, dropout=0.5)
        torch.rand(number)  # whatever happened before
        return play(model, batches_for(name), adam_updates(model), steps=1, start=number)

    assert logged(3) == logged(3)
    assert logged(3) != logged(4)


HERE = Path(__file__).parent
WASSERSTEIN = (
    r"model\.loss=wasserstein needs .*: give model\.gradient_penalty \(10 in its paper\) and network\.norm=instance"
)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"loss": "wasserstein"}, WASSERSTEIN),
        ({"loss": "logistics"}, r"model\.loss: no adversarial loss 'logistics'; did you mean 'logistic'\?"),
        ({"loss": "hinge", "label_smoothing": 0.1}, r"model\.label_smoothing=0\.1 has no meaning .*: set it to 0"),
        ({"gradient_penalty": -1.0}, r"model\.gradient_penalty: expected a number at least 0, got -1\.0"),
        ({"ema": 1.0}, r"model\.ema: expected a number at least 0 and below 1, got 1\.0"),
        ({"nonsense": 1}, r"model\.nonsense=1: unknown key; there are: .*"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_value_without_meaning_is_refused(name: str, keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{text}$"):
        build_translator(name, **keys)


@pytest.mark.parametrize(
    ("name", "keys", "text"),
    [
        ("pix2pix", {"lambda_l1": -1.0}, r"model\.lambda_l1: expected a number at least 0, got -1\.0"),
        ("cyclegan", {"cycle_loss": "l3"}, r"model\.cycle_loss: expected one of 'l1', 'l2', got 'l3'"),
        ("cyclegan", {"pool_size": -1}, r"model\.pool_size: expected a whole number at least 0, got -1"),
    ],
)
def test_so_is_one_of_a_key_of_its_own(name: str, keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{text}$"):
        build_translator(name, **keys)


@pytest.mark.parametrize("name", NAMES)
def test_a_wasserstein_critic_with_its_penalty_is_not_refused(name: str) -> None:
    model = build_translator(name, loss="wasserstein", gradient_penalty=10.0)
    play(model, batches_for(name), adam_updates(model), steps=1)


# ---- images of any size


class Echo(nn.Module):
    """Gives back what it is given, and keeps it."""

    def __init__(self, multiple: int, smallest: int) -> None:
        super().__init__()
        self.multiple, self.smallest = multiple, smallest
        self.given: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.given.append(image)
        return image


def bare(generator: nn.Module, direction: str = "a_to_b") -> BareGenerator:
    return BareGenerator(generator, direction, {"a": 3, "b": 3})


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


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
def test_images_are_mirrored_up_to_what_the_network_needs_and_cut_back(
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


def test_a_network_that_says_nothing_of_sizes_is_given_images_as_they_are() -> None:
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
    with pytest.raises(ConfigError, match=f"^direction={wrong}: this model only translates {known}$"):
        model.translate(noise(1, 2, 32, 32), wrong)


def test_a_generator_on_its_own_knows_the_direction_that_it_was_given() -> None:
    image = noise(1, 3, 5, 5)
    assert torch.equal(bare(nn.Identity(), "b_to_a").translate(image, "b_to_a"), image)
    with pytest.raises(ConfigError, match="^direction=a_to_b: this model only translates b_to_a$"):
        bare(nn.Identity(), "b_to_a").translate(image)


# ---- each image for itself


def with_noise(seed: int = 0) -> Any:
    """A model with dropout and batch norm, whose running statistics are of ten steps."""
    model = build_translator("cyclegan", spec=LARGER, generator=unet, norm="batch", dropout=0.5, seed=seed)
    play(model, translation_batches(2, spec=LARGER), adam_updates(model, lr=0.01))
    return model


def part(batch: Batch, places: Sequence[int]) -> Batch:
    return {
        key: value[list(places)] if key in IMAGE_KEYS else [value[place] for place in places]
        for key, value in batch.items()
    }


@pytest.mark.parametrize("network_mode", ["train", "eval"])
def test_a_batch_gives_what_its_images_give_alone_in_whatever_order(network_mode: str) -> None:
    model, batch = with_noise().eval(), next(translation_batches(5, spec=LARGER, seed=2))
    together = model.results(batch, "b_to_a", network_mode=network_mode)
    for places in ([0], [1], [2], [3], [4], [3, 1], [4, 3, 2, 1, 0]):
        torch.rand(3)  # whatever happened before
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


def test_train_mode_is_the_network_in_training_on_a_batch_of_one() -> None:
    model = build_translator("pix2pix", spec=LARGER, generator=unet, norm="batch")
    play(model, translation_batches(2, spec=LARGER), adam_updates(model, lr=0.01))
    batch = next(translation_batches(3, spec=LARGER, seed=2))
    alone = [deepcopy(model.generator).train()(image[None]).detach() for image in batch["a"]]
    model.eval()
    found = model.results(batch, "a_to_b")["fake_b"]
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-12, rtol=0)
    assert (found - model.generator(batch["a"])).abs().max() > 0.01
    assert (found - deepcopy(model.generator).train()(batch["a"])).abs().max() > 0.01


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


def test_visuals_in_the_middle_of_training_leave_it_as_it_would_have_been() -> None:
    def logged(*, looked: bool) -> list[dict[str, float]]:
        model = build_translator("cyclegan", norm="batch", dropout=0.5)
        update, batches = adam_updates(model), translation_batches(2)
        play(model, batches, update, steps=2)
        if looked:
            model.visuals(next(translation_batches(model.previews, seed=9)))
        assert model.training
        return play(model, batches, update, steps=2, start=2)

    assert logged(looked=True) == logged(looked=False)


def test_seeds_go_by_name_or_else_by_place() -> None:
    images = noise(2, 1, 4, 4)
    named = seeds_of({"a": images, "name": ["x", "y"]}, "train")
    assert named == seeds_of({"image": noise(2, 1, 4, 4, seed=2), "name": ["x", "y"]}, "train")
    assert seeds_of({"b": images, "name": ["y", "x"]}, "train") == named[::-1]
    assert len({*named, *seeds_of({"a": images}, "train")}) == 4
    assert seeds_of({"a": images, "name": ["x", "y"]}, "eval") is None


def test_in_train_mode_images_are_made_in_the_precision_of_the_weights() -> None:
    model = build_translator("pix2pix").float()
    image = noise(1, 2, 32, 32).float()
    exact = model.translate(image, seeds=[1])
    set_precision(model.generator, device=CPU, autocast=torch.bfloat16, compiled=False)
    assert torch.equal(model.translate(image, seeds=[1]), exact)
    assert not torch.equal(model.translate(image), exact)


# ---- two processes

GAMES: dict[str, dict[str, Any]] = {
    "pix2pix": {"generator": unet},
    "pix2pix with a penalty": {"generator": unet, "gradient_penalty": 10.0},
    "cyclegan": {},
    "cyclegan with a penalty": {"loss": "wasserstein", "gradient_penalty": 10.0},
}


def three_steps(game: str, *, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
    """The networks after three steps on a global batch of two, and what this rank logs."""
    name = game.split()[0]
    model = build_translator(name, **GAMES[game])
    update = adam_updates(model)
    update.draws = StepRandom(7, CPU, rank=rank, world_size=world_size)
    share = range(rank, 2, world_size)
    logged = play(model, (part(batch, share) for batch in batches_for(name)), update, steps=3)
    # without biases, which do nothing before an instance norm: their gradients are rounding errors, made large by Adam
    weights = {key: value for key, value in model.state_dict().items() if key.endswith("weight")}
    networks = [*model.generators(), *model.discriminators()]
    outputs = [n(noise(1, next(n.parameters()).size(1), 32, 32)).detach() for n in networks]
    return {"weights": weights, "outputs": outputs, "logged": logged}


def work() -> None:
    """What each of the processes does."""
    distributed.join(CPU)
    rank = distributed.rank()
    torch.save({game: three_steps(game, rank=rank, world_size=2) for game in GAMES}, f"rank_{rank}.pt")


@pytest.mark.usefixtures("warm_python")
def test_two_ranks_make_the_updates_of_one_rank_with_the_same_global_batch() -> None:
    Path("work.py").write_text("from test_translation import work\nwork()\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "work.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    ranks = [torch.load(f"rank_{rank}.pt", weights_only=True) for rank in (0, 1)]
    for game in GAMES:
        one, two, other = three_steps(game), ranks[0][game], ranks[1][game]
        for key in ("weights", "outputs"):
            assert_same_bits(two[key], other[key])
            torch.testing.assert_close(two[key], one[key], atol=1e-9, rtol=0)
        for whole, *halves in zip(one["logged"], two["logged"], other["logged"], strict=True):
            assert halves[0] != halves[1]  # each has seen its own image
            for key, value in whole.items():
                assert (halves[0][key] + halves[1][key]) / 2 == pytest.approx(value, abs=1e-9)
