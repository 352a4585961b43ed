"""Images are read and written exactly, at every depth and with every number of channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from deep_images import LARGEST, deep_png, noise, read, stored_depth
from PIL import Image
from torch import Tensor

from gantrain.data.images.convert import write_image
from gantrain.errors import ConfigError


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_16_bit_png_is_read_exactly(tmp_path: Path, channels: int) -> None:
    pixels = noise(channels=channels)
    path = deep_png(tmp_path / "deep.png", pixels)
    assert stored_depth(path) == "uint16"
    result = read(path, channels)
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result, pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", [False, True])
def test_a_tiff_is_read_exactly(
    tmp_path: Path, channels: int, dtype: Any, compression: str | None, planar: bool
) -> None:
    pixels = noise(channels=channels, dtype=dtype)
    photometric = "rgb" if channels == 3 else "minisblack"
    layout = {"planarconfig": "separate" if planar else "contig"} if channels > 1 else {}
    array = pixels[..., 0] if channels == 1 else pixels.transpose(2, 0, 1) if planar else pixels
    tifffile.imwrite(tmp_path / "1.tif", array, photometric=photometric, compression=compression, **layout)
    depth = np.dtype(dtype).name
    assert stored_depth(tmp_path / "1.tif") == depth
    result = read(tmp_path / "1.tif", channels, depth)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, pixels)


def test_a_16_bit_tiff_compressed_by_pillow_needs_no_other_package(tmp_path: Path) -> None:
    pixels = noise(channels=1)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "1.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read(tmp_path / "1.tif", 1), pixels)


def test_a_big_endian_tiff_is_read_in_native_byte_order(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "1.tif", noise(), photometric="rgb", byteorder=">")
    result = read(tmp_path / "1.tif")
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, noise())


@pytest.mark.parametrize("channels", [1, 3])
def test_values_are_inverted_where_zero_is_white(tmp_path: Path, channels: int) -> None:
    pixels = noise(channels=1)
    tifffile.imwrite(tmp_path / "1.tif", pixels[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read(tmp_path / "1.tif", channels), np.repeat(65535 - pixels, channels, axis=2))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (2, 5, 7), (3, 5, 7)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2"])
def test_an_array_may_have_its_channels_first_or_last(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    np.save(tmp_path / "1.npy", array)
    first = len(shape) == 3 and shape[0] < 5
    channels = 1 if len(shape) == 2 else shape[0] if first else shape[2]
    expected = array[..., None] if len(shape) == 2 else array.transpose(1, 2, 0) if first else array
    depth = np.dtype(dtype).newbyteorder("=").name
    assert stored_depth(tmp_path / "1.npy") == depth
    result = read(tmp_path / "1.npy", channels, depth)
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, expected)


def test_in_an_ambiguous_array_the_channels_are_last(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", noise(3, 7, 3))
    np.testing.assert_array_equal(read(tmp_path / "1.npy"), noise(3, 7, 3))


def test_8_bit_images_are_scaled_in_a_16_bit_data_set(tmp_path: Path) -> None:
    pixels = noise(16, 16, 1, np.uint8)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "1.png")
    result = read(tmp_path / "1.png", 1)
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result, pixels.astype(int) * 257)  # 255 becomes 65535.


def test_an_image_deeper_than_the_data_set_is_refused_or_rounded(tmp_path: Path) -> None:
    path = deep_png(tmp_path / "deep.png", noise(64, 64))
    with pytest.raises(ConfigError, match=rf"^{path} has a depth of uint16, .* of uint8: give data\.depth=uint16$"):
        read(path, depth="uint8")
    result = read(path, depth="uint8", convert=True)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, np.rint(noise(64, 64) / 257))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32])
def test_other_number_types_are_never_rounded(tmp_path: Path, dtype: Any) -> None:
    np.save(tmp_path / "1.npy", noise(dtype=dtype))
    assert stored_depth(tmp_path / "1.npy") == "float32"
    for convert in (False, True):
        with pytest.raises(ConfigError, match=rf"^{tmp_path}/1\.npy is not .* integers: give data\.depth=float32$"):
            read(tmp_path / "1.npy", value_range=(0, 1), convert=convert)


@pytest.mark.parametrize("suffix", ["tif", "npy"])
@pytest.mark.parametrize("channels", [1, 3])
def test_float_images_are_mapped_by_their_range_and_clipped(tmp_path: Path, suffix: str, channels: int) -> None:
    values = np.float32([[-2000, -1000, 0], [500, 1000, 3000]])
    pixels = np.stack([values] * channels, axis=2)
    path = tmp_path / f"1.{suffix}"
    if suffix == "npy":
        np.save(path, pixels)
    else:
        tifffile.imwrite(
            path, pixels if channels == 3 else values, photometric="rgb" if channels == 3 else "minisblack"
        )
    assert stored_depth(path) == "float32"
    result = read(path, channels, "float32", (-1000, 1000))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result[..., 0], np.float32([[-1, -1, 0], [0.5, 1, 1]]))
    with pytest.raises(ConfigError, match=rf"^floating-point images need data\.range=\[LOW,HIGH\].*{path}$"):
        read(path, channels, "float32")
    with pytest.raises(ConfigError, match=r"^floating-point images need data\.range_b=\[LOW,HIGH\]"):
        read(path, channels, "float32", suffix="_b")


def test_integer_images_are_mapped_by_a_range_too(tmp_path: Path) -> None:
    path = deep_png(tmp_path / "1.png", np.uint16([0, 100, 2100, 4100, 65535]).reshape(1, 5, 1))
    assert read(path, 1, value_range=(100, 4100)).ravel().tolist() == [-1, -1, 0, 1, 1]


def test_integer_images_in_a_float_data_set_cover_minus_1_to_1(tmp_path: Path) -> None:
    Image.fromarray(np.uint8([[0, 51, 255]])).save(tmp_path / "1.png")
    deep = deep_png(tmp_path / "2.png", np.uint16([0, 13107, 65535]).reshape(1, 3, 1))
    for path in (tmp_path / "1.png", deep):  # The second value is a fifth of the way from -1 to 1.
        np.testing.assert_allclose(read(path, 1, "float32").ravel(), [-1, -0.6, 1], rtol=1e-7)


def test_nan_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", np.float32([[0, np.nan]]))
    with pytest.raises(ConfigError, match=rf"^can't read the image {tmp_path}/1\.npy: some .* NaN$"):
        read(tmp_path / "1.npy", 1, "float32", (0, 1))


def images(channels: int, values: Tensor) -> Tensor:
    """An image (C, 8, W) of these values, in another order in each channel."""
    return torch.stack([values.roll(channel) for channel in range(channels)]).view(channels, 8, -1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_every_value_survives_writing_and_reading(tmp_path: Path, channels: int, depth: str) -> None:
    largest = LARGEST[depth]
    stored = images(channels, torch.arange(largest + 1))
    image = stored.float() / (largest / 2) - 1
    path = write_image(tmp_path / "sub/folder/1.v2", image, depth=depth, value_range=None)
    assert path == tmp_path / ("sub/folder/1.v2.png" if channels in (1, 3) else "sub/folder/1.v2.npy")
    assert stored_depth(path) == depth
    np.testing.assert_array_equal(read(path, channels, depth), stored.permute(1, 2, 0).numpy())
    assert Image.open(path).format == "PNG" if channels in (1, 3) else np.load(path).dtype == depth


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_written_values_are_rounded_to_the_nearest_and_clipped(tmp_path: Path, depth: str, channels: int) -> None:
    half_step = 1 / LARGEST[depth]
    near = torch.tensor([-7.0, -1.0, -1 + 0.9 * half_step, -1 + 1.1 * half_step, 1 - 0.9 * half_step, 1.0, 3.0, 1.0])
    path = write_image(tmp_path / "1", images(1, near).expand(channels, -1, -1), depth=depth, value_range=None)
    last = LARGEST[depth]
    assert read(path, channels, depth)[..., 0].ravel().tolist() == [0, 0, 0, 1, last, last, last, last]


@pytest.mark.parametrize("channels", [1, 3])
def test_writing_inverts_a_range(tmp_path: Path, channels: int) -> None:
    stored = images(channels, torch.arange(4096))
    image = stored.double() / 4095 * 2 - 1
    path = write_image(tmp_path / "1.png", image, depth="uint16", value_range=(0, 4095))
    assert path == tmp_path / "1.png"
    np.testing.assert_array_equal(read(path, channels), stored.permute(1, 2, 0).numpy())
    again = read(path, channels, value_range=(0, 4095))
    np.testing.assert_array_equal(again, image.float().permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("channels", "shape"), [(1, (8, 2)), (3, (8, 2, 3))])
def test_floats_are_written_as_arrays_in_their_own_unit(tmp_path: Path, channels: int, shape: tuple[int, ...]) -> None:
    image = images(channels, torch.linspace(-1, 1, 16))
    path = write_image(tmp_path / "1", image, depth="float32", value_range=(-1000, 3000))
    stored = np.load(path)
    assert (path.suffix, stored.dtype, stored.shape) == (".npy", np.float32, shape)
    assert (stored.min(), stored.max()) == (-1000, 3000)
    again = read(path, channels, "float32", (-1000, 3000))
    np.testing.assert_allclose(again, image.permute(1, 2, 0).numpy(), atol=1e-6)
    plain = write_image(tmp_path / "2", image, depth="float32", value_range=None)
    np.testing.assert_array_equal(read(plain, channels, "float32", (-1, 1)), image.permute(1, 2, 0).numpy())


def test_an_image_does_not_replace_one_with_another_suffix(tmp_path: Path) -> None:
    image = torch.zeros(1, 4, 4)
    names = [write_image(tmp_path / name, image, depth="uint8", value_range=None).name for name in ("1", "1.jpg")]
    assert names == ["1.png", "1.jpg.png"]
