"""Faster decoding and scaling stay close to Pillow's values and do not shift the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from skimage import data as photographs

from gantrain.data.images.reader import ImageReader
from gantrain.data.images.sources import FolderSource
from gantrain.data.images.transforms import Preprocess, resize

BICUBIC = Image.Resampling.BICUBIC


def photo(height: int, width: int) -> np.ndarray:
    """A photograph (H, W, 3) of this size."""
    return np.asarray(Image.fromarray(photographs.astronaut()).resize((width, height), BICUBIC))


def scaled(path: Path, decoder: str, columns: int = 1, **keys) -> list[np.ndarray]:
    """The columns of an image as training scales them, as signed numbers."""
    keys = {"preprocess": "resize_and_crop", "load_size": 64, "crop_size": 64, "flip": False, "training": True} | keys
    channels = keys.pop("channels", 3)
    domain = ImageReader(
        FolderSource(path.parent, [path]), channels=channels, depth="auto", value_range=None, columns=columns
    )
    return [part.astype(int) for part in domain.scaled(0, Preprocess(decoder=decoder, **keys))]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(286, 286), (64, 64), (300, 200), (427, 640)])
def test_fast_scaling_is_within_one_gray_level_of_pillow(size: tuple[int, int], channels: int) -> None:
    pixels = np.concatenate([photo(256, 300), photo(256, 300)], axis=2)[..., :channels]
    difference = np.abs(resize(pixels, *size, fast=True).astype(int) - resize(pixels, *size))
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_fast_scaling_of_noise_is_within_two_gray_levels() -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (256, 256, 3), dtype=np.uint8) * 255
    difference = np.abs(resize(pixels, 286, 286, fast=True).astype(int) - resize(pixels, 286, 286))
    assert difference.max() <= 2
    assert (difference > 1).mean() < 1e-4


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_other_depths_are_scaled_exactly(dtype: type) -> None:
    pixels = (photo(40, 50) / 255 * (65535 if dtype == np.uint16 else 1)).astype(dtype)
    assert np.array_equal(resize(pixels, 30, 20, fast=True), resize(pixels, 30, 20))


def test_a_read_only_image_is_not_changed(recwarn) -> None:
    pixels = photo(40, 50)
    pixels.setflags(write=False)
    before = pixels.copy()
    resize(pixels, 20, 20, fast=True)
    resize(pixels[:, 10:], 20, 20, fast=True)
    assert np.array_equal(pixels, before)
    assert not recwarn.list


@pytest.mark.parametrize("decoder", ["exact", "fast"])
def test_jpegs_are_decoded_in_full_size_unless_decoder_is_draft(decoder: str, tmp_path: Path, monkeypatch) -> None:
    Image.fromarray(photo(512, 512)).save(tmp_path / "1.jpg")
    monkeypatch.setattr(JpegImageFile, "draft", lambda *_: pytest.fail("reduced"))
    wanted = np.asarray(Image.open(tmp_path / "1.jpg").resize((64, 64), BICUBIC)).astype(int)
    (found,) = scaled(tmp_path / "1.jpg", decoder)
    assert np.abs(found - wanted).max() <= (0 if decoder == "exact" else 1)


# (height, width) of the file, the requested size, and the factor of the reduction.
REDUCED = [
    ((512, 512), 256, 2),
    ((511, 512), 256, 1),
    ((512, 512), 64, 8),
    ((1000, 301), 64, 4),
    ((501, 375), 64, 4),
    ((300, 517), (60, 200), 2),
    ((256, 400), (60, 200), 2),
]


@pytest.mark.parametrize("turn", [1, 6])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("file", "size", "factor"), REDUCED)
def test_a_reduced_jpeg_is_not_shifted(
    file: tuple[int, int],
    size: int | tuple[int, int],
    factor: int,
    channels: int,
    turn: int,
    tmp_path: Path,
    monkeypatch,
) -> None:
    path, exif = tmp_path / "1.jpg", Image.Exif()
    exif[274] = turn
    Image.fromarray(photo(*(file if turn == 1 else file[::-1]))).save(path, quality=95, exif=exif)
    factors = []
    real = JpegImageFile.draft

    def noted(self: JpegImageFile, mode: str | None, wanted: tuple[int, int]) -> object:
        before = self.width
        answer = real(self, mode, wanted)
        factors.append(round(before / self.width))
        return answer

    monkeypatch.setattr(JpegImageFile, "draft", noted)
    keys = {"load_size": size, "crop_size": size, "channels": channels}
    (exact,), (found,) = (scaled(path, decoder, **keys) for decoder in ("exact", "draft"))
    assert found.shape == exact.shape
    turned_unevenly = turn == 6 and (file[0] % factor or file[1] % factor)
    assert factors == ([] if factor == 1 or turned_unevenly else [factor])
    assert np.abs(found - exact).mean() < 2.5
    # The difference is not correlated with the slope, as it would be after a shift by a quarter of a pixel.
    for axis in (0, 1):
        slope = np.gradient(exact.astype(float), axis=axis)
        assert abs((slope * (found - exact)).sum() / (slope**2).sum()) < 0.05


@pytest.mark.parametrize(("depth", "value_range"), [("uint16", None), ("float32", (0, 255)), ("uint8", (0, 200))])
def test_jpegs_are_not_reduced_if_their_values_are_converted(
    depth: str, value_range: tuple[float, float] | None, tmp_path: Path
) -> None:
    Image.fromarray(photo(255, 513)).save(tmp_path / "1.jpg", quality=95)  # Neither size is divisible by 8.
    keys = {"preprocess": "resize_and_crop", "load_size": 32, "crop_size": 32, "flip": False, "training": True}
    source = FolderSource(tmp_path, [tmp_path / "1.jpg"])
    exact, found = (
        ImageReader(source, channels=3, depth=depth, value_range=value_range).scaled(
            0, Preprocess(decoder=decoder, **keys)
        )
        for decoder in ("exact", "draft")
    )
    assert found[0].dtype == ("uint16" if depth == "uint16" else "float32")
    assert np.array_equal(exact[0], found[0])


@pytest.mark.parametrize(("width", "reduced"), [(512, True), (516, True), (514, False)])
def test_both_halves_of_a_reduced_pair_stay_separate(width: int, reduced: bool, tmp_path: Path) -> None:
    left, right = photo(256, width // 2), np.full((256, width // 2, 3), 255, dtype=np.uint8)
    Image.fromarray(np.hstack([left, right])).save(tmp_path / "1.jpg", quality=95, subsampling=0)
    exact, found = (scaled(tmp_path / "1.jpg", decoder, columns=2) for decoder in ("exact", "draft"))
    assert not np.array_equal(found[0], exact[0])
    assert found[0].shape == found[1].shape == (64, 64, 3)
    assert all(np.abs(one - other).mean() < 2.5 for one, other in zip(found, exact, strict=True))
    assert found[1][:, 2:].min() > 240  # It contains nothing of the left half.


@pytest.mark.parametrize("name", ["1.png", "1.webp"])
def test_only_jpegs_are_reduced(name: str, tmp_path: Path) -> None:
    Image.fromarray(photo(512, 512)).save(tmp_path / name)
    (fast,), (draft,) = (scaled(tmp_path / name, decoder) for decoder in ("fast", "draft"))
    assert np.array_equal(fast, draft)


def test_jpegs_are_not_reduced_without_scaling(tmp_path: Path) -> None:
    Image.fromarray(photo(512, 512)).save(tmp_path / "1.jpg")
    for mode in ("none", "crop"):
        (exact,), (draft,) = (scaled(tmp_path / "1.jpg", decoder, preprocess=mode) for decoder in ("exact", "draft"))
        assert np.array_equal(exact, draft)


def test_the_number_of_threads_does_not_change_the_result() -> None:
    pixels = photo(256, 300)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(resize(pixels, 286, 286, fast=True))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(*found)
