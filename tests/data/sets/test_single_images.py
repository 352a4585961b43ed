"""Images of a folder: conversion, crops, flips, depth and channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from single_folder import SIZE, colour, folder, image, noise, paint, save
from torch import Tensor

from gantrain.errors import ConfigError


def test_images_get_the_requested_channels(tmp_path: Path) -> None:
    paint(tmp_path / "colour.png", (10, 120, 240))
    paint(tmp_path / "gray.png", 77, mode="L")
    paint(tmp_path / "palette.png", 3, mode="P")
    in_colour, in_gray = folder(tmp_path), folder(tmp_path, channels=1)
    # ITU-R 601: 0.299 * 10 + 0.587 * 120 + 0.114 * 240 = 100.79
    assert colour(image(in_gray, 0)) == pytest.approx([101], abs=1)
    assert colour(image(in_colour, 0)) == [10, 120, 240]
    assert colour(image(in_gray, 1)) == [77]
    assert colour(image(in_colour, 1)) == [77, 77, 77]
    assert image(in_colour, 2).shape == (3, 16, 16)
    assert in_gray.spec.shape("image") == (1, 16, 16)
    assert in_colour.spec.shape("image") == (3, 16, 16)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_16_bit_gray_is_scaled_to_8_bits_not_clipped(tmp_path: Path, extension: str) -> None:
    values = torch.tensor([0, 257, 257 * 100, 257 * 100 + 100, 257 * 254, 65535], dtype=torch.int32)
    pixels = values.to(torch.uint16).repeat_interleave(4)[None].expand(16, -1)
    Image.fromarray(np.ascontiguousarray(pixels.numpy())).save(tmp_path / f"deep.{extension}")
    row = image(folder(tmp_path, channels=1, depth="uint8"))[0, 8]
    assert set(row.tolist()) <= {0, 1, 100, 254, 255}
    assert row[8] == 100


def test_transparent_images_get_a_white_background(tmp_path: Path) -> None:
    paint(tmp_path / "a_clear.png", (0, 0, 0, 0), mode="RGBA")
    paint(tmp_path / "b_half.png", (0, 0, 200, 128), mode="RGBA")
    paint(tmp_path / "c_solid.png", (10, 20, 30, 255), mode="RGBA")
    paint(tmp_path / "d_gray.png", (0, 0), mode="LA")
    found = folder(tmp_path)
    assert colour(image(found, 0)) == [255, 255, 255]
    # Alpha 128 / 255: 0.498 of white and 0.502 of the colour.
    assert colour(image(found, 1)) == pytest.approx([127, 127, 227], abs=1)
    assert colour(image(found, 2)) == [10, 20, 30]
    assert colour(image(found, 3)) == [255, 255, 255]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda pixels: pixels),
        (3, lambda pixels: pixels.flip(0, 1)),
        (6, lambda pixels: pixels.rot90(-1, (0, 1))),
        (8, lambda pixels: pixels.rot90(1, (0, 1))),
    ],
)
def test_images_are_turned_upright(tmp_path: Path, orientation: int, upright: Callable[[Tensor], Tensor]) -> None:
    stored = noise(16, 16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "turned.png", stored, exif=exif)
    assert torch.equal(image(folder(tmp_path)), upright(stored).permute(2, 0, 1))


@pytest.mark.parametrize("size", [(24, 16), (16, 24), (50, 31), (7, 9), (16, 16), (300, 20)])
def test_the_shorter_side_becomes_load_size_and_the_center_is_cropped(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    original = Image.fromarray(noise(height, width).numpy())
    original.save(tmp_path / "image.png")
    for load, crop in ((16, 16), (20, 12)):
        scale = load / min(size)
        scaled = original.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
        left, top = (scaled.width - crop) // 2, (scaled.height - crop) // 2
        expected = torch.from_numpy(np.array(scaled)).permute(2, 0, 1)[:, top : top + crop, left : left + crop]
        assert torch.equal(image(folder(tmp_path, load_size=load, crop_size=crop)), expected)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"crop_size": 17}, r"data\.crop_size \(17\) must not exceed data\.load_size \(16\)"),
        ({"crop_size": [8, 17]}, r"data\.crop_size \(\[8, 17\]\) must not exceed data\.load_size \(16\)"),
        ({"crop_size": 0}, rf"data\.crop_size: {SIZE}, got 0"),
        ({"load_size": 0}, rf"data\.load_size: {SIZE}, got 0"),
        ({"load_size": [16]}, rf"data\.load_size: {SIZE}, got \[16\]"),
        ({"channels": 0}, r"data\.channels: expected a whole number at least 1, got 0"),
    ],
)
def test_an_invalid_size_is_refused(tmp_path: Path, keys: dict[str, Any], text: str) -> None:
    paint(tmp_path / "1.png")
    with pytest.raises(ConfigError, match=f"^{text}$"):
        folder(tmp_path, **keys)


def place_of(crop: Tensor, whole: Tensor) -> tuple[int, int]:
    """The only row and column at which ``whole`` contains ``crop``."""
    size = crop.size(-1)
    windows = whole.unfold(1, size, 1).unfold(2, size, 1)  # (C, rows, columns, size, size)
    same = (windows == crop[:, None, None]).all(dim=4).all(dim=3).all(dim=0)
    ((row, column),) = same.nonzero().tolist()
    return row, column


def test_a_random_crop_depends_only_on_the_seed(tmp_path: Path) -> None:
    save(tmp_path / "image.png", noise(8, 10))
    whole = noise(8, 10).permute(2, 0, 1)
    found = folder(tmp_path, load_size=8, crop_size=6, crop="random")
    first = [image(found, seed=seed) for seed in range(200)]
    torch.rand(3)
    again = [image(folder(tmp_path, load_size=8, crop_size=6, crop="random"), seed=seed) for seed in range(200)]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    places = {place_of(crop, whole) for crop in first}
    assert places == {(row, column) for row in range(3) for column in range(5)}


def test_half_of_the_images_are_flipped_by_the_seed_alone(tmp_path: Path) -> None:
    save(tmp_path / "image.png", noise(8, 8))
    plain = noise(8, 8).permute(2, 0, 1)
    found = folder(tmp_path, load_size=8, crop_size=8, flip=True)
    mirrored = []
    for seed in range(1000):
        pixels = image(found, seed=seed)
        mirrored.append(torch.equal(pixels, plain.flip(-1)))
        assert mirrored[-1] or torch.equal(pixels, plain)
    # The standard error of a fraction of 1000 is 0.016.
    assert sum(mirrored) / 1000 == pytest.approx(0.5, abs=0.08)
    assert torch.equal(image(found, seed=5), image(found, seed=5))


def test_flip_and_crop_are_independent(tmp_path: Path) -> None:
    save(tmp_path / "image.png", noise(8, 8))
    whole = noise(8, 8).permute(2, 0, 1)
    cropped = folder(tmp_path, load_size=8, crop_size=7, crop="random")
    both = folder(tmp_path, load_size=8, crop_size=7, crop="random", flip=True)
    outcomes = set()
    for seed in range(60):
        place = place_of(image(cropped, seed=seed), whole)
        outcomes.add((place, torch.equal(image(both, seed=seed), image(cropped, seed=seed))))
    assert len(outcomes) == 8


def test_the_global_generator_of_torch_is_not_used(tmp_path: Path) -> None:
    save(tmp_path / "image.png", noise(8, 8))
    before = torch.get_rng_state()
    image(folder(tmp_path, load_size=8, crop_size=6, crop="random", flip=True), seed=4)
    assert torch.equal(torch.get_rng_state(), before)


def test_in_testing_the_center_is_cropped_without_flips(tmp_path: Path) -> None:
    save(tmp_path / "image.png", noise(8, 10))
    found = folder(tmp_path, phase="test", load_size=8, crop_size=6, crop="random", flip=True)
    expected = noise(8, 10).permute(2, 0, 1)[:, 1:7, 2:8]
    assert all(torch.equal(image(found, seed=seed), expected) for seed in range(20))


def test_preprocess_replaces_the_default(tmp_path: Path) -> None:
    save(tmp_path / "1.png", noise(20, 30))
    original = Image.open(tmp_path / "1.png")
    keys = {"preprocess": "resize_and_crop", "load_size": [12, 16], "crop_size": [10, 14]}
    assert folder(tmp_path, **keys).spec.shape("image") == (3, 10, 14)
    whole = torch.from_numpy(np.array(original.resize((16, 12), Image.Resampling.BICUBIC))).permute(2, 0, 1)
    assert torch.equal(image(folder(tmp_path, **keys)), whole[:, 1:11, 1:15])
    small = torch.from_numpy(np.array(original.resize((14, 10), Image.Resampling.BICUBIC))).permute(2, 0, 1)
    assert torch.equal(image(folder(tmp_path, **keys, phase="test")), small)


def test_testing_scales_as_training_unless_preprocess_is_given(tmp_path: Path) -> None:
    save(tmp_path / "1.png", noise(40, 40))
    usual = folder(tmp_path, phase="test", load_size=20, crop_size=10)
    named = folder(tmp_path, phase="test", load_size=20, crop_size=10, preprocess="scale_shortside_and_crop")
    original = Image.open(tmp_path / "1.png")
    for dataset, scaled, edge in ((usual, 20, 5), (named, 10, 0)):
        pixels = np.asarray(original.resize((scaled, scaled), Image.Resampling.BICUBIC))
        expected = torch.from_numpy(pixels[edge : edge + 10, edge : edge + 10].copy()).permute(2, 0, 1)
        assert torch.equal(image(dataset), expected)


@pytest.mark.parametrize("phase", ["train", "test"])
def test_16_bit_images_stay_16_bit(tmp_path: Path, phase: str) -> None:
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257 + 1
    Image.fromarray(pixels).save(tmp_path / "1.png")
    dataset = folder(tmp_path, channels=1, phase=phase)
    assert dataset.spec.depth == {"image": "uint16"}
    assert dataset.spec.ranges == {}
    np.testing.assert_array_equal(image(dataset)[0].numpy(), pixels)


def test_arrays_of_floats_are_read_by_their_range(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", np.linspace(-500, 500, 5 * 16 * 16, dtype=np.float32).reshape(16, 16, 5))
    dataset = folder(tmp_path, channels=5, range=[-500, 500])
    assert (dataset.spec.depth, dataset.spec.ranges) == ({"image": "float32"}, {"image": (-500.0, 500.0)})
    torch.testing.assert_close(
        image(dataset).permute(1, 2, 0).reshape(-1), torch.linspace(-1, 1, 5 * 16 * 16), atol=1e-6, rtol=0
    )
    with pytest.raises(ConfigError, match=r"^floating-point images need data\.range=\[LOW,HIGH\]"):
        folder(tmp_path, channels=5)


def test_four_channels_are_not_converted(tmp_path: Path) -> None:
    four = torch.cat([noise(16, 16), noise(16, 16, 1)[..., :1]], dim=2)
    save(tmp_path / "1.png", four)
    assert torch.equal(image(folder(tmp_path, channels=4)), four.permute(2, 0, 1))
