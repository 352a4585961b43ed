"""Cached images are bit-identical to decoded ones; truncated, corrupt and other caches are not used."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import assert_same_bits, newest
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.base import ImageDataset, Selection
from gantrain.data.images import cache
from gantrain.data.images.cache import GB, Cache
from gantrain.data.images.convert import write_image
from gantrain.data.images.reader import ImageReader
from gantrain.data.images.sources import FolderSource
from gantrain.data.sets.aligned import Aligned
from gantrain.data.sets.single import SingleFolder
from gantrain.data.sets.unaligned import Unaligned
from gantrain.data.stream import BatchStream
from gantrain.errors import ConfigError
from gantrain.runtime import mapped_file
from gantrain.runtime.mapped_file import MappedFileWriter

MODES = ["resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "scale_shortside_and_crop", "none"]
DISK = Cache(cache="disk")


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of caches, which does not exist yet."""
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GANTRAIN_CACHE", str(path))
    return path / "images"


def write(path: Path, number: int, depth: str = "uint8", *, width: int = 40) -> None:
    """An image of noise; no two have the same shape."""
    noise = torch.rand(3, 20 + number, width + 2 * number, generator=torch.Generator().manual_seed(number)) * 2 - 1
    write_image(path, noise, depth=depth, value_range=(-3, 3) if depth == "float32" else None)


def dataset(kind: str, **keys: Any) -> ImageDataset:
    """Four images, or pairs, read as ``keys`` say."""
    keys = {"preprocess": "resize_and_crop", "flip": True, "load_size": 20, "crop_size": 16, "phase": "train"} | keys
    keys = {"decoder": "exact"} | keys
    depth = keys.get("depth") or "uint8"
    value_range = (-3.0, 3.0) if depth == "float32" else None
    folders = {"single": ["."], "side_by_side": ["train"], "folders": ["trainA", "trainB"]}.get(
        kind, ["trainA", "trainB"]
    )
    if not Path("data").exists():
        for number in range(8):
            name = Path("data") / folders[number % len(folders)] / f"{number // len(folders)}.png"
            write(name, 0 if kind == "folders" else number, depth)
    if kind == "single":
        return SingleFolder(
            root="data", list=None, channels=3, crop="random", range=value_range, **{"depth": "auto"} | keys
        )
    pair = {"root": "data", "direction": "a_to_b", "channels": 3, "range": value_range, "range_b": value_range}
    pair = {"channels_b": 3, "depth": "auto"} | pair | keys
    return Unaligned(serial=False, **pair) if kind == "unaligned" else Aligned(**pair)


def items(images: ImageDataset) -> list[dict]:
    """Each with two seeds."""
    return [images.item(index, seed) for index in range(len(images)) for seed in (1, 2)]


def kept(images: ImageDataset, settings: Cache = DISK) -> ImageDataset:
    images.use_cache(settings)
    return images


def only_file(folder: Path) -> Path:
    """The only file of the folder, which is a cache."""
    (path,) = folder.iterdir()
    assert path.suffix == ".images"
    return path


# ---- bit-identical to decoding


@pytest.mark.parametrize("settings", [DISK, Cache(cache="memory")], ids=["disk", "memory"])
@pytest.mark.parametrize("preprocess", MODES)
@pytest.mark.parametrize("kind", ["single", "side_by_side", "folders", "unaligned"])
def test_items_are_bit_identical_and_need_no_files(kind: str, preprocess: str, settings: Cache) -> None:
    plain = items(dataset(kind, preprocess=preprocess))
    images = kept(dataset(kind, preprocess=preprocess), settings)
    shutil.rmtree("data")
    assert_same_bits(items(images), plain)


@pytest.mark.parametrize("decoder", ["exact", "fast", "draft"])
@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", ["single", "side_by_side", "unaligned"])
def test_every_depth_is_stored_without_loss(kind: str, depth: str, decoder: str) -> None:
    plain = items(dataset(kind, depth=depth, decoder=decoder))
    images = kept(dataset(kind, depth=depth, decoder=decoder))
    shutil.rmtree("data")
    again = items(images)
    assert again[0]["image" if kind == "single" else "a"].dtype == getattr(torch, depth)
    assert_same_bits(again, plain)


@pytest.mark.parametrize("channels_b", [1, 3])
def test_halves_of_a_pair_are_stored_together_if_they_are_read_alike(channels_b: int, folder: Path) -> None:
    plain = items(dataset("side_by_side", channels_b=channels_b))
    images = kept(dataset("side_by_side", channels_b=channels_b))
    assert len(list(folder.iterdir())) == (1 if channels_b == 3 else 2)
    shutil.rmtree("data")
    assert_same_bits(items(images), plain)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_do_not_depend_on_workers_or_resumption(workers: int) -> None:
    def stream(images: ImageDataset, num_workers: int) -> BatchStream:
        device = {"device": torch.device("cpu"), "dtype": torch.float32, "channels_last": False}
        return BatchStream(images, batch_size=3, seed=1, num_workers=num_workers, **device)

    plain = stream(dataset("unaligned"), 0)
    wanted = [next(plain) for _ in range(7)]
    images = kept(dataset("unaligned"))
    shutil.rmtree("data")
    first, later = stream(images, workers), stream(images, workers)
    later.position = 4
    assert_same_bits([next(first) for _ in range(7)], wanted)
    assert_same_bits([next(later) for _ in range(3)], wanted[4:])


@pytest.mark.parametrize("settings", [DISK, Cache(cache="memory")], ids=["disk", "memory"])
def test_a_spawned_worker_has_the_images_too(settings: Cache) -> None:
    images = kept(dataset("single"), settings)
    shutil.rmtree("data")
    assert_same_bits(items(pickle.loads(pickle.dumps(images))), items(images))


def test_a_spawned_worker_decodes_what_was_deleted(folder: Path) -> None:
    images = kept(dataset("single"))
    plain, sent = items(images), pickle.dumps(images)
    shutil.rmtree(folder)
    assert_same_bits(items(pickle.loads(sent)), plain)


def test_only_the_items_of_a_selection_are_stored(monkeypatch) -> None:
    plain = items(dataset("single"))
    (Path("data") / "2.png").write_bytes(b"")  # would not decode
    images = Selection(Selection(dataset("single"), [0, 7, 3, 5]), [1, 3, 3])
    images.use_cache(DISK)
    some = [images.item(index, 1) for index in range(3)]
    assert_same_bits(some, [plain[14], plain[10], plain[10]])
    monkeypatch.setattr(ImageReader, "decoded", lambda *_: pytest.fail("decoded again"))
    assert_same_bits([images.item(index, 1) for index in range(3)], some)
    reader = images._dataset._dataset._reader
    assert [reader._store.get(index) is None for index in (0, 3, 4, 5, 6, 7)] == [True, True, True, False, True, False]


@pytest.mark.parametrize("part", [lambda whole: whole.first(2), lambda whole: whole.sample(0.5, 3)])
def test_a_subset_of_two_sets_is_stored(part: Callable) -> None:
    plain = items(part(dataset("unaligned")))
    images = kept(part(dataset("unaligned")))
    shutil.rmtree("data")
    assert_same_bits(items(images), plain)
    assert_same_bits(items(images.of_domain("b")), items(images.of_domain("b")))


# ---- reuse of files


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    decoded: list[int] = []
    whole = ImageReader.decoded
    monkeypatch.setattr(ImageReader, "decoded", lambda self, i, pre: (decoded.append(i), whole(self, i, pre))[1])
    return decoded


def test_the_next_run_decodes_nothing(monkeypatch, folder: Path) -> None:
    plain = items(kept(dataset("single")))
    before = only_file(folder).read_bytes()
    decoded = count_decoded(monkeypatch)
    assert_same_bits(items(kept(dataset("single", flip=True))), plain)
    assert decoded == []
    assert only_file(folder).read_bytes() == before


@pytest.mark.parametrize(
    "other", [{"load_size": 18}, {"preprocess": "crop"}, {"channels": 1}, {"decoder": "fast"}, {"depth": "uint16"}]
)
def test_what_is_read_or_scaled_differently_is_stored_separately(other: dict, folder: Path) -> None:
    plain = items(kept(dataset("single")))
    if "channels" in other:
        images = SingleFolder(
            root="data", crop="random", load_size=20, crop_size=16, flip=True, phase="train",
            preprocess="resize_and_crop", list=None, range=None, depth="auto", decoder="exact", **other
        )  # fmt: skip
    else:
        images = dataset("single", **other)
    uncached = items(images)
    assert_same_bits(items(kept(images)), uncached)
    assert len(list(folder.iterdir())) == 2
    assert_same_bits(items(kept(dataset("single"))), plain)


@pytest.mark.parametrize("change", ["replaced", "touched", "added", "renamed"])
def test_a_changed_source_is_decoded_anew(change: str, monkeypatch) -> None:
    kept(dataset("single"))
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
    decoded = count_decoded(monkeypatch)
    images = kept(dataset("single"))
    assert set(decoded) == set(range(len(images)))
    assert_same_bits(items(images), plain)


def alike(folder: Path, value: int) -> Path:
    """Two images of one colour, in files of the same names, sizes and times, whatever the colour."""
    folder.mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (20, 20), (value, value, number)).save(folder / f"{number}.bmp")
        os.utime(folder / f"{number}.bmp", (1e9, 1e9))
    return folder


@pytest.mark.parametrize("mode", [Aligned, Unaligned])
def test_domains_of_equal_names_sizes_and_times_are_distinct(mode: type, folder: Path) -> None:
    alike(Path("data/trainA"), 10)
    alike(Path("data/trainB"), 200)
    kind = "folders" if mode is Aligned else "unaligned"
    plain = items(dataset(kind))
    assert_same_bits(items(kept(dataset(kind))), plain)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("listed", [False, True])
def test_data_sets_of_equal_names_sizes_and_times_are_distinct(listed: bool, folder: Path) -> None:
    keys = {"channels": 3, "load_size": 20, "crop_size": 16, "crop": "random", "flip": True, "phase": "train"}
    keys |= {"preprocess": "resize_and_crop", "range": None, "depth": "auto", "decoder": "exact"}
    Path("names.csv").write_text("0.bmp\n1.bmp\n")

    def of(root: Path | str) -> ImageDataset:
        return SingleFolder(root=str(root), list="names.csv" if listed else None, **keys)

    for root in (alike(Path("one"), 10), alike(Path("other"), 200)):
        plain = items(of(root))
        assert_same_bits(items(kept(of(root))), plain)
    assert len(list(folder.iterdir())) == 2


def test_a_place_is_the_same_by_whatever_path_or_link(monkeypatch, folder: Path) -> None:
    plain = items(kept(dataset("single")))
    Path("link").symlink_to("data")
    decoded = count_decoded(monkeypatch)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    for root in ("../data", "../link", str(Path("../data").resolve())):
        keys = {"load_size": 20, "crop_size": 16, "preprocess": "resize_and_crop", "flip": True, "phase": "train"}
        keys |= {"list": None, "channels": 3, "crop": "random", "range": None, "depth": "auto", "decoder": "exact"}
        assert_same_bits(items(kept(SingleFolder(root=root, **keys))), plain)
    assert decoded == []
    only_file(folder)


def test_a_read_only_cache_is_used(monkeypatch, folder: Path) -> None:
    plain = items(kept(dataset("single")))

    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refuse)
    decoded = count_decoded(monkeypatch)
    assert_same_bits(items(kept(dataset("single"))), plain)
    assert decoded == []


def test_images_in_memory_are_not_asked_for_their_times(monkeypatch) -> None:
    plain = items(dataset("single"))
    monkeypatch.setattr(FolderSource, "stamp", lambda *_: pytest.fail("of a million files"))
    assert_same_bits(items(kept(dataset("single"), Cache(cache="memory"))), plain)


def test_a_part_of_what_is_kept_has_its_own_images() -> None:
    plain = items(dataset("unaligned").sample(0.5, 3))
    assert_same_bits(items(kept(dataset("unaligned")).sample(0.5, 3)), plain)


def test_other_images_of_the_same_source_are_stored_separately(folder: Path) -> None:
    plain = items(dataset("single"))
    for some in ([1, 2], [3, 4]):
        images = Selection(dataset("single"), some)
        images.use_cache(DISK)
        assert_same_bits(images.item(0, 1), plain[2 * some[0]])
    assert len(list(folder.iterdir())) == 2


def test_pairs_and_the_images_that_contain_them_are_stored_separately(folder: Path) -> None:
    kept(dataset("side_by_side"))
    keys = {
        "channels": 3,
        "load_size": 20,
        "crop_size": 16,
        "flip": True,
        "phase": "train",
        "list": None,
        "range": None,
    }
    images = SingleFolder(
        root="data/train", crop="random", preprocess="resize_and_crop", depth="auto", decoder="exact", **keys
    )
    plain = items(images)
    assert_same_bits(items(kept(images)), plain)
    assert len(list(folder.iterdir())) == 2


def test_a_file_under_the_name_of_another_is_not_used(folder: Path) -> None:
    plain = items(kept(dataset("single")))
    path = only_file(folder)
    path.rename(folder / "aside")
    kept(dataset("single", load_size=19))
    (other,) = folder.glob("*.images")
    other.rename(path)
    assert_same_bits(items(kept(dataset("single"))), plain)


def test_a_file_of_another_version_is_rebuilt(monkeypatch, folder: Path) -> None:
    with monkeypatch.context() as later:
        later.setattr(mapped_file, "VERSION", 3)
        plain = items(kept(dataset("single")))
    decoded = count_decoded(monkeypatch)
    assert_same_bits(items(kept(dataset("single"))), plain)
    assert decoded
    only_file(folder)


def damage(path: Path, how: str) -> None:
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
def test_a_corrupt_file_is_rebuilt(how: str, folder: Path) -> None:
    plain = items(dataset("single"))
    images = kept(dataset("single"))
    before = only_file(folder).read_bytes()
    del images
    damage(only_file(folder), how)
    assert_same_bits(items(kept(dataset("single"))), plain)
    assert only_file(folder).read_bytes() == before


def test_leftovers_of_a_killed_process_are_removed(folder: Path) -> None:
    kept(dataset("single"))
    path = only_file(folder)
    path.rename(path.with_name(f"{path.name}.0123.tmp"))
    path.with_name("another.images.4567.tmp").touch()
    path.with_suffix(".lock").touch()
    plain = items(dataset("single"))
    assert_same_bits(items(kept(dataset("single"))), plain)
    assert only_file(folder) == path


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
def test_one_of_two_processes_decodes_and_both_read(folder: Path) -> None:
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
    assert counts == [(8, 0, total), (16, 0, total)]  # Both decode eight as a sample, and one all.
    assert sum("Waiting for another process that decodes data/0.png and 7 more" in err for _, err in answers) == 1
    only_file(folder)


# ---- no space, no permission, no time


def refusal(settings: Cache) -> str:
    with pytest.raises(ConfigError) as caught:
        kept(dataset("single"), settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def not_kept(capsys, monkeypatch: pytest.MonkeyPatch) -> str:
    """The warning of ``auto`` when it uses no cache."""
    monkeypatch.setattr(cache, "MIN_DECODE_SECONDS", 0)
    images = kept(dataset("single"), Cache(cache="auto"))
    decoded = count_decoded(monkeypatch)
    images.item(0, 1)
    assert decoded == [0]
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_disk_without_space_is_reported_with_sizes(monkeypatch, folder: Path, capsys) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    said = refusal(DISK)
    assert said.startswith(f"data.cache=disk: data/0.png and 7 more needs 9.6e-06 GB in {folder}")
    assert "only 1e-05 GB are free" in said
    assert said.endswith(": set data.cache=off, or GANTRAIN_CACHE to a folder on a larger disk")
    reason = said.removeprefix("data.cache=disk: ")
    assert not_kept(capsys, monkeypatch) == f"warning: data.cache=auto: not used, as {reason}"
    assert not list(folder.iterdir())


def test_a_limit_that_is_too_low_is_reported_with_sizes(folder: Path) -> None:
    said = refusal(Cache(cache="disk", cache_limit=9.5e-6))
    assert said.startswith(f"data.cache=disk: data/0.png and 7 more needs 9.6e-06 GB in {folder}")
    assert "caches use 0 GB already, and data.cache_limit is 9.5e-06: raise it to 1, or set data.cache=off" in said


@pytest.mark.parametrize("call", ["os.fsync", "gantrain.runtime.mapped_file.MappedFileWriter.append"])
def test_a_disk_that_fills_up_stores_nothing(call: str, monkeypatch, folder: Path, capsys) -> None:
    append, sizes = MappedFileWriter.append, []

    def full(*arguments: Any) -> None:
        sizes.append(1)
        if call == "os.fsync" or len(sizes) % 4 == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(*arguments)

    monkeypatch.setattr(call, full)
    said = refusal(DISK)
    assert said.startswith(f"data.cache=disk: images can't be stored in {folder} (No space left on device): set data")
    assert not list(folder.iterdir())
    reason = said.removeprefix("data.cache=disk: ")
    assert not_kept(capsys, monkeypatch) == f"warning: data.cache=auto: not used, as {reason}"


def test_a_folder_that_is_a_file_is_reported(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GANTRAIN_CACHE", str(tmp_path / "file"))
    assert refusal(DISK).startswith(f"data.cache=disk: images can't be stored in {tmp_path}/file/images (Not a direc")


def test_the_limit_in_memory_is_of_both_domains_together() -> None:
    images = dataset("unaligned")  # of 4.8 kB each
    assert kept(images, Cache(cache="memory", cache_limit=9.7e-6)).in_memory
    with pytest.raises(ConfigError, match=r"^data\.cache=memory: data/trainB/0\.png and .* 4\.7e-06 GB are available"):
        dataset("unaligned").use_cache(Cache(cache="memory", cache_limit=9.5e-6))


def test_too_little_memory_is_reported_with_sizes(monkeypatch) -> None:
    said = refusal(Cache(cache="memory", cache_limit=9e-6))
    assert said.startswith("data.cache=memory: data/0.png and 7 more needs 9.6e-06 GB, and 9e-06 GB are available")
    assert said.endswith("set data.cache=disk or off, or a smaller data.load_size")
    monkeypatch.setattr(cache, "_free_memory", lambda: 10_000)
    assert "8e-06 GB are available" in refusal(Cache(cache="memory"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # Each has its own images.
    assert "4e-06 GB are available" in refusal(Cache(cache="memory"))
    assert cache._free_memory() == 10_000


def test_the_least_recently_used_is_evicted_and_none_in_use(folder: Path) -> None:
    held = kept(dataset("single", load_size=17))
    oldest = only_file(folder)
    made = [oldest]
    for number in (18, 19):
        kept(dataset("single", load_size=number))
        made += set(folder.iterdir()) - set(made)
    for age, path in enumerate(reversed(made)):
        os.utime(path, (10**9 - age, 10**9 - age))
    kept(dataset("single", load_size=18))  # whereby it is the one used last
    sizes = sum(path.stat().st_size for path in made)
    kept(dataset("single", load_size=20), Cache(cache="disk", cache_limit=(sizes + 5000) / GB))
    now = set(folder.iterdir())
    assert [path in now for path in made] == [True, True, False]
    assert len(now) == 3
    assert_same_bits(items(held), items(dataset("single", load_size=17)))


def test_files_that_another_process_removes_meanwhile_are_no_error(folder: Path) -> None:
    folder.mkdir()
    for name in ("gone.images", "gone.images.1.tmp"):
        (folder / name).symlink_to("nowhere")
    images = kept(dataset("single"))
    assert images.in_memory


def test_others_are_not_evicted_in_vain(folder: Path) -> None:
    kept(dataset("single"))
    refusal_of = dataset("single", load_size=40)
    with pytest.raises(ConfigError, match=r"data\.cache_limit is 2e-05: raise it"):
        kept(refusal_of, Cache(cache="disk", cache_limit=2e-5))
    only_file(folder)


@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_a_corrupt_image_is_an_error_or_left_out(mode: str, folder: Path, monkeypatch) -> None:
    plain = items(dataset("single"))
    Path("data/3.png").write_bytes(Path("data/3.png").read_bytes()[:100])
    assert refusal(Cache(cache=mode)).startswith("can't read the image data/3.png: ")
    assert not folder.exists() or not list(folder.iterdir())
    monkeypatch.setattr(cache, "SAMPLE_SIZE", 1)  # It is found while all are decoded.
    assert refusal(Cache(cache=mode)).startswith("can't read the image data/3.png: ")
    assert not folder.exists() or not list(folder.iterdir())
    images = kept(dataset("single"), Cache(cache=mode, skips=True))
    with pytest.raises(ConfigError, match=r"^can't read the image data/3\.png: "):
        images.item(3, 1)
    assert_same_bits([images.item(index, 1) for index in (2, 4)], [plain[4], plain[8]])


@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_it_can_be_stopped_and_leaves_nothing(mode: str, folder: Path) -> None:
    asked: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        kept(dataset("single"), Cache(cache=mode, stop=lambda: asked.append(1) or len(asked) > 3))
    assert not folder.exists() or not list(folder.iterdir())


# ---- the command


def train(*typed: str) -> int:
    tiny = ["data=single", "data.root=data", "data.load_size=16", "data.batch_size=4", "network.width=2", "name=run"]
    return main(["train", *tiny, "trainer.accelerator=cpu", "data.num_workers=0", "trainer.steps=2", *typed])


@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_training_fills_the_cache_and_is_the_same_as_without(mode: str, folder: Path) -> None:
    dataset("single")
    assert train("data.cache=off") == 0
    assert not folder.exists()
    wanted = newest("run")["model"]
    assert train(f"data.cache={mode}", "resume=never") == 0
    assert folder.exists() == (mode == "disk")
    assert_same_bits(newest("run")["model"], wanted)


def test_a_run_resumes_with_another_cache(folder: Path) -> None:
    dataset("single")
    assert train("trainer.steps=4", "data.cache=off") == 0
    wanted = newest("run")["model"]
    assert train("resume=never", "data.cache=memory") == 0
    assert train("trainer.steps=4", "data.cache=disk") == 0
    only_file(folder)
    assert_same_bits(newest("run")["model"], wanted)


def test_neither_a_dry_run_nor_a_test_nor_a_finished_run_fills_it(folder: Path, capsys) -> None:
    dataset("single")
    assert train("data.cache=disk", "dry_run=true") == 0
    assert train("data.cache=off") == 0
    assert train("data.cache=disk") == 0, "which is finished"
    assert main(["test", "run=checkpoints/run", "num=2"]) == 0, capsys.readouterr().err
    assert not folder.exists()


def test_a_cache_without_space_leaves_the_old_run(folder: Path, capsys) -> None:
    dataset("single")
    assert train("data.cache=off") == 0
    assert train("data.cache=disk", "data.cache_limit=1e-9", "resume=never") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("gantrain: data.cache=disk: data/0.png and 7 more needs")
    assert newest("run")["step"] == 2


def test_auto_does_not_store_images_that_are_decoded_quickly(folder: Path, monkeypatch) -> None:
    dataset("single")
    assert train() == 0
    assert not folder.exists()
    monkeypatch.setattr(cache, "MIN_DECODE_SECONDS", 0)
    assert train("resume=never") == 0
    only_file(folder)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("data.cache=ram", "gantrain: data.cache: expected one of 'auto', 'disk', 'memory', 'off', got 'ram'"),
        ("data.cache_limit=0", "gantrain: data.cache_limit: expected a number above 0, got 0"),
    ],
)
def test_wrong_settings_are_refused(typed: str, said: str, capsys) -> None:
    dataset("single")
    assert train(typed) == 2
    assert capsys.readouterr().err.strip() == said


def test_off_in_a_users_yaml_is_off() -> None:
    from gantrain.data.settings import DataSettings

    assert DataSettings.split({"cache": False, "mode": "single"}).cache == Cache(cache="off")
