"""Sources of encoded images: names and stamps, and bytes are read like files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from gantrain.data.images.convert import ImageFormat, read_image
from gantrain.data.images.headers import read_header
from gantrain.data.images.sources import FolderSource
from gantrain.errors import ConfigError

RANDOM = np.random.default_rng(0)


def files(folder: Path, *names: str) -> FolderSource:
    """Small images with these names, in this order."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (5, 6, 3), dtype=np.uint8)).save(path)
    return FolderSource(folder, paths)


def test_names_are_relative_paths_and_locations_full_paths(tmp_path: Path) -> None:
    source = files(tmp_path, "1.png", "sub/2.png")
    assert len(source) == 2
    assert [source.name(index) for index in range(2)] == ["1.png", "sub/2.png"]
    assert source.location(1) == str(source.open(1)) == str(tmp_path / "sub" / "2.png")


def test_the_stamp_changes_only_with_the_images(tmp_path: Path) -> None:
    source = files(tmp_path, "1.png", "2.png")
    stamp = source.stamp([0, 1])
    assert FolderSource(tmp_path, list(source.paths)).stamp([0, 1]) == stamp

    others = {source.stamp([1, 0]), source.stamp([0])}
    status = source.paths[0].stat()
    os.utime(source.paths[0], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    others.add(source.stamp([0, 1]))
    source.paths[0].write_bytes(source.paths[0].read_bytes() + b"\0")
    os.utime(source.paths[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    others.add(source.stamp([0, 1]))
    (tmp_path / "2.png").rename(tmp_path / "3.png")
    others.add(FolderSource(tmp_path, [source.paths[0], tmp_path / "3.png"]).stamp([0, 1]))
    others.add(source.stamp([0, 1]))  # The second file is missing.
    assert len(others) == 6
    assert stamp not in others


def write(path: Path) -> Path:
    """An image with 16 bits if it is a TIFF or an array, else with 8."""
    deep = RANDOM.integers(0, 65536, (7, 9, 3), dtype=np.uint16)
    if path.suffix == ".npy":
        np.save(path, deep)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, deep, photometric="rgb")
    else:
        Image.fromarray((deep >> 8).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif", "npy"])
def test_bytes_are_read_like_a_file(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"1.{suffix}")
    depth = read_header(path, 3).depth
    assert read_header(path.read_bytes(), 3).depth == depth == ("uint16" if suffix in ("tif", "npy") else "uint8")
    of_file, of_bytes = (read_image(encoded, ImageFormat(3, depth)) for encoded in (path, path.read_bytes()))
    assert of_file.dtype == of_bytes.dtype
    assert np.array_equal(of_file, of_bytes)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif", "npy"])
def test_corrupt_bytes_are_reported_with_their_location(tmp_path: Path, suffix: str) -> None:
    whole = write(tmp_path / f"1.{suffix}").read_bytes()
    for broken in (b"", b"no image", whole[: len(whole) // 2]):
        with pytest.raises(ConfigError, match=r"can't read the image key 7 of DB: .") as caught:
            read_image(broken, ImageFormat(3, "uint16"), "key 7 of DB")
        assert "\n" not in str(caught.value)
        assert ("is empty" in str(caught.value)) == (not broken)
