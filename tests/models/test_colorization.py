"""Colour in CIE Lab, and pix2pix on it."""

from __future__ import annotations

import pytest
import torch
from tiny import Counted, adam_updates, build_translator, play, translation_batches, weights
from tiny_keys import IMAGES, PAIRS
from torch import Tensor

from gantrain.data.base import ImageSpec, to_signed_range, to_uint8
from gantrain.errors import ConfigError
from gantrain.models.colorization import lab_to_rgb, lightness_and_colour, rgb_to_lab

# Published Lab values of sRGB primaries under D65.
PUBLISHED = {
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (255, 255, 255): (100.0, 0.0, 0.0),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (128, 128, 128): (53.59, 0.0, 0.0),
}


def colours(step: int = 17) -> Tensor:
    """(1, 3, H, W), 8 bits: a regular grid of colours."""
    values = torch.arange(0, 256, step, dtype=torch.uint8)
    return torch.cartesian_prod(values, values, values).T.reshape(1, 3, len(values), -1)


def unit(images: Tensor) -> Tensor:
    return to_signed_range(images, torch.float64)


@pytest.mark.parametrize("rgb", PUBLISHED)
def test_primary_colours_have_the_published_lab_values(rgb: tuple[int, int, int]) -> None:
    colour = torch.tensor(rgb, dtype=torch.uint8).view(1, 3, 1, 1)
    # the rounded white and matrix of the standard differ in the fifth digit: white has (a, b) of 0.005 and -0.01
    torch.testing.assert_close(
        rgb_to_lab(unit(colour)).flatten(), torch.tensor(PUBLISHED[rgb]).double(), atol=0.015, rtol=0
    )


def test_lab_agrees_with_scikit_image() -> None:
    color = pytest.importorskip("skimage.color")
    images = colours()
    by_hand = color.rgb2lab(images.permute(0, 2, 3, 1).numpy())
    # scikit-image uses rounded constants in the linear segment.
    torch.testing.assert_close(
        rgb_to_lab(unit(images)).permute(0, 2, 3, 1), torch.from_numpy(by_hand), atol=1e-3, rtol=0
    )


def test_every_srgb_colour_survives_the_round_trip() -> None:
    rgb = unit(colours(step=15))
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(rgb)), rgb, atol=1e-6, rtol=0)
    images = colours(step=5)  # In single precision, 8-bit values are exact.
    assert torch.equal(to_uint8(lab_to_rgb(rgb_to_lab(to_signed_range(images, torch.float32)))), images)


def test_both_domains_are_in_range_and_are_lightness_and_colour() -> None:
    batch = lightness_and_colour(unit(colours()))
    lab = rgb_to_lab(unit(colours()))
    assert set(batch) == {"a", "b"}
    assert batch["a"].min() == pytest.approx(-1, abs=1e-9)
    assert batch["a"].max() == pytest.approx(1, abs=1e-9)
    assert 0.9 < batch["b"].abs().max() <= 1
    torch.testing.assert_close(torch.cat([(batch["a"] + 1) * 50, batch["b"] * 110], 1), lab)


def test_colours_outside_srgb_are_clipped() -> None:
    lab = torch.tensor([[50.0, 110, 110], [50, -110, 110], [99, 0, -110], [1, 110, 0]]).double().view(4, 3, 1, 1)
    rgb = lab_to_rgb(lab)
    torch.testing.assert_close((rgb.min().item(), rgb.max().item()), (-1.0, 1.0))
    assert rgb.abs().max() <= 1


# ---- the model


def test_a_step_is_that_of_pix2pix_on_lightness_and_colour() -> None:
    domains = ImageSpec(height=32, width=32, channels={"a": 1, "b": 2}, depth={"a": "uint8", "b": "uint8"})
    model, pix2pix = build_translator("colorization"), build_translator("pix2pix", spec=domains)
    batches = Counted({"image": batch["image"]} for batch in translation_batches(2, spec=IMAGES))
    logged = play(model, batches, adam_updates(model), steps=3)
    assert batches.drawn == 3
    split = (lightness_and_colour(batch["image"]) for batch in translation_batches(2, spec=IMAGES))
    assert logged == play(pix2pix, split, adam_updates(pix2pix), steps=3)
    torch.testing.assert_close(weights(model), weights(pix2pix), atol=0, rtol=0)
    assert model.needs == {"image"}
    assert model.spec == IMAGES


def test_images_without_colour_are_refused() -> None:
    gray = ImageSpec(height=32, width=32, channels={"image": 1}, depth={"image": "uint8"})
    text = r"^model=colorization .* 3 channels, not 1$"
    with pytest.raises(ConfigError, match=text):
        build_translator("colorization", spec=gray)
    assert build_translator("pix2pix", spec=PAIRS)


def test_results_are_the_gray_the_generated_and_the_real_image() -> None:
    model = build_translator("colorization").eval()
    model.generator.model[-2].weight.data *= 0.1  # All its colours are inside sRGB.
    model.generator.model[-2].bias.data *= 0.1
    batch = next(translation_batches(2, spec=IMAGES))
    batch["image"] = batch["image"] / 2  # neither on black nor on white
    for direction_of in (model.visuals, lambda batch: model.results(batch, "a_to_b")):
        made = direction_of(batch)
        assert list(made) == ["real_a", "fake_b_rgb", "real_b_rgb"]
        assert {images.shape for images in made.values()} == {(2, 3, 32, 32)}
        assert torch.equal(made["real_b_rgb"], batch["image"])
        lab = {name: rgb_to_lab(images) for name, images in made.items()}
        for name in ("real_a", "fake_b_rgb"):
            torch.testing.assert_close(lab[name][:, 0], lab["real_b_rgb"][:, 0])
        found = model.generator(lab["real_b_rgb"][:, :1] / 50 - 1).detach() * 110
        torch.testing.assert_close(lab["fake_b_rgb"][:, 1:], found, atol=1e-6, rtol=0)
        assert found.abs().max() > 1
        assert lab["real_a"][:, 1:].abs().max() < 1e-6
        # Gray: the channels are equal up to the fifth digit of the standard's white.
        torch.testing.assert_close(made["real_a"], made["real_a"][:, :1].expand(-1, 3, -1, -1), atol=1e-3, rtol=0)


def test_dropout_is_seeded_by_name_and_off_in_eval_mode() -> None:
    model = build_translator("colorization", dropout=0.5).eval()
    image = next(translation_batches(1, spec=IMAGES))["image"].repeat(2, 1, 1, 1)
    in_training = model.results({"image": image, "name": ["x", "y"]}, "a_to_b")["fake_b_rgb"]
    assert (in_training[0] - in_training[1]).abs().max() > 0.01
    plain = model.results({"image": image, "name": ["x", "y"]}, "a_to_b", network_mode="eval")["fake_b_rgb"]
    torch.testing.assert_close(plain[0], plain[1], atol=1e-12, rtol=0)
