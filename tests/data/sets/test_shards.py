"""Data sets of shards: roots, phases and classes, and the same batches as from image files, in any processes."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, assert_same_bits, newest
from in_processes import brightness
from PIL import Image
from sharded import digits, made, names, pack, png, refusal, samples, shards, single

from gantrain.cli.main import main
from gantrain.data.base import Batch
from gantrain.data.images.cache import Cache
from gantrain.data.sets import shards as module
from gantrain.data.sets.shards import OpenShard, expanded
from gantrain.data.stream import BatchStream
from gantrain.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of indices, which does not exist yet."""
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GANTRAIN_CACHE", str(place))
    return place / "shards"


# ---- phases and classes


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
    assert missing == f"data.root: there is no folder {tmp_path}/other"


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
        assert refusal(tmp_path, phase="test") == (
            f"data.root: {tmp_path}/test/x.tar/1.png has the label {strange}, which none of the training images has"
        )
    write("test", [None, None])
    assert "x.tar/0.png has no label" in refusal(tmp_path, phase="test")
    write("train", [None])
    write("test", [1])
    assert shards(tmp_path, phase="test").labels is None


# ---- roots


@pytest.mark.parametrize(
    "pattern",
    [
        "plain",
        "{000..012}",
        "a{8..11}b",
        "{9..11}",
        "{03..1}",
        "{1..1}",
        "{a,b}",
        "{a,}x",
        "x{a,b}-{0..1}{c,d}",
        "{a,b{1,2}c}",
        "{a,{8..10}}",
        "{single}",
        "{1..}",
        "{a..3}",
        "a}b{c",
        "{}",
    ],
)
def test_braces_are_expanded_as_by_a_shell(pattern: str) -> None:
    by_shell = subprocess.run(["bash", "-c", f"printf '%s\\n' {pattern}"], capture_output=True, text=True, check=True)
    assert [*expanded(pattern)] == by_shell.stdout.splitlines()


def test_a_root_is_a_folder_a_file_or_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, each=1)
    pack(tmp_path / "part-0002.tar", samples([20]))
    (tmp_path / "part-000.txt").write_text("no shard")
    (tmp_path / "._part-000.tar").write_text("of another computer")
    (tmp_path / "folder.tar").mkdir()
    shutil.copy(tmp_path / "part-003.tar", tmp_path / "odd{1,2}.TAR")
    monkeypatch.setenv("HOME", str(tmp_path))

    def found(root: str) -> list[str]:
        source = shards(root).readers["image"].source
        return [shard.path.relative_to(tmp_path).as_posix() for shard in source.shards]

    some = [f"part-{number:03}.tar" for number in range(12)]
    everything = ["odd{1,2}.TAR", "part-000.tar", "part-0002.tar", *some[1:]]
    assert found(str(tmp_path)) == found(".") == found("~") == everything
    assert found("part-*.tar") == everything[1:]
    assert found("part-{003..005}.tar") == some[3:6]
    assert found("~/part-{005..003}.tar") == some[5:2:-1]
    assert found("part-{003,00*}.tar") == [some[3], some[0], "part-0002.tar", *some[1:3], *some[4:10]]
    assert found("part-004.tar") == ["part-004.tar"]
    assert found("odd{1,2}.TAR") == ["odd{1,2}.TAR"]


def test_names_of_shards_in_several_folders_differ(tmp_path: Path) -> None:
    for part in ("a", "b/c"):
        made(tmp_path / part, 1)
    assert names(shards(tmp_path / "{a,b/c}/part-000.tar")) == ["a/part-000/00000.png", "b/c/part-000/00000.png"]


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ("nowhere", "data.root: there is no folder nowhere"),
        ("nowhere.tar", "data.root: there is no shard nowhere.tar"),
        ("good/part-{000..004}.tar", "data.root: there is no shard good/part-003.tar"),
        ("good/*.tgz", "data.root: no shard matches good/*.tgz"),
        ("images", "data.root: there are no .tar files in images (data=single reads images)"),
        ("above", "data.root: there are no .tar files in above; there are some in above/one, above/two"),
        ("packed", "the shard packed/1.tar.gz is compressed, so that single images can't be read: unpack"),
        ("packed/1.tar.gz", "data.root: the shard packed/1.tar.gz is compressed"),
        ("packed/*", "data.root: the shard packed/1.tar.gz is compressed"),
        ("disguised", "/disguised/1.tar is compressed"),
        ("s3://bucket/{0..3}.tar", "data.root=s3://bucket/{0..3}.tar: shards are read as files: copy them, or mount"),
        ("pipe:cat 1.tar", "data.root=pipe:cat 1.tar: shards are read as files"),
        ("text.tar", "/text.tar is not a tar file ("),
        ("empty.tar", "/empty.tar is not a tar file ("),
    ],
)
def test_invalid_roots_are_refused_in_one_line(root: str, reason: str) -> None:
    made(Path("good"))
    for part in ("one", "two"):
        made(Path("above") / part, 1)
    Path("images").mkdir()
    Path("images/1.png").write_bytes(png(0))
    for path in ("packed/1.tar.gz", "disguised/1.tar"):
        Path(path).parent.mkdir()
        with tarfile.open(path, "w:gz") as archive:
            archive.add("images/1.png")
    Path("text.tar").write_text("no shard\n" * 999)
    Path("empty.tar").touch()
    assert reason in refusal(root)


# ---- equal to the images themselves


def drawn(dataset: Any, num_workers: int, *, start: int = 0, count: int = 9, **keys: Any) -> Iterator[Batch]:
    stream = BatchStream(
        dataset,
        batch_size=5,
        seed=3,
        num_workers=num_workers,
        device=torch.device("cpu"),
        dtype=torch.float32,
        channels_last=False,
        **keys,
    )
    stream.position = start
    return islice(stream, count)


@pytest.mark.parametrize("preprocess", [None, "resize_and_crop", "scale_width_and_crop", "crop"])
def test_batches_are_those_of_the_unpacked_images(tmp_path: Path, preprocess: str | None) -> None:
    made(tmp_path / "in")
    for path in (tmp_path / "in").iterdir():
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path / "out" / path.stem, filter="data")
    keys = {"preprocess": preprocess, "load_size": 26}
    packed, unpacked = [*drawn(shards(tmp_path / "in", **keys), 0)], [*drawn(single(tmp_path / "out", **keys), 0)]
    for batch in [*packed, *unpacked]:
        del batch["label"]  # the folders are classes
    assert_same_bits(packed, unpacked)
    assert len({name for batch in packed for name in batch["name"]}) == 12


def test_batches_do_not_depend_on_workers_or_resumption(tmp_path: Path) -> None:
    whole = shards(made(tmp_path))
    alone = [*drawn(whole, 0)]
    assert_same_bits(alone, [*drawn(whole, 2)])
    assert_same_bits(alone[4:], [*drawn(whole, 2, start=4, count=5)])


@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_batches_are_the_same_from_a_cache_until_a_shard_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    made(tmp_path)
    for _ in range(2):
        plain, kept = shards(tmp_path), shards(tmp_path)
        kept.use_cache(Cache(cache=mode))
        with monkeypatch.context() as without:
            without.setattr(OpenShard, "read", None)
            cached = [*drawn(kept, 2)]
        assert_same_bits([*drawn(plain, 0)], cached)
        pack(tmp_path / "part-001.tar", [*samples([4]), ("00005.cls", b"0"), ("00005.png", png(99)), *samples([6, 7])])


def test_shards_of_equal_names_sizes_and_times_are_distinct(tmp_path: Path, folder: Path) -> None:
    for name, label, number in (("one", b"1", 0), ("other", b"2", 1)):
        file = io.BytesIO()
        Image.fromarray(digits().item(number, 0)["image"][0].numpy()).save(file, "BMP")
        members = (member for name in "ab" for member in ((f"{name}.bmp", file.getvalue()), (f"{name}.cls", label)))
        os.utime(pack(tmp_path / name / "x.tar", members), (1e9, 1e9))
        link = tmp_path / "newest"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        for root in (tmp_path / name, link):
            plain, kept = shards(root), shards(root)
            kept.use_cache(Cache(cache="disk"))
            assert plain.spec.class_names == (label.decode(),)
            assert_same_bits([*drawn(plain, 0)], [*drawn(kept, 0)])
    assert len(list(folder.with_name("images").iterdir())) == 2
    assert len(list(folder.glob("*.index"))) == 2


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
    shutil.copytree(tmp_path / "moved", tmp_path / "in")  # with the times of files
    assert of() == seen[-1]
    stamps, fingerprints = zip(*seen, strict=True)
    assert len(set(stamps)) == 5
    assert len(set(fingerprints)) == 4


# ---- reading


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


def test_few_shards_are_open_at_once_and_none_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 3)
    whole = shards(made(tmp_path, each=1))
    wanted = [whole.item(index, 0)["image"] for index in range(12)]
    assert open_files(tmp_path) == 3
    with ThreadPoolExecutor(8) as pool:  # which close shards that others are reading
        order = [*range(12)] * 20
        for index, item in zip(order, pool.map(partial(whole.item, seed=0), order), strict=True):
            assert torch.equal(item["image"], wanted[index])
    assert open_files(tmp_path) == 3
    del whole, pool
    assert open_files(tmp_path) == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("cut", "the shard was changed after the run was started"),
        ("touched", "the shard was changed after the run was started"),
        ("gone", "No such file or directory"),
    ],
)
def test_a_changed_shard_is_named_with_its_member(tmp_path: Path, change: str, reason: str) -> None:
    whole = pickle.loads(pickle.dumps(shards(made(tmp_path))))  # which has none open
    path = tmp_path / "part-001.tar"
    if change == "cut":
        os.truncate(path, 4000)
    elif change == "touched":
        os.utime(path, ns=(0, 0))
    else:
        path.unlink()
    assert whole.item(0, 0)["name"] == "part-000/00000.png"
    with pytest.raises(ConfigError, match=rf"^can't read the image {path}/0000\d.png: {reason}$"):
        [*drawn(whole, 0)]


def test_a_shard_truncated_while_open_is_named_with_its_member(tmp_path: Path) -> None:
    whole = shards(made(tmp_path))
    whole.item(4, 0)
    os.truncate(tmp_path / "part-001.tar", 4000)
    with pytest.raises(ConfigError, match=rf"image {tmp_path}/part-001.tar/00007.png: the shard is truncated$"):
        whole.item(7, 0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_corrupt_member_is_named_or_replaced(tmp_path: Path, num_workers: int) -> None:
    made(tmp_path, each=12)
    pack(tmp_path / "torn.tar", [("x.cls", b"0"), ("x.png", png(0)[:100])])
    whole = shards(tmp_path)
    with pytest.raises(ConfigError, match=rf"^can't read the image {tmp_path}/torn.tar/x.png: .+") as error:
        [*drawn(whole, 0)]
    assert "\n" not in str(error.value)
    skipped = [*drawn(whole, num_workers, on_error="skip")]
    assert {name for batch in skipped for name in batch["name"]} == {f"part-000/{n:05}.png" for n in range(12)}


# ---- through the command


def test_a_check_counts_what_is_there_and_what_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    made(root / "train", 8)
    made(root / "test", 2, phase="test")
    keys = ["data=shards", f"data.root={root}", "data.channels=1", "data.load_size=28", "out=page"]
    assert main(["data", "check", *keys]) == 0
    out = capsys.readouterr().out
    assert re.search("^images +8 +2$", out, re.MULTILINE)
    assert "warning: files that" not in out
    pack(root / "train/more.tar", [("a.cls", b"0"), ("a.png", png(0)), ("a.json", b"{}"), ("b.v2.png", png(1))])
    pack(root / "test/more.tar", [("torn.cls", b"0"), ("torn.png", b"torn"), ("torn.json", b"{}")])
    assert main(["data", "check", *keys]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^warning: files that are not read.*: \.json \(2\), \.v2\.png \(1\)$", out, re.MULTILINE)
    assert f"can't read the image {root}/test/more.tar/torn.png: " in out


def test_a_model_trains_and_resumes_on_shards_of_digits(train, capsys: pytest.CaptureFixture[str]) -> None:
    made(Path("data/train"), 60, each=25)
    made(Path("data/test"), 20, phase="test")
    keys = ["model=cgan", "data=shards", "data.root=data", "data.channels=1"]
    train("whole", *keys, "trainer.steps=4", "data.num_workers=2", "data.cache=off")
    train("halves", *keys, "trainer.steps=2", "data.cache=disk")
    train("halves", *keys, "trainer.steps=4", "data.cache=memory")
    assert_same_bits(newest("whole")["model"], newest("halves")["model"])
    assert main(["test", "run=checkpoints/whole"]) == 0
    capsys.readouterr()
    pack(Path("data/train/part-000.tar"), samples(range(70, 95)))
    assert main(["train", *TINY, *keys, "name=whole", "trainer.steps=6"]) == 2
    assert "\n  training images: the same number" in capsys.readouterr().err


def test_images_of_shards_are_translated_in_full_size(train) -> None:
    colour = []
    for number, size in enumerate([(40, 44), (36, 32)]):
        file = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        colour.append((f"../{number}.png", file.getvalue()))
    pack(Path("data/x.tar"), colour)
    sizes = ["data.load_size=32", "data.crop_size=32", "data.batch_size=1"]
    train("run", "model=colorization", "data=shards", "data.root=data", *sizes, "trainer.steps=1")
    pack(Path("other/y-0.tar"), colour)
    test = ["test", "run=checkpoints/run", "data=shards", "accelerator=cpu"]
    assert main([*test, "data.root='other/y-{0..0}.tar'"]) == 0
    results = Path("checkpoints/run/results/test_1_shards_y-_0..0_.tar")
    made = {path.relative_to(results).as_posix(): Image.open(path).size for path in results.glob("fake_*/**/*.png")}
    assert {name.split("/", 1)[1]: size for name, size in made.items()} == {
        "y-0/0.png": (44, 40),
        "y-0/1.png": (32, 36),
    }


def test_a_pattern_that_the_shell_expanded_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made(Path("data"))
    words = [f"data.root=data/part-{number:03}.tar" for number in range(3)]
    for command in (["train"], ["test", "run=checkpoints/run"], ["data", "check"]):
        assert main([*command, "data=shards", *words]) == 2
        said = capsys.readouterr().err
        assert "data.root is given 3 times, from data.root=data/part-000.tar to data.root=data/part-002.tar: " in said
        assert said.endswith("quote it twice: \"data.root='shards/{000..012}.tar'\"\n")
    assert main(["train", "data=shards", "data.root='data/part-{000..002}.tar'", "dry_run=true"]) == 0
    assert "12 in an epoch" in capsys.readouterr().out
