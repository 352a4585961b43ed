"""Sources of encoded images: names and stamps, and bytes are read like files."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from lmdb_files import write as write_lmdb
from PIL import Image
from sharded import pack

from gantrain.data.images.cache import Cache
from gantrain.data.images.convert import ImageFormat, read_image
from gantrain.data.images.headers import read_header
from gantrain.data.images.sources import FolderSource
from gantrain.data.settings import build_dataset
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


def stored(root: Path, kind: str, value: int) -> Path:
    """An image of one colour in a file, a shard or an LMDB, whose size is the same for every colour."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value,) * 3).save(file, "BMP")
    root.mkdir(parents=True, exist_ok=True)
    if kind == "shards":
        return pack(root / "1.tar", [("1.bmp", file.getvalue())])
    if kind == "lsun":
        return write_lmdb(root, {b"1": file.getvalue()}) / "data.mdb"
    (root / "1.bmp").write_bytes(file.getvalue())
    (root / "list.csv").write_text("1.bmp\n")
    return root / "1.bmp"


@pytest.mark.parametrize("place", ["the same file", "another file"])
@pytest.mark.parametrize("kind", ["single", "listed", "shards", "lsun"])
def test_caches_notice_other_content_of_equal_size_and_time(kind: str, place: str, workplace: Path) -> None:
    mode = "single" if kind == "listed" else kind
    data = {"mode": mode, "root": "d", "channels": 3, "load_size": 4, "crop_size": 4, "crop": "center", "flip": False}
    data |= {"preprocess": None, "range": None, "depth": "auto", "decoder": "exact"}
    extra = {"single": {"list": None}, "listed": {"list": "list.csv"}, "lsun": {"category": None}, "shards": {}}[kind]

    def value() -> int:
        dataset = build_dataset({**data, **extra}, phase="train")
        dataset.use_cache(Cache(cache="disk"))
        return int(dataset.item(0, 0)["image"].max())

    path = stored(Path("d"), kind, 10)
    os.utime(path, (1e9, 1e9))
    assert value() == 10
    other = stored(Path("other"), kind, 200)
    os.utime(other, (1e9, 1e9))
    assert other.stat().st_size == path.stat().st_size
    if place == "another file":
        other.rename(path)
    else:
        path.write_bytes(other.read_bytes())
        os.utime(path, (1e9, 1e9))
    assert path.stat().st_mtime == 1e9
    assert value() == 200
