"""``gantrain data prepare``: the images that are written, and inputs that are refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_folders import files, no_leftovers, noise, pixels, prepare, save
from PIL import Image
from skimage import feature

from gantrain.cli.main import main
from gantrain.data.tools.prepare import load


def test_without_arguments_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare"]) == 0
    listed = capsys.readouterr().out
    for line in ("pairs A B OUT", "split_pairs FOLDER OUT", "edges FOLDER OUT", "resize FOLDER OUT [size=256]"):
        assert f"gantrain data prepare {line}" in listed
    assert "split FOLDER OUT [train=0.8 val=0.1 test=0.1 seed=0 links=false]" in listed
    assert "download" not in listed
    assert main(["data", "prepare", "edgs"]) == 2
    assert re.search("'data prepare edgs'.* did you mean 'prepare edges'", capsys.readouterr().err)


def test_pairs_are_joined_and_split_again_without_loss(capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(["train/x", "train/sub/y", "test/z"]):
        save(f"a/{name}.png", noise(seed))
        save(f"b/{name}.bmp", noise(seed + 10))
    assert prepare("pairs", "a", "b", "ab") == 0
    assert capsys.readouterr().out == "ab: 3 images\n"
    assert files("ab") == {"train/x.png", "train/sub/y.png", "test/z.png"}
    np.testing.assert_array_equal(pixels("ab/train/x.png"), np.hstack([noise(0), noise(10)]))
    assert prepare("split_pairs", "ab", "back") == 0
    assert files("back") == {
        f"{name}.png" for side in "AB" for name in (f"train{side}/x", f"train{side}/sub/y", f"test{side}/z")
    }
    np.testing.assert_array_equal(pixels("back/trainA/sub/y.png"), noise(1))
    np.testing.assert_array_equal(pixels("back/testB/z.png"), noise(12))
    assert no_leftovers()


def test_halves_of_images_without_phases_are_written_to_a_and_b() -> None:
    save("ab/1.png", noise(0))
    save("ab/other/2.png", noise(1))
    assert prepare("split_pairs", "ab", "out") == 0
    assert files("out") == {"A/1.png", "B/1.png", "A/other/2.png", "B/other/2.png"}
    np.testing.assert_array_equal(pixels("out/B/1.png"), noise(0)[:, 4:])


def test_pairs_may_differ_in_channels_and_depth() -> None:
    save("a/1.png", noise(0, channels=1))
    save("b/1.png", noise(1))
    save("a/2.png", noise(2, channels=1, dtype=np.uint16))
    save("b/2.png", noise(3))
    assert prepare("pairs", "a", "b", "ab") == 0
    gray = np.repeat(noise(0, channels=1)[..., None], 3, axis=2)
    np.testing.assert_array_equal(pixels("ab/1.png"), np.hstack([gray, noise(1)]))
    deep = np.repeat(noise(2, channels=1, dtype=np.uint16)[..., None], 3, axis=2)
    # 255 * 257 = 65535
    np.testing.assert_array_equal(pixels("ab/2.png"), np.hstack([deep, noise(3).astype(np.uint16) * 257]))


def test_images_without_partner_are_named_and_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("both", *(f"a{number:02}" for number in range(12))):
        save(f"a/{name}.png", noise(0))
    for name in ("both", "b1"):
        save(f"b/{name}.png", noise(0))
    assert prepare("pairs", "a", "b", "ab") == 2
    message = capsys.readouterr().err
    assert "12 in a and 1 in b" in message
    assert message.endswith(f"{', '.join(f'a/a{number:02}.png' for number in range(5))} and 8 more\n")
    assert no_leftovers()
    assert not Path("ab").exists()


def test_pairs_of_different_sizes_and_odd_halves_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    save("a/1.png", noise(0))
    save("b/1.png", noise(0, width=9))
    assert prepare("pairs", "a", "b", "ab") == 2
    assert "a/1.png and b/1.png have different sizes, [6, 8] and [6, 9] pixels" in capsys.readouterr().err
    assert prepare("split_pairs", "b", "out") == 2
    assert "b/1.png is 9 pixels wide, which can't be halved" in capsys.readouterr().err
    assert not Path("ab").exists()
    assert not Path("out").exists()


def test_pairs_of_incompatible_channels_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    save("a/1.npy", noise(0, channels=5))
    save("b/1.png", noise(1))
    assert prepare("pairs", "a", "b", "ab") == 2
    assert "a/1.npy and b/1.png have 5 and 3 channels" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["resize", "edges"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinite_values_are_refused(kind: str, value: float, capsys: pytest.CaptureFixture[str]) -> None:
    save("in/1.npy", np.full((4, 4), value, np.float32))
    assert prepare(kind, "in", "out") == 2
    assert "in/1.npy: some values are NaN or infinite" in capsys.readouterr().err


def test_two_images_that_would_become_one_file_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/1.png", noise(0))
    save("in/1.bmp", noise(1))
    assert prepare("resize", "in", "out") == 2
    assert "in/1.bmp and in/1.png differ only in their suffixes" in capsys.readouterr().err


@pytest.mark.parametrize(("height", "width", "window"), [(20, 40, np.s_[:, 10:30]), (41, 20, np.s_[10:30, :])])
def test_resize_crops_the_center_and_scales_as_pillow(height: int, width: int, window: Any) -> None:
    image = noise(0, height, width)
    save("in/sub/1.png", image)
    assert prepare("resize", "in", "out", "size=10") == 0
    expected = Image.fromarray(image[window]).resize((10, 10), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(pixels("out/sub/1.png"), np.asarray(expected))


def test_resize_to_height_and_width() -> None:
    image = noise(0, 30, 30)
    save("in/1.png", image)
    assert prepare("resize", "in", "out", "size=[5,10]") == 0
    expected = Image.fromarray(image[7:22]).resize((10, 5), Image.Resampling.BICUBIC)  # 30 x 15, twice as wide as high
    np.testing.assert_array_equal(pixels("out/1.png"), np.asarray(expected))


def test_resize_keeps_the_depth_and_the_range_of_values() -> None:
    save("in/deep.png", np.full((8, 8), 40001, np.uint16))
    save("in/float.npy", np.linspace(-1000, 3000, 64, dtype=np.float32).reshape(8, 8))
    save("in/chw.npy", noise(0, 3, 8, 12, np.uint16))
    assert prepare("resize", "in", "out", "size=4") == 0
    assert files("out") == {"deep.png", "float.npy", "chw.png"}
    np.testing.assert_array_equal(pixels("out/deep.png"), np.full((4, 4, 1), 40001, np.uint16))
    scaled = np.load("out/float.npy")
    assert scaled.dtype == np.float32
    assert scaled.min() >= -1000
    assert scaled.max() <= 3000
    # The mean of a ramp is preserved, its ends approximately.
    np.testing.assert_allclose([scaled.mean(), scaled[0, 0], scaled[-1, -1]], [1000, -700, 2700], atol=120)
    assert pixels("out/chw.png").shape == (4, 4, 3)
    assert pixels("out/chw.png").dtype == np.uint16


def test_transparent_images_get_a_white_background() -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2, :, 3] = 255
    save("in/1.png", clear)
    assert prepare("resize", "in", "out", "size=4") == 0
    np.testing.assert_array_equal(pixels("out/1.png")[:, 0, 0], [0, 0, 255, 255])


def blobs(seed: int) -> np.ndarray:
    """A few dark and bright discs (H, W) in [0, 1]."""
    rows, columns = np.indices((96, 128))
    image = np.full((96, 128), 0.5)
    generator = np.random.default_rng(seed)
    for value in (0.1, 0.9, 0.2, 0.75):
        y, x, radius = generator.uniform(20, 76), generator.uniform(20, 108), generator.uniform(8, 18)
        image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = value
    return image


def edges(image: np.ndarray, *words: str) -> np.ndarray:
    """The edges (H, W) that ``prepare edges`` finds in an image (H, W) in [0, 1]."""
    folder = f"{len(list(Path().iterdir()))}"
    save(f"{folder}/in/1.npy", image.astype(np.float32))
    assert prepare("edges", f"{folder}/in", f"{folder}/out", *words) == 0
    return pixels(f"{folder}/out/1.png")[..., 0] == 0


@pytest.mark.parametrize("seed", range(2))
def test_edges_are_those_of_scikit_image(seed: int) -> None:
    image = blobs(seed)
    image[0, :2] = 0, 1  # The values of an array are scaled from their minimum and maximum.
    expected = feature.canny(
        image.astype(np.float32).astype(float), sigma=2.0, low_threshold=0.1, high_threshold=0.2, mode="nearest"
    )
    assert expected.sum() > 150
    np.testing.assert_array_equal(edges(image), expected)


def test_weak_edges_are_found_only_if_connected_to_strong_ones() -> None:
    image = np.zeros((40, 40))
    image[:, 20:] = np.linspace(0.02, 0.4, 40)[:, None]  # A step that becomes weaker upwards.
    image[5:10, 3:8] = 0.05  # As weak as the middle of that step.
    image[0, 0] = 1
    whole = edges(image, "sigma=1", "low=0.05", "high=0.5")
    assert whole[30, 18:22].any()
    assert whole[10, 18:22].any()
    assert not whole[4:12, 2:12].any()
    assert not edges(image, "sigma=1", "low=0.5", "high=0.5")[10].any()
    assert edges(image, "sigma=1", "low=0.05", "high=0.05")[4:12, 2:12].any()


def test_a_step_from_black_to_white_has_a_gradient_of_4() -> None:
    image = np.zeros((12, 12))
    image[:, 6:] = 1
    # With sigma=0.1, nothing is blurred: Sobel's sum is 4 on both sides of the step.
    found = edges(image, "sigma=0.1", "low=3.99", "high=3.99")[1:-1]
    assert found[:, 5:7].any(axis=1).all()
    assert not found[:, [*range(5), *range(7, 12)]].any()
    assert not edges(image, "sigma=0.1", "low=4.1", "high=4.1").any()


def test_without_scikit_image_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    save("in/1.png", noise(0))
    assert prepare("edges", "in", "out") == 2
    assert re.search(r"scikit-image: pip install 'gantrain\[prepare\]'$", capsys.readouterr().err.strip())
    assert not Path("out").exists()


def test_edges_are_black_on_white_or_inverted(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/1.png", (blobs(0) * 255).astype(np.uint8))
    assert prepare("edges", "in", "out") == 0
    assert prepare("edges", "in", "inverted", "invert=true") == 0
    drawn, inverted = pixels("out/1.png"), pixels("inverted/1.png")
    assert drawn.shape == (96, 128, 1)
    assert set(np.unique(drawn)) == {0, 255}
    assert drawn.mean() > 200
    np.testing.assert_array_equal(drawn, 255 - inverted)
    assert prepare("edges", "in", "none", "low=0.3") == 2
    assert "low (0.3) must not exceed high (0.2)" in capsys.readouterr().err
    assert prepare("edges", "in", "none", "sigma=1e9") == 2
    assert "sigma: expected a number above 0 and at most 100" in capsys.readouterr().err


class Stopped(BaseException):
    pass


def test_images_are_loaded_in_their_own_depth_and_colours(tmp_path: Path) -> None:
    for name, image in (
        ("gray.png", noise(0, channels=1)),
        ("colour.png", noise(1)),
        ("deep.png", noise(2, channels=1, dtype=np.uint16)),
        ("stack.npy", noise(3, channels=5)),
        ("gray.npy", noise(4, channels=1).astype(np.float64)),
    ):
        loaded = load(save(tmp_path / name, image))
        assert loaded.dtype == image.dtype
        np.testing.assert_array_equal(loaded, image if image.ndim == 3 else image[..., None])
