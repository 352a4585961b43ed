"""Gray, colour, transparency and orientation of images of every depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from deep_images import Pixels, chunk, deep_png, noise, read, stored_depth
from PIL import Image

from gantrain.data.images.finding import find_images
from gantrain.errors import ConfigError


def upright(stored: Pixels, orientation: int) -> Pixels:
    """The upright image, by EXIF's table of where row 0 and column 0 are."""
    return {
        1: stored,
        2: stored[:, ::-1],
        3: np.rot90(stored, 2),
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]


def luma(pixels: Pixels) -> Pixels:
    return pixels.astype(float) @ [[0.299], [0.587], [0.114]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_becomes_gray_as_in_pillow_at_every_depth(tmp_path: Path, dtype: Any) -> None:
    pixels = noise(64, 64, dtype=dtype)
    depth = np.dtype(dtype).name
    if dtype == np.uint8:
        Image.fromarray(pixels).save(tmp_path / "1.png")
        tifffile.imwrite(tmp_path / "2.tif", pixels, photometric="rgb")
        assert np.array_equal(read(tmp_path / "1.png", 1, depth)[..., 0], Image.fromarray(pixels).convert("L"))
    else:
        deep_png(tmp_path / "1.png", pixels)
        tifffile.imwrite(tmp_path / "2.tif", pixels, photometric="rgb")
    np.save(tmp_path / "3.npy", pixels)
    results = [read(path, 1, depth) for path in find_images(tmp_path)]
    assert all(np.array_equal(result, results[0]) for result in results)
    assert results[0].dtype == dtype
    # Half a step for rounding; Pillow's weights are multiples of 1/65536.
    assert np.abs(results[0] - luma(pixels)).max() <= (0.51 if dtype == np.uint8 else 1.01)


def test_gray_is_repeated_in_every_colour_channel_at_every_depth(tmp_path: Path) -> None:
    deep_png(tmp_path / "1.png", noise(channels=1))
    tifffile.imwrite(tmp_path / "2.tif", noise(channels=1)[..., 0])
    np.save(tmp_path / "3.npy", noise(channels=1))
    for path in find_images(tmp_path):
        np.testing.assert_array_equal(read(path, 3), np.repeat(noise(channels=1), 3, axis=2))


@pytest.mark.parametrize(("kind", "channels"), [("png", 2), ("png", 4), ("tif", 2), ("tif", 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_images_get_a_white_background_at_every_depth(
    tmp_path: Path, kind: str, channels: int, dtype: Any
) -> None:
    pixels = noise(64, 64, channels, dtype)
    pixels[0, :, -1], pixels[1, :, -1] = 0, np.iinfo(dtype).max
    path = tmp_path / f"1.{kind}"
    if kind == "tif":
        tifffile.imwrite(
            path, pixels, photometric="rgb" if channels == 4 else "minisblack", extrasamples=["unassalpha"]
        )
    elif dtype == np.uint16:
        deep_png(path, pixels)
    else:
        Image.fromarray(pixels, mode="LA" if channels == 2 else "RGBA").save(path)
    largest = np.iinfo(dtype).max
    alpha = pixels[..., -1:] / largest
    expected = pixels[..., :-1] * alpha + largest * (1 - alpha)
    depth = np.dtype(dtype).name
    for wanted in (1, 3):
        result = read(path, wanted, depth).astype(float)
        gray = luma(expected) if channels == 4 and wanted == 1 else expected
        assert result.shape[2] == wanted
        assert np.abs(result - gray).max() <= 1.6  # It is rounded twice.
        assert (result[0] == largest).all()
    if channels == 4:
        np.testing.assert_array_equal(read(path, 3, depth)[1], pixels[1, :, :3])


def test_16_bit_transparency_is_rounded_to_the_nearest_value(tmp_path: Path) -> None:
    path = deep_png(tmp_path / "1.png", np.uint16([[[1, 40000], [60000, 40000]]]))
    # (1 * 40000 + 65535 * 25535) / 65535 = 25535.61; 60000 * 40000 / 65535 + 25535 = 62156.64.
    assert read(path, 1).ravel().tolist() == [25536, 62157]


def test_premultiplied_16_bit_colours_are_not_multiplied_again(tmp_path: Path) -> None:
    pixels = np.uint16([[[10000, 0, 30000, 32768]]])
    tifffile.imwrite(tmp_path / "1.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    # The colour plus 65535 - 32768 of white.
    assert read(tmp_path / "1.tif").ravel().tolist() == [42767, 32767, 62767]


def test_a_colour_declared_transparent_becomes_white(tmp_path: Path) -> None:
    shallow = Image.fromarray(np.uint8([[7, 8]]))
    shallow.save(tmp_path / "1.png", transparency=7)
    palette = Image.fromarray(np.uint8([[0, 1]]), mode="P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "2.png", transparency=0)
    assert read(tmp_path / "1.png", 1, "uint8").ravel().tolist() == [255, 8]
    assert read(tmp_path / "2.png", 3, "uint8").tolist() == [[[255, 255, 255], [40, 50, 60]]]
    for channels in (1, 3):
        pixels = noise(channels=channels)
        colour = pixels[2, 3].astype(">u2").tobytes()
        path = deep_png(tmp_path / "deep.png", pixels, chunk(b"tRNS", colour))
        expected = pixels.copy()
        expected[2, 3] = 65535
        np.testing.assert_array_equal(read(path, channels), expected)


def test_images_of_the_requested_channels_are_not_converted(tmp_path: Path) -> None:
    four = noise(channels=4, dtype=np.uint8)
    two = four[..., :2]
    Image.fromarray(four, mode="RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(four, mode="CMYK").save(tmp_path / "cmyk.tif")
    Image.fromarray(np.ascontiguousarray(two), mode="LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(read(tmp_path / "rgba.png", 4, "uint8"), four)
    np.testing.assert_array_equal(read(tmp_path / "cmyk.tif", 4, "uint8"), four)
    np.testing.assert_array_equal(read(tmp_path / "la.png", 2, "uint8"), two)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_8_bit_mode_is_converted_as_by_pillow(tmp_path: Path, mode: str, channels: int) -> None:
    image = Image.fromarray(noise(9, 9, 3, np.uint8)).convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    image.save(tmp_path / f"1.{suffix}")
    assert stored_depth(tmp_path / f"1.{suffix}") == "uint8"
    expected = image.convert("L" if channels == 1 else "RGB")  # All colours are opaque.
    assert np.array_equal(read(tmp_path / f"1.{suffix}", channels, "uint8").squeeze(), expected)


@pytest.mark.parametrize(("stored", "requested"), [(2, 3), (3, 4), (3, 2), (1, 2), (4, 5), (5, 3), (5, 1)])
@pytest.mark.parametrize("suffix", ["", "_b"])
def test_other_channels_are_refused_with_the_key_to_set(
    tmp_path: Path, stored: int, requested: int, suffix: str
) -> None:
    np.save(tmp_path / "1.npy", noise(9, 9, stored))
    key = rf"data\.channels{suffix}"
    text = rf"^{tmp_path}/1\.npy has {stored} channels, .* {key}={requested}: .*{key}={stored}"
    with pytest.raises(ConfigError, match=text):
        read(tmp_path / "1.npy", requested, suffix=suffix)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("kind", "depth"), [("png", "uint8"), ("png", "uint16"), ("tif", "uint8"), ("tif", "uint16")])
def test_images_are_turned_upright_at_every_depth(
    tmp_path: Path, kind: str, depth: str, channels: int, orientation: int
) -> None:
    pixels = noise(channels=channels, dtype=np.dtype(depth))
    path = tmp_path / f"1.{kind}"
    exif = Image.Exif()
    exif[274] = orientation
    if kind == "tif":
        extra = [(274, "H", 1, orientation, True)]
        kinds = {"photometric": "rgb" if channels > 2 else "minisblack"}
        if channels > 1:
            kinds["planarconfig"] = "contig"
        tifffile.imwrite(path, pixels.squeeze(), **kinds, extratags=extra)
    elif depth == "uint16":
        deep_png(path, pixels, chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    else:
        Image.fromarray(pixels.squeeze(), mode=("L", "LA", "RGB", "RGBA")[channels - 1]).save(path, exif=exif)
    np.testing.assert_array_equal(read(path, channels, depth), upright(pixels, orientation))


def test_a_jpeg_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels).save(tmp_path / "1.jpg", exif=exif)
    result = read(tmp_path / "1.jpg", depth="uint8")
    assert result.shape == (32, 16, 3)
    assert result[2, 8].tolist() == [255] * 3  # Its left side is now on top.
    assert result[-3, 8].tolist() == [0] * 3
