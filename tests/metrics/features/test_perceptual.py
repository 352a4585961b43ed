"""The perceptual loss, compared with the formula of its paper on random weights of AlexNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, assert_mentions, assert_same_bits, newest, stop_after
from tiny import CPU, Watched, build_translator, play, translation_batches, unet
from tiny_keys import IMAGES
from torch import Tensor

import gantrain
from gantrain.cli.main import main
from gantrain.data.base import ImageSpec
from gantrain.errors import ConfigError
from gantrain.metrics.features import lpips, perceptual, weights
from gantrain.metrics.features.perceptual import attach_perceptual
from gantrain.models.colorization import lab_to_rgb, lightness_and_colour

CHANNELS = (64, 192, 384, 256, 256)
RGB = ImageSpec(height=32, width=32, channels={"a": 1, "b": 3}, depth={"a": "uint8", "b": "uint8"})


@pytest.fixture(scope="module")
def stored() -> tuple[dict[str, Tensor], list[Tensor]]:
    """Random weights of AlexNet and of the heads."""
    from torchvision.models import alexnet

    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in alexnet().state_dict().items()}
    state = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    for key, shape in shapes.items():
        if key.startswith("features."):
            state[key] = torch.randn(shape) / (shape[1:].numel() or 1) ** 0.5 * 1.5
    return state, [torch.rand(1, count, 1, 1) for count in CHANNELS]


@pytest.fixture
def asked_for(stored: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that the weights were needed by."""
    asked: list[str] = []
    monkeypatch.setattr(perceptual, "lpips_weights", lambda key, **_: asked.append(key) or stored)
    return asked


def by_hand(stored: tuple[dict[str, Tensor], list[Tensor]], one: Tensor, other: Tensor) -> Tensor:
    """Zhang et al. 2018, equation 1, for each image, in float64."""
    state = {key: value.double() for key, value in stored[0].items()}
    ends = ([-0.03, -0.088, -0.188], [0.458, 0.448, 0.45])
    mean, deviation = (torch.tensor(each).view(3, 1, 1).double() for each in ends)
    strides = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}
    maps, total = [(each - mean) / deviation for each in (one, other)], torch.zeros(len(one), dtype=torch.float64)
    for place, head in zip(strides, stored[1], strict=True):
        if place in (3, 6):
            maps = [torch.nn.functional.max_pool2d(each, 3, 2) for each in maps]
        weight, bias = state[f"features.{place}.weight"], state[f"features.{place}.bias"]
        stride, padding = strides[place]
        maps = [torch.nn.functional.conv2d(each, weight, bias, stride, padding).clamp(min=0) for each in maps]
        first, second = (each / (each.norm(dim=1, keepdim=True) + 1e-10) for each in maps)
        total = total + ((first - second) ** 2 * head.double()).sum(1).mean(dim=(1, 2))
    return total


def test_the_loss_is_that_of_its_paper_and_reaches_the_generator(stored: Any, asked_for: list[str]) -> None:
    model, other = (build_translator("pix2pix", spec=RGB, generator=unet, lambda_lpips=3.0) for _ in range(2))
    keys = set(model.state_dict())
    attach_perceptual(model, CPU, torch.float64)
    assert asked_for == ["model.lambda_lpips=3"]
    assert set(model.state_dict()) == keys  # It is not stored.
    assert len(list(model.parameters())) == len(list(other.parameters()))
    update, plain = Watched(model), Watched(other)
    (logged,) = play(model, translation_batches(2, spec=RGB), update, steps=1)
    batch = next(translation_batches(2, spec=RGB))
    distance = by_hand(stored, other.generator(batch["a"]), batch["b"]).mean()
    slopes = torch.autograd.grad(3 * distance, other.generator.parameters())
    assert distance.item() > 0.05
    assert logged["g_lpips"] == pytest.approx(distance.item(), rel=1e-9)
    play(other, translation_batches(2, spec=RGB), plain, steps=1)
    (_, (_, loss)), (_, (_, without)) = update.losses, plain.losses
    assert (loss - without).item() == pytest.approx(3 * distance.item(), rel=1e-9)
    with_it, without_it = (list(each.generator.parameters()) for each in (model, other))
    differences = [(y - x).detach() / 0.1 for x, y in zip(with_it, without_it, strict=True)]
    torch.testing.assert_close(differences, list(slopes), atol=1e-9, rtol=1e-6)


def test_positions_without_features_have_finite_gradients(stored: Any, asked_for: list[str]) -> None:
    model = build_translator("pix2pix", spec=RGB, lambda_lpips=1.0)
    stored[0]["features.0.bias"][:] -= 100  # No feature is above 0.
    attach_perceptual(model, CPU, torch.float64)
    images = torch.zeros(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    model.perceptual(images, images.detach() + 0.5).sum().backward()
    stored[0]["features.0.bias"][:] += 100
    assert images.grad is not None
    assert images.grad.isfinite().all()


@pytest.mark.usefixtures("asked_for")
def test_colorization_compares_colour_images(stored: Any) -> None:
    model = build_translator("colorization", lambda_lpips=3.0)
    attach_perceptual(model, CPU, torch.float64)
    rgb = next(translation_batches(2, spec=IMAGES))["image"]
    parts = lightness_and_colour(rgb)
    torch.testing.assert_close(model.perceived(parts["a"], parts["b"]), rgb, atol=1e-4, rtol=0)
    colour = model.generator(parts["a"]).detach()
    made = lab_to_rgb(torch.cat([50 * (parts["a"] + 1), 110 * colour], 1))
    (logged,) = play(model, iter([{"image": rgb}]), Watched(model), steps=1)
    assert logged["g_lpips"] == pytest.approx(float(by_hand(stored, made, rgb).mean()), rel=1e-4)


def test_without_a_weight_nothing_is_needed(asked_for: list[str]) -> None:
    for name in ("pix2pix", "cyclegan", "colorization"):
        attach_perceptual(build_translator(name), CPU, torch.float64)
    assert asked_for == []


@pytest.mark.usefixtures("asked_for")
def test_images_that_it_cannot_compare_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.lambda_lpips=3 .*1 or 3 channels.* not 2 of 32 x 32: set it to 0"):
        attach_perceptual(build_translator("pix2pix", lambda_lpips=3.0), CPU, torch.float64)


def test_missing_weights_are_refused_with_the_name_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_translator("pix2pix", spec=RGB, lambda_lpips=3.0)

    def offline(*_: Any, **__: Any) -> Path:
        raise ConfigError("no network")

    monkeypatch.setenv("TORCH_HOME", str(Path.cwd()))
    monkeypatch.setattr(weights, "fetch", offline)
    with pytest.raises(ConfigError) as refused:
        attach_perceptual(model, CPU, torch.float64)
    file = "hub/checkpoints/alexnet-owt-7be5be79.pth"
    assert_mentions(str(refused.value), "model.lambda_lpips=3 needs weights", "put the file at", file, "or set it to 0")
    monkeypatch.setattr(lpips, "find_spec", lambda _: None)
    with pytest.raises(
        ConfigError, match=r"model\.lambda_lpips=3 needs the package lpips: pip .*\[lpips\].* set it to 0"
    ):
        attach_perceptual(model, CPU, torch.float64)


@pytest.mark.usefixtures("asked_for")
def test_a_run_with_it_resumes_bit_identically_and_is_loaded_without(train: Any, monkeypatch: Any) -> None:
    sizes = [word for word in TINY if not word.startswith("data.load_size")]
    settings = ["model=pix2pix", "model.lambda_lpips=2", "network.discriminator.scales=2", "model.lambda_features=10"]
    settings += ["network.discriminator.layers=1", "data.max_size=8", "model.augment=ada", "trainer.steps=3"]
    assert main(["train", *sizes, *settings, "name=whole"]) == 0
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        assert main(["train", *sizes, *settings, "name=cut"]) == 130
    assert main(["train", *sizes, *settings, "name=cut"]) == 0
    for key in ("model", "updates"):
        assert_same_bits(newest("cut")[key], newest("whole")[key])
    assert "g_lpips" in Path("checkpoints/cut/losses.jsonl").read_text()
    monkeypatch.setattr(perceptual, "lpips_weights", None)
    assert gantrain.load("checkpoints/whole").module.perceptual is None
