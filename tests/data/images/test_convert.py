"""Reading and writing images: every depth, every number of channels, and files that are none."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageFile
from torch import Tensor

from gantrain.data.images.convert import EXTENSIONS, ImageFormat, find_images, read_image, write_image
from gantrain.data.images.headers import read_header
from gantrain.errors import ConfigError

LARGEST = {"uint8": 255, "uint16": 65535}
Pixels = np.ndarray


def noise(height: int = 5, width: int = 7, channels: int = 3, dtype: Any = np.uint16, seed: int = 0) -> Pixels:
    """(H, W, C) of every value that the type has."""
    high = 256 if dtype == np.uint8 else 65536
    return np.random.default_rng(seed).integers(0, high, (height, width, channels)).astype(dtype)


def read(path: Path, channels: int = 3, depth: str = "uint16", value_range: Any = None, **more: Any) -> Pixels:
    return read_image(path, ImageFormat(channels, depth, value_range, **more))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def stored_depth(path: Path) -> str:
    return read_header(path, 3).depth


def deep_png(path: Path, pixels: Pixels, *extra: bytes) -> Path:
    """A PNG of 16 bits with 1 to 4 channels, every row filtered by the one above."""
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    rows = np.vstack([rows[:1], rows[1:] - rows[:-1]])
    body = zlib.compress(np.hstack([np.full((height, 1), 2, np.uint8), rows]).tobytes())
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", body), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def turned(stored: Pixels, orientation: int) -> Pixels:
    """What is seen of the stored pixels, by EXIF's table of where row 0 and column 0 belong."""
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


# ---- what is found


def test_images_are_found_at_any_depth_with_extensions_of_any_case(tmp_path: Path) -> None:
    names = [f"{number}{suffix.upper() if number % 2 else suffix}" for number, suffix in enumerate(sorted(EXTENSIONS))]
    for name in [*names, "deep/er/1.png", "notes.txt", "1.json"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == [*names, "deep/er/1.png"]
    assert len(EXTENSIONS) == 8


def test_hidden_files_and_folders_hold_no_images(tmp_path: Path) -> None:
    root = tmp_path / ".in a hidden folder"
    for name in ("1.png", "._1.png", ".ipynb_checkpoints/1.png", "cat/2.png", "cat/.trash/deep/3.png", "cat/.4.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    assert [path.relative_to(root).as_posix() for path in find_images(root)] == ["1.png", "cat/2.png"]


# ---- depth


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_of_16_bits_is_read_exactly(tmp_path: Path, channels: int) -> None:
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


def test_pillows_own_compressed_tiffs_of_16_bits_need_no_other_package(tmp_path: Path) -> None:
    pixels = noise(channels=1)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "1.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read(tmp_path / "1.tif", 1), pixels)


def test_a_big_endian_tiff_is_read_in_this_machines_order(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "1.tif", noise(), photometric="rgb", byteorder=">")
    result = read(tmp_path / "1.tif")
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, noise())


@pytest.mark.parametrize("channels", [1, 3])
def test_where_white_is_zero_values_are_turned_round(tmp_path: Path, channels: int) -> None:
    pixels = noise(channels=1)
    tifffile.imwrite(tmp_path / "1.tif", pixels[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read(tmp_path / "1.tif", channels), np.repeat(65535 - pixels, channels, axis=2))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (2, 5, 7), (3, 5, 7)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2"])
def test_an_array_is_read_with_its_channels_first_or_last(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
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


def test_the_last_axis_of_an_array_is_the_channels_where_both_could_be(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", noise(3, 7, 3))
    np.testing.assert_array_equal(read(tmp_path / "1.npy"), noise(3, 7, 3))


def test_images_of_8_bits_are_scaled_into_a_set_of_16(tmp_path: Path) -> None:
    pixels = noise(16, 16, 1, np.uint8)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "1.png")
    result = read(tmp_path / "1.png", 1)
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result, pixels.astype(int) * 257)  # 255 becomes 65535


def test_a_image_too_deep_for_its_set_is_refused_unless_it_may_be_rounded(tmp_path: Path) -> None:
    path = deep_png(tmp_path / "deep.png", noise(64, 64))
    with pytest.raises(ConfigError, match=rf"^{path} has a depth of uint16, .* of uint8: give data\.depth=uint16$"):
        read(path, depth="uint8")
    result = read(path, depth="uint8", convert=True)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, np.rint(noise(64, 64) / 257))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32])
def test_other_numbers_are_not_rounded_into_a_shallower_set(tmp_path: Path, dtype: Any) -> None:
    np.save(tmp_path / "1.npy", noise(dtype=dtype))
    assert stored_depth(tmp_path / "1.npy") == "float32"
    for convert in (False, True):
        with pytest.raises(ConfigError, match=rf"^{tmp_path}/1\.npy is not .* integers: give data\.depth=float32$"):
            read(tmp_path / "1.npy", value_range=(0, 1), convert=convert)


@pytest.mark.parametrize("suffix", ["tif", "npy"])
@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_images_are_mapped_by_their_range_and_clipped(
    tmp_path: Path, suffix: str, channels: int
) -> None:
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


def test_the_range_of_whole_numbers_maps_them_too(tmp_path: Path) -> None:
    path = deep_png(tmp_path / "1.png", np.uint16([0, 100, 2100, 4100, 65535]).reshape(1, 5, 1))
    assert read(path, 1, value_range=(100, 4100)).ravel().tolist() == [-1, -1, 0, 1, 1]


def test_whole_numbers_in_a_set_of_floats_fill_the_range_of_their_type(tmp_path: Path) -> None:
    Image.fromarray(np.uint8([[0, 51, 255]])).save(tmp_path / "1.png")
    deep = deep_png(tmp_path / "2.png", np.uint16([0, 13107, 65535]).reshape(1, 3, 1))
    for path in (tmp_path / "1.png", deep):  # a fifth of the way from -1 to 1
        np.testing.assert_allclose(read(path, 1, "float32").ravel(), [-1, -0.6, 1], rtol=1e-7)


def test_nan_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", np.float32([[0, np.nan]]))
    with pytest.raises(ConfigError, match=rf"^can't read the image {tmp_path}/1\.npy: some .* NaN$"):
        read(tmp_path / "1.npy", 1, "float32", (0, 1))


# ---- channels


def luma(pixels: Pixels) -> Pixels:
    return pixels.astype(float) @ [[0.299], [0.587], [0.114]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_becomes_gray_as_in_pillow_at_any_depth(tmp_path: Path, dtype: Any) -> None:
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
    # half a step for rounding, and Pillow's weights are whole parts of 65536
    assert np.abs(results[0] - luma(pixels)).max() <= (0.51 if dtype == np.uint8 else 1.01)


def test_gray_becomes_colour_by_repetition_at_any_depth(tmp_path: Path) -> None:
    deep_png(tmp_path / "1.png", noise(channels=1))
    tifffile.imwrite(tmp_path / "2.tif", noise(channels=1)[..., 0])
    np.save(tmp_path / "3.npy", noise(channels=1))
    for path in find_images(tmp_path):
        np.testing.assert_array_equal(read(path, 3), np.repeat(noise(channels=1), 3, axis=2))


@pytest.mark.parametrize(("kind", "channels"), [("png", 2), ("png", 4), ("tif", 2), ("tif", 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparency_is_laid_on_white_at_any_depth(tmp_path: Path, kind: str, channels: int, dtype: Any) -> None:
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
        assert np.abs(result - gray).max() <= 1.6  # rounded twice
        assert (result[0] == largest).all()
    if channels == 4:
        np.testing.assert_array_equal(read(path, 3, depth)[1], pixels[1, :, :3])


def test_transparent_colours_of_16_bits_are_rounded_to_the_nearest(tmp_path: Path) -> None:
    path = deep_png(tmp_path / "1.png", np.uint16([[[1, 40000], [60000, 40000]]]))
    # (1 * 40000 + 65535 * 25535) / 65535 is 25535.61, and 60000 * 40000 / 65535 + 25535 is 62156.64
    assert read(path, 1).ravel().tolist() == [25536, 62157]


def test_premultiplied_colours_of_16_bits_are_not_multiplied_again(tmp_path: Path) -> None:
    pixels = np.uint16([[[10000, 0, 30000, 32768]]])
    tifffile.imwrite(tmp_path / "1.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    # the colour and 65535 - 32768 of white
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


def test_exactly_the_channels_wanted_are_taken_as_they_are(tmp_path: Path) -> None:
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
def test_every_mode_of_8_bits_is_what_pillow_makes_of_it(tmp_path: Path, mode: str, channels: int) -> None:
    image = Image.fromarray(noise(9, 9, 3, np.uint8)).convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    image.save(tmp_path / f"1.{suffix}")
    assert stored_depth(tmp_path / f"1.{suffix}") == "uint8"
    expected = image.convert("L" if channels == 1 else "RGB")  # made from opaque colours, so alpha changes nothing
    assert np.array_equal(read(tmp_path / f"1.{suffix}", channels, "uint8").squeeze(), expected)


@pytest.mark.parametrize(("there", "wanted"), [(2, 3), (3, 4), (3, 2), (1, 2), (4, 5), (5, 3), (5, 1)])
@pytest.mark.parametrize("suffix", ["", "_b"])
def test_channels_that_do_not_fit_are_refused_by_name(tmp_path: Path, there: int, wanted: int, suffix: str) -> None:
    np.save(tmp_path / "1.npy", noise(9, 9, there))
    key = rf"data\.channels{suffix}"
    text = rf"^{tmp_path}/1\.npy has {there} channels, .* {key}={wanted}: .*{key}={there}"
    with pytest.raises(ConfigError, match=text):
        read(tmp_path / "1.npy", wanted, suffix=suffix)


# ---- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("kind", "depth"), [("png", "uint8"), ("png", "uint16"), ("tif", "uint8"), ("tif", "uint16")])
def test_images_are_turned_upright_at_any_depth(
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
    np.testing.assert_array_equal(read(path, channels, depth), turned(pixels, orientation))


def test_a_jpeg_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels).save(tmp_path / "1.jpg", exif=exif)
    result = read(tmp_path / "1.jpg", depth="uint8")
    assert result.shape == (32, 16, 3)
    assert result[2, 8].tolist() == [255] * 3  # its left is now on top
    assert result[-3, 8].tolist() == [0] * 3


# ---- broken files


def bomb() -> bytes:
    """A small PNG that says that it is 100,000 pixels wide and high."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def half(path: Path) -> bytes:
    return path.read_bytes()[: path.stat().st_size // 2]


def broken(tmp_path: Path) -> dict[str, bytes]:
    made = tmp_path / "whole"
    made.mkdir()
    deep_png(made / "deep.png", noise(40, 40))
    Image.fromarray(noise(40, 40, 3, np.uint8)).save(made / "plain.png")
    Image.fromarray(noise(40, 40, 3, np.uint8)).save(made / "plain.jpg")
    Image.fromarray(noise(40, 40, 3, np.uint8)).save(made / "plain.webp")
    tifffile.imwrite(made / "raw.tif", noise(40, 40), photometric="rgb")
    tifffile.imwrite(made / "zlib.tif", noise(40, 40), photometric="rgb", compression="zlib")
    np.save(made / "1.npy", noise(40, 40))
    damaged = bytearray((made / "deep.png").read_bytes())
    damaged[len(damaged) // 2] ^= 255
    tag = (made / "raw.tif").read_bytes().index(struct.pack("<H", 273))  # where the pixels begin
    lost = bytearray((made / "raw.tif").read_bytes())
    lost[tag + 2 : tag + 4] = b"\xff\xff"  # of a type that there is not
    cut = {f"half_{path.name}": half(path) for path in made.iterdir()}
    named = {
        "empty.png": b"",
        "empty.npy": b"",
        "empty.tif": b"",
        "text.jpg": b"not an image\n",
        "text.npy": b"x" * 99,
    }
    pickled = {"objects.npy": b""}
    np.save(made / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    pickled["objects.npy"] = (made / "objects.npy").read_bytes()
    np.save(made / "words.npy", np.array([["a", "b"]]))
    pickled["words.npy"] = (made / "words.npy").read_bytes()
    np.save(made / "line.npy", np.zeros(3, np.uint8))
    pickled["line.npy"] = (made / "line.npy").read_bytes()
    return {
        **cut,
        **named,
        **pickled,
        "damaged.png": bytes(damaged),
        "lost.tif": bytes(lost),
        "bomb.png": bomb(),
        "head.tif": b"II*\0",
    }


def test_a_file_that_is_no_image_or_a_broken_one_is_named_in_one_line(
    tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # where pytest would catch what is printed otherwise
    for name, content in broken(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=rf"^can't read the image {path}: .+") as caught:
            read(path, 3, "uint16")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_unreadable_images_are_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is no image")
    (tmp_path / "bomb.png").write_bytes(bomb())
    np.save(tmp_path / "none.npy", np.zeros((0, 5, 3), np.uint8))
    for name, reason in (
        ("none.npy", r"its shape is \(0, 5, 3\), not \(H, W\), "),
        ("lost.png", "No such file or directory$"),
        ("empty.png", "the file is empty$"),
        ("text.jpg", "this is not an image, or its format is unknown$"),
        ("bomb.png", "Image size .* exceeds limit"),
    ):
        for look in (stored_depth, read):
            with pytest.raises(ConfigError, match=rf"/{name}: {reason}"):
                look(tmp_path / name)


def test_a_compression_that_needs_another_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "1.tif", noise(), photometric="rgb")

    def missing(page: object) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", missing)
    with pytest.raises(ConfigError, match=rf"^can't read the image {tmp_path}/1\.tif: .*pip install imagecodecs$"):
        read(tmp_path / "1.tif")


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    deep_png(tmp_path / "png.jpg", noise())
    np.testing.assert_array_equal(read(tmp_path / "png.jpg"), noise())


def test_pillow_is_not_told_to_fill_up_what_is_missing() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


# ---- writing


def images(channels: int, values: Tensor) -> Tensor:
    """(C, H, W), rolled from channel to channel."""
    return torch.stack([values.roll(channel) for channel in range(channels)]).view(channels, 8, -1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_every_value_survives_the_way_to_a_file_and_back(tmp_path: Path, channels: int, depth: str) -> None:
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
def test_values_are_rounded_to_the_nearest_and_clipped(tmp_path: Path, depth: str, channels: int) -> None:
    half_step = 1 / LARGEST[depth]
    near = torch.tensor([-7.0, -1.0, -1 + 0.9 * half_step, -1 + 1.1 * half_step, 1 - 0.9 * half_step, 1.0, 3.0, 1.0])
    path = write_image(tmp_path / "1", images(1, near).expand(channels, -1, -1), depth=depth, value_range=None)
    last = LARGEST[depth]
    assert read(path, channels, depth)[..., 0].ravel().tolist() == [0, 0, 0, 1, last, last, last, last]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_range_is_undone(tmp_path: Path, channels: int) -> None:
    stored = images(channels, torch.arange(4096))
    image = stored.double() / 4095 * 2 - 1
    path = write_image(tmp_path / "1.png", image, depth="uint16", value_range=(0, 4095))
    assert path == tmp_path / "1.png"
    np.testing.assert_array_equal(read(path, channels), stored.permute(1, 2, 0).numpy())
    again = read(path, channels, value_range=(0, 4095))
    np.testing.assert_array_equal(again, image.float().permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("channels", "shape"), [(1, (8, 2)), (3, (8, 2, 3))])
def test_floats_become_arrays_of_their_own_unit(tmp_path: Path, channels: int, shape: tuple[int, ...]) -> None:
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
