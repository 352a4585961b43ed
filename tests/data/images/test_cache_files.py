"""Cached images are reused by the next run unless sources, settings or files differ."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cached_images import DISK, cached, dataset, decoded_images, items, only_file, write
from conftest import assert_same_bits
from PIL import Image

from gantrain.data.base import ImageDataset, Selection
from gantrain.data.images.cache import Cache
from gantrain.data.images.sources import FolderSource
from gantrain.data.sets.aligned import Aligned
from gantrain.data.sets.unaligned import Unaligned
from gantrain.runtime import mapped_file

pytestmark = pytest.mark.usefixtures("image_cache")


def test_the_next_run_decodes_nothing(monkeypatch, image_cache: Path) -> None:
    plain = items(cached(dataset("single")))
    before = only_file(image_cache).read_bytes()
    decoded = decoded_images(monkeypatch)
    assert_same_bits(items(cached(dataset("single", flip=True))), plain)
    assert decoded == []
    assert only_file(image_cache).read_bytes() == before


@pytest.mark.parametrize(
    "other", [{"load_size": 18}, {"preprocess": "crop"}, {"channels": 1}, {"decoder": "fast"}, {"depth": "uint16"}]
)
def test_images_of_other_settings_are_stored_separately(other: dict, image_cache: Path) -> None:
    plain = items(cached(dataset("single")))
    images = dataset("single", **other)
    uncached = items(images)
    assert_same_bits(items(cached(images)), uncached)
    assert len(list(image_cache.iterdir())) == 2
    assert_same_bits(items(cached(dataset("single"))), plain)


@pytest.mark.parametrize("change", ["replaced", "touched", "added", "renamed"])
def test_a_changed_source_is_decoded_anew(change: str, monkeypatch) -> None:
    cached(dataset("single"))
    path = Path("data/3.png")
    status = path.stat()
    if change == "replaced":
        write(path, 30)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "touched":
        write(path, 3)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "added":
        write(Path("data/4a.png"), 31)
    else:
        path.rename("data/9.png")
    plain = items(dataset("single"))
    decoded = decoded_images(monkeypatch)
    images = cached(dataset("single"))
    assert set(decoded) == set(range(len(images)))
    assert_same_bits(items(images), plain)


def alike(folder: Path, value: int) -> Path:
    """Two images of one colour, in files whose names, sizes and times do not depend on it."""
    folder.mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (20, 20), (value, value, number)).save(folder / f"{number}.bmp")
        os.utime(folder / f"{number}.bmp", (1e9, 1e9))
    return folder


@pytest.mark.parametrize("mode", [Aligned, Unaligned])
def test_domains_of_equal_names_sizes_and_times_are_distinct(mode: type, image_cache: Path) -> None:
    alike(Path("data/trainA"), 10)
    alike(Path("data/trainB"), 200)
    kind = "folders" if mode is Aligned else "unaligned"
    plain = items(dataset(kind))
    assert_same_bits(items(cached(dataset(kind))), plain)
    assert len(list(image_cache.iterdir())) == 2


@pytest.mark.parametrize("listed", [False, True])
def test_data_sets_of_equal_names_sizes_and_times_are_distinct(listed: bool, image_cache: Path) -> None:
    Path("names.csv").write_text("0.bmp\n1.bmp\n")

    def of(root: Path) -> ImageDataset:
        return dataset("single", root=str(root), list="names.csv" if listed else None)

    for root in (alike(Path("one"), 10), alike(Path("other"), 200)):
        plain = items(of(root))
        assert_same_bits(items(cached(of(root))), plain)
    assert len(list(image_cache.iterdir())) == 2


def test_different_paths_to_the_same_folder_share_a_cache(monkeypatch, image_cache: Path) -> None:
    plain = items(cached(dataset("single")))
    Path("link").symlink_to("data")
    decoded = decoded_images(monkeypatch)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    for root in ("../data", "../link", str(Path("../data").resolve())):
        assert_same_bits(items(cached(dataset("single", root=root))), plain)
    assert decoded == []
    only_file(image_cache)


def test_a_read_only_cache_is_used(monkeypatch, image_cache: Path) -> None:
    plain = items(cached(dataset("single")))

    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refuse)
    decoded = decoded_images(monkeypatch)
    assert_same_bits(items(cached(dataset("single"))), plain)
    assert decoded == []


def test_a_cache_in_memory_does_not_read_the_times_of_files(monkeypatch) -> None:
    plain = items(dataset("single"))
    monkeypatch.setattr(FolderSource, "stamp", lambda *_: pytest.fail("the times of all files were read"))
    assert_same_bits(items(cached(dataset("single"), Cache(cache="memory"))), plain)


def test_a_sample_of_a_cached_data_set_has_the_same_items() -> None:
    plain = items(dataset("unaligned").sample(0.5, 3))
    assert_same_bits(items(cached(dataset("unaligned")).sample(0.5, 3)), plain)


def test_other_images_of_the_same_source_are_stored_separately(image_cache: Path) -> None:
    plain = items(dataset("single"))
    for some in ([1, 2], [3, 4]):
        images = Selection(dataset("single"), some)
        images.use_cache(DISK)
        assert_same_bits(images.item(0, 1), plain[2 * some[0]])
    assert len(list(image_cache.iterdir())) == 2


def test_pairs_and_the_images_that_contain_them_are_stored_separately(image_cache: Path) -> None:
    cached(dataset("side_by_side"))
    images = dataset("single", root="data/train")
    plain = items(images)
    assert_same_bits(items(cached(images)), plain)
    assert len(list(image_cache.iterdir())) == 2


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_flipped_bit_among_pixels_is_reported_and_decoded_again(share: float, image_cache: Path, capsys) -> None:
    plain = items(cached(dataset("single")))
    path = only_file(image_cache)
    content = bytearray(path.read_bytes())
    first = mapped_file.HEADER.unpack_from(content)[3] - mapped_file.HEADER.size
    content[mapped_file.HEADER.size + int(share * first)] ^= 4
    path.write_bytes(content)
    assert_same_bits(items(cached(dataset("single"))), plain)
    assert capsys.readouterr().err.count(f"{path} is corrupt") == 1
    assert not path.exists()
    assert_same_bits(items(cached(dataset("single"))), plain)
    assert "corrupt" not in capsys.readouterr().err


def test_a_cache_of_other_images_under_this_name_is_not_used(image_cache: Path) -> None:
    plain = items(cached(dataset("single")))
    path = only_file(image_cache)
    path.rename(image_cache / "aside")
    cached(dataset("single", load_size=19))
    (other,) = image_cache.glob("*.images")
    other.rename(path)
    assert_same_bits(items(cached(dataset("single"))), plain)


def test_a_file_of_another_version_is_rebuilt(monkeypatch, image_cache: Path) -> None:
    with monkeypatch.context() as later:
        later.setattr(mapped_file, "VERSION", mapped_file.VERSION - 1)
        plain = items(cached(dataset("single")))
    decoded = decoded_images(monkeypatch)
    assert_same_bits(items(cached(dataset("single"))), plain)
    assert decoded
    only_file(image_cache)


def corrupt(path: Path, how: str) -> None:
    """Truncate, extend or change the file."""
    whole = bytearray(path.read_bytes())
    if how.startswith("cut"):
        whole = whole[: {"cut to nothing": 0, "cut in the header": 20, "cut off": -1}.get(how, len(whole) // 2)]
    elif how == "longer":
        whole += b"\0"
    else:
        table = mapped_file.HEADER.unpack_from(whole)[4]
        offset = {"magic": 0, "version": 8, "size": 16, "start": 24, "table": 32, "index": table - 8, "description": -2}
        whole[offset[how]] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize(
    "how",
    ["cut to nothing", "cut in the header", "cut in the middle", "cut off", "longer"]
    + ["magic", "version", "size", "start", "table", "index", "description"],
)
def test_a_corrupt_file_is_rebuilt(how: str, image_cache: Path) -> None:
    plain = items(dataset("single"))
    images = cached(dataset("single"))
    before = only_file(image_cache).read_bytes()
    del images
    corrupt(only_file(image_cache), how)
    assert_same_bits(items(cached(dataset("single"))), plain)
    assert only_file(image_cache).read_bytes() == before


def test_leftovers_of_a_killed_process_are_removed(image_cache: Path) -> None:
    cached(dataset("single"))
    path = only_file(image_cache)
    path.rename(path.with_name(f"{path.name}.0123.tmp"))
    path.with_name("another.images.4567.tmp").touch()
    path.with_suffix(".lock").touch()
    plain = items(dataset("single"))
    assert_same_bits(items(cached(dataset("single"))), plain)
    assert only_file(image_cache) == path


TWO = """
import sys, time
from gantrain.data.images.cache import Cache
from gantrain.data.images.reader import ImageReader
from gantrain.data.sets.single import SingleFolder
decoded, whole = [], ImageReader.decoded
def slowly(*arguments):
    decoded.append(1)
    time.sleep(0.1)
    return whole(*arguments)
ImageReader.decoded = slowly
images = SingleFolder(root="data", channels=3, crop="random", load_size=20, crop_size=16, flip=True, phase="train",
                      preprocess="resize_and_crop", list=None, range=None, depth="auto", decoder="exact")
print("ready", flush=True)
sys.stdin.readline()
images.use_cache(Cache(cache="disk"))
made = len(decoded)
total = sum(int(images.item(index, 1)["image"].sum()) for index in range(8))
print(made, len(decoded) - made, total)
"""


@pytest.mark.usefixtures("warm_python")
def test_one_of_two_processes_decodes_and_both_read(image_cache: Path) -> None:
    plain = dataset("single")
    total = sum(int(plain.item(index, 1)["image"].sum()) for index in range(8))
    start = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", TWO], **start) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate() for process in processes]
    counts = sorted(tuple(map(int, out.split())) for out, _ in answers)
    assert counts == [(8, 0, total), (16, 0, total)]  # Both decode eight to estimate the size; one decodes all.
    assert sum("Waiting for another process that decodes data/0.png and 7 more" in err for _, err in answers) == 1
    only_file(image_cache)
