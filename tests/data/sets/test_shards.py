"""Data sets of shards: phases, classes, and the same batches as from image files, in any process."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from batches import batches
from conftest import assert_same_bits
from in_processes import brightness
from PIL import Image
from sharded import digits, made, names, pack, png, refusal, samples, shards, single

from gantrain.data.images.cache import Cache
from gantrain.data.sets import shards as module
from gantrain.data.sets.shards import OpenShard
from gantrain.errors import ConfigError

pytestmark = pytest.mark.usefixtures("shard_indices")


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_folders_named_after_phases_are_read_in_them(tmp_path: Path, held_out: str) -> None:
    made(tmp_path / "train", 8)
    made(tmp_path / held_out, 2, phase="test")
    train, test = shards(tmp_path), shards(tmp_path, phase="test")
    assert names(train) == [f"part-{number // 4:03}/{number:05}.png" for number in range(8)]
    assert names(test) == [f"part-000/{number:05}.png" for number in range(2)]
    assert train.held_out
    assert test.held_out
    assert train.fingerprint != test.fingerprint
    missing = refusal(tmp_path, phase="other")
    assert missing.startswith("data.root: ")
    assert missing.endswith(f" no folder {tmp_path}/other")


def test_the_classes_are_the_labels_of_the_training_images(tmp_path: Path) -> None:
    def write(phase: str, labels: list[int | None]) -> None:
        members: list[tuple[str, bytes]] = []
        for number, label in enumerate(labels):
            members += [] if label is None else [(f"{number}.cls", b"%d" % label)]
            members.append((f"{number}.png", png(number)))
        pack(tmp_path / phase / "x.tar", members)

    write("train", [10, 2, 300, 2])
    write("test", [300, 10])
    train, test = shards(tmp_path), shards(tmp_path, phase="test")
    assert train.spec.class_names == test.spec.class_names == ("2", "10", "300")
    assert (train.labels, test.labels) == ([1, 0, 2, 0], [2, 1])
    for strange in (7, 0, 999_999_999):
        write("test", [10, strange])
        message = refusal(tmp_path, phase="test")
        assert message.startswith(f"data.root: {tmp_path}/test/x.tar/1.png has the label {strange}, ")
        assert "none of the training images" in message
    write("test", [None, None])
    assert "x.tar/0.png has no label" in refusal(tmp_path, phase="test")
    write("train", [None])
    write("test", [1])
    assert shards(tmp_path, phase="test").labels is None


@pytest.mark.parametrize("preprocess", [None, "resize_and_crop", "scale_width_and_crop", "crop"])
def test_batches_equal_those_of_the_unpacked_images(tmp_path: Path, preprocess: str | None) -> None:
    made(tmp_path / "in")
    for path in (tmp_path / "in").iterdir():
        (tmp_path / "out" / path.stem).mkdir(parents=True)
        with tarfile.open(path) as archive:
            for member in archive:
                archive.makefile(member, tmp_path / "out" / path.stem / member.name)
    keys = {"preprocess": preprocess, "load_size": 26}
    packed, unpacked = [*batches(shards(tmp_path / "in", **keys))], [*batches(single(tmp_path / "out", **keys))]
    for batch in [*packed, *unpacked]:
        del batch["label"]  # In folders, classes are folders.
    assert_same_bits(packed, unpacked)
    assert len({name for batch in packed for name in batch["name"]}) == 12


def test_batches_do_not_depend_on_workers_or_resumption(tmp_path: Path) -> None:
    whole = shards(made(tmp_path))
    alone = [*batches(whole)]
    assert_same_bits(alone, [*batches(whole, num_workers=2)])
    assert_same_bits(alone[4:], [*batches(whole, num_workers=2, start=4, count=5)])


@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_batches_are_the_same_from_a_cache_until_a_shard_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    made(tmp_path)
    for _ in range(2):
        plain, stored = shards(tmp_path), shards(tmp_path)
        stored.use_cache(Cache(cache=mode))
        with monkeypatch.context() as without:
            without.setattr(OpenShard, "read", None)
            cached = [*batches(stored, num_workers=2)]
        assert_same_bits([*batches(plain)], cached)
        pack(tmp_path / "part-001.tar", [*samples([4]), ("00005.cls", b"0"), ("00005.png", png(99)), *samples([6, 7])])


def test_shards_of_equal_names_sizes_and_times_are_distinct(
    tmp_path: Path, image_cache: Path, shard_indices: Path
) -> None:
    for name, label, number in (("one", b"1", 0), ("other", b"2", 1)):
        file = io.BytesIO()
        Image.fromarray(digits().item(number, 0)["image"][0].numpy()).save(file, "BMP")
        members = (member for name in "ab" for member in ((f"{name}.bmp", file.getvalue()), (f"{name}.cls", label)))
        os.utime(pack(tmp_path / name / "x.tar", members), (1e9, 1e9))
        link = tmp_path / "newest"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        for root in (tmp_path / name, link):
            plain, stored = shards(root), shards(root)
            stored.use_cache(Cache(cache="disk"))
            assert plain.spec.class_names == (label.decode(),)
            assert_same_bits([*batches(plain)], [*batches(stored)])
    assert len(list(image_cache.iterdir())) == 2
    assert len(list(shard_indices.glob("*.index"))) == 2


def test_stamps_and_fingerprints_change_with_the_shards(tmp_path: Path) -> None:
    made(tmp_path / "in", 3)
    first = tmp_path / "in/part-000.tar"

    def of() -> tuple[str, str]:
        whole = shards(tmp_path / "in")
        return whole.readers["image"].source.stamp(range(3)), whole.fingerprint

    seen = [of()]
    assert of() == seen[0]
    status = first.stat()
    os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    seen.append(of())
    assert seen[1][1] == seen[0][1]
    for members in ([*samples([0, 1]), ("00002.cls", b"5"), ("00002.png", png(2))], samples([0, 1, 3])):
        pack(first, members)
        seen.append(of())
    first.rename(tmp_path / "in/other.tar")
    seen.append(of())
    shutil.move(tmp_path / "in", tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", tmp_path / "in")  # This preserves the times of files.
    assert of()[1] == seen[-1][1]
    stamps, fingerprints = zip(*seen, strict=True)
    assert len(set(stamps)) == 5
    assert len(set(fingerprints)) == 4


def test_a_pickled_data_set_contains_neither_names_nor_images(tmp_path: Path) -> None:
    pack(tmp_path / "x.tar", [(f"{number}{'long' * 20}.png", png(0)) for number in range(300)])
    whole = shards(tmp_path)
    item = whole.item(5, 1)
    packed = pickle.dumps(whole)
    assert len(packed) < 5000
    assert_same_bits(pickle.loads(packed).item(5, 1), item)


@pytest.mark.usefixtures("warm_python")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_many_processes_read_the_same_images(tmp_path: Path, start: str) -> None:
    whole = shards(made(tmp_path, 24, each=3))
    mine = [whole.item(index, index)["image"].sum().item() for index in range(24)]
    with get_context(start).Pool(2) as pool:
        assert pool.starmap(brightness, [(whole, index) for index in range(24)]) == mine


def open_files(folder: Path) -> int:
    links = [Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    return sum(link.is_symlink() and os.readlink(link).startswith(str(folder)) for link in links)


def test_the_number_of_open_shards_is_limited_and_all_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 3)
    whole = shards(made(tmp_path, each=1))
    wanted = [whole.item(index, 0)["image"] for index in range(12)]
    assert open_files(tmp_path) == 3
    with ThreadPoolExecutor(8) as pool:  # These close shards that other threads are reading.
        order = [*range(12)] * 20
        for index, item in zip(order, pool.map(partial(whole.item, seed=0), order), strict=True):
            assert torch.equal(item["image"], wanted[index])
    assert open_files(tmp_path) == 3
    del whole, pool
    assert open_files(tmp_path) == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("cut", "changed after the run was started"),
        ("touched", "changed after the run was started"),
        ("gone", "No such file or directory"),
    ],
)
def test_a_changed_shard_is_named_with_its_member(tmp_path: Path, change: str, reason: str) -> None:
    whole = pickle.loads(pickle.dumps(shards(made(tmp_path))))  # The copy has no open shard.
    path = tmp_path / "part-001.tar"
    if change == "cut":
        os.truncate(path, 4000)
    elif change == "touched":
        os.utime(path, ns=(0, 0))
    else:
        path.unlink()
    assert whole.item(0, 0)["name"] == "part-000/00000.png"
    with pytest.raises(ConfigError, match=rf"^can't read the image {path}/0000\d.png: .*{reason}$"):
        [*batches(whole)]


def test_a_shard_truncated_while_open_is_named_with_its_member(tmp_path: Path) -> None:
    whole = shards(made(tmp_path))
    whole.item(4, 0)
    os.truncate(tmp_path / "part-001.tar", 4000)
    with pytest.raises(ConfigError, match=rf"image {tmp_path}/part-001.tar/00007.png: the shard is truncated$"):
        whole.item(7, 0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_corrupt_member_is_named_or_replaced(tmp_path: Path, num_workers: int) -> None:
    made(tmp_path, each=12)
    pack(tmp_path / "corrupt.tar", [("x.cls", b"0"), ("x.png", png(0)[:100])])
    whole = shards(tmp_path)
    with pytest.raises(ConfigError, match=rf"^can't read the image {tmp_path}/corrupt.tar/x.png: .+") as error:
        [*batches(whole)]
    assert "\n" not in str(error.value)
    skipped = [*batches(whole, num_workers=num_workers, on_error="skip")]
    assert {name for batch in skipped for name in batch["name"]} == {f"part-000/{n:05}.png" for n in range(12)}
