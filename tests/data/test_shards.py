"""Tar files as WebDataset lays them out: what is found in them, by any number of processes, and what is refused."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, assert_same_bits, newest
from PIL import Image

from gantrain.cli import main
from gantrain.data import shards as module
from gantrain.data.base import Batch
from gantrain.data.cache import Cache
from gantrain.data.digits import Digits
from gantrain.data.shards import OpenShard, Shards, expanded
from gantrain.data.stream import BatchStream
from gantrain.registry import DATASETS, ConfigError
from gantrain.translating import PictureFolder

PLAIN = {"preprocess": None, "range": None, "depth": "auto", "decoder": "exact"}
Members = Iterable[tuple[str, bytes]]


def shards(root: Path | str, *, phase: str = "train", **keys: Any) -> Shards:
    defaults = {"channels": 1, "load_size": 28, "crop_size": 24, "crop": "random", "flip": True, **PLAIN}
    return DATASETS.build({"mode": "shards", "root": str(root), **defaults, **keys}, phase=phase)


def single(root: Path | str, **keys: Any) -> Any:
    defaults = {"channels": 1, "load_size": 28, "crop_size": 24, "crop": "random", "flip": True, **PLAIN}
    return DATASETS.build({"mode": "single", "root": str(root), "list": None, **defaults, **keys}, phase="train")


@cache
def digits(phase: str = "train") -> Digits:
    return Digits(load_size=28, phase=phase)


@cache
def png(number: int, phase: str = "train") -> bytes:
    """A digit, as a file."""
    file = io.BytesIO()
    image = digits(phase).item(number, 0)["image"]
    Image.fromarray(image[0].numpy()).save(file, "PNG")
    return file.getvalue()


def pack(path: Path, members: Members, *, format: int = tarfile.PAX_FORMAT) -> Path:
    """A tar of these names and contents, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(numbers: Iterable[int], phase: str = "train") -> Iterator[tuple[str, bytes]]:
    """Digits with their labels, as WebDataset would write them."""
    for number in numbers:
        yield f"{number:05}.cls", b"%d" % digits(phase).labels[number]
        yield f"{number:05}.png", png(number, phase)


def made(folder: Path, count: int = 12, *, each: int = 4, phase: str = "train") -> Path:
    """Digits with labels in shards of ``each``."""
    for number, first in enumerate(range(0, count, each)):
        pack(folder / f"part-{number:03}.tar", samples(range(first, min(first + each, count)), phase))
    return folder


def names(dataset: Shards) -> list[str]:
    return [dataset.item(index, 0)["name"] for index in range(len(dataset))]


def names_in(shard: Path) -> list[str]:
    """Without opening any."""
    source = shards(shard, depth="uint8").found.source
    return [source.name(index) for index in range(len(source))]


def refusal(root: Path | str, **keys: Any) -> str:
    with pytest.raises(ConfigError) as error:
        shards(root, **keys)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where indices are kept, not there yet."""
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GANTRAIN_CACHE", str(place))
    return place / "shards"


# ---- samples


def test_pictures_come_with_their_labels_in_the_order_of_shards_and_members(tmp_path: Path) -> None:
    whole = shards(made(tmp_path), load_size=28, crop_size=28, crop="center", flip=False)
    assert names(whole) == [f"part-{number // 4:03}/{number:05}.png" for number in range(12)]
    assert whole.keys == {"image", "label"}
    used = sorted(set(digits().labels[:12]))
    assert whole.spec.class_names == tuple(map(str, used))
    for number in range(12):
        assert whole.found.source.open(number) == png(number)
        item, wanted = whole.item(number, seed=7), digits().item(number, 0)
        assert torch.equal(item["image"], wanted["image"])
        assert whole.spec.class_names[item["label"]] == str(int(wanted["label"]))
    assert whole.labels == [whole.item(number, 0)["label"] for number in range(12)]
    assert not whole.held_out


def test_a_sample_is_what_shares_the_name_up_to_the_first_dot_of_the_file(tmp_path: Path) -> None:
    members = [
        ("a.b/1.json", b"{}"),
        ("a.b/1.png", png(0)),
        ("a.b/1.seg.png", png(1)),
        ("a.b/1.cls", b"7\n"),
        ("c/1.PNG", png(2)),
        ("c/1.Cls", b" 3"),
        ("._c", b"of another computer"),
        ("c/1.npy", b"what some network made of it"),
        ("d/.hidden.png", png(3)),
        ("e.cls", b"7"),
        ("./e.png", png(4)),
        ("./README", b"read me"),
    ]
    whole = shards(pack(tmp_path / "x.tar", members), crop_size=28, flip=False)
    assert names(whole) == ["x/a.b/1.png", "x/c/1.PNG", "x/e.png"]
    assert whole.spec.class_names == ("3", "7")
    assert whole.labels == [1, 0, 1]
    for index, number in enumerate((0, 2, 4)):
        assert torch.equal(whole.item(index, 0)["image"], digits().item(number, 0)["image"])
    assert whole.found.source.index.unread == {".json": 1, ".seg.png": 1, ".npy": 1, "README": 1}


def test_an_array_is_a_picture_where_there_is_no_other(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    file = io.BytesIO()
    np.save(file, pixels)
    whole = shards(pack(tmp_path / "x.tar", [("1.npy", file.getvalue())]), crop_size=28, flip=False)
    assert np.array_equal(whole.item(0, 0)["image"][0].numpy(), pixels)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar_and_every_name_is_read(tmp_path: Path, format: int) -> None:
    long = "/".join(["folder" * 10] * (3 if format == tarfile.USTAR_FORMAT else 10))
    wanted = ["1.png", f"{long}/2.png", "\u00e9t\u00e9/3.png"]
    whole = shards(pack(tmp_path / "x.tar", [(name, png(0)) for name in wanted], format=format))
    assert names(whole) == [f"x/{name}" for name in wanted]
    assert whole.labels is None
    assert whole.keys == {"image"}


@pytest.mark.parametrize("options", [[], ["--format=ustar"], ["--format=v7"], ["--format=oldgnu"], ["-b", "1"]])
def test_what_the_program_tar_makes_of_a_folder_is_read(tmp_path: Path, options: list[str]) -> None:
    for number in range(9):
        path = tmp_path / f"in/{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
        path.with_suffix(".cls").write_text(f"{number % 3}\n")
    command = ["tar", "--sort=name", *options, "-cf", tmp_path / "x.tar", "-C", tmp_path / "in", "."]
    subprocess.run(command, check=True)
    whole = shards(tmp_path / "x.tar")
    assert names(whole) == [f"x/{number % 2}/{number}.png" for number in (0, 2, 4, 6, 8, 1, 3, 5, 7)]
    assert whole.labels == [0, 2, 1, 0, 2, 1, 0, 2, 1]


def test_names_that_lead_elsewhere_are_names_and_nothing_is_written_there(tmp_path: Path) -> None:
    odd = ["../../1.png", "/1.png", "1.png", "a/../../1.png", "a//1.png", ".../1.png", "\udcff.png"]
    root = pack(tmp_path / "deep/x.tar", [(name, png(number)) for number, name in enumerate(odd)])
    whole = shards(root, crop_size=28, flip=False)
    assert names(whole) == [f"x/{name}" for name in odd]
    assert whole.found.source.place(0) == f"{root}/../../1.png"
    results = PictureFolder(tmp_path / "deep/er/results", run=None, data=whole.spec)
    written = []
    for index in range(len(odd)):
        item = whole.item(index, 0)
        written.append(results.write("fake_b", item["name"], item["image"].float() / 127.5 - 1))
    assert len(set(written)) == len(odd)
    for number, path in enumerate(written):
        assert path.resolve().is_relative_to(tmp_path / "deep/er/results/fake_b")
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(io.BytesIO(png(number)))))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["er", "x.tar"]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("1.png", b""), ("1.jpg", b"")], r"x.tar holds 1.png and 1.jpg, two pictures of .* like 1.other.jpg$"),
        ([("1.png", b""), ("1.png", b"")], r"x.tar holds 1.png and 1.png, two pictures of one sample"),
        ([("1.cls", b"cat"), ("1.png", b"")], r"x.tar/1.cls: a label is a whole number from 0 on, not 'cat'$"),
        ([("1.cls", b"-1"), ("1.png", b"")], r"x.tar/1.cls: a label is a whole number from 0 on, not '-1'$"),
        ([("1.cls", b""), ("1.png", b"")], r"x.tar/1.cls: a label is a whole number from 0 on, not ''$"),
        ([("1.cls", b"1" + b" " * 99), ("1.png", b"")], r"x.tar/1.cls: a label is a whole number from 0 on, not '1'$"),
        ([("1.cls", b"1" * 20), ("1.png", b"")], r"x.tar/1.cls: a label is a whole number from 0 on, not '1{20}'$"),
        ([("1.cls", b"1"), ("1.png", b""), ("2.png", b"")], r"x.tar/2.png has no label, a .cls right beside it"),
        (
            [("1.cls", b"1"), ("2.cls", b"1"), ("1.png", b""), ("2.png", b"")],
            r"x.tar/1.png has no label, .*--sort=name",
        ),
        (
            [("1.v2.png", b""), ("1.txt", b""), ("2.txt", b""), ("LICENSE", b"")],
            r"no picture in .*x.tar \(looked for .*\.png.*there are: \.txt \(2\), \.v2\.png \(1\), LICENSE \(1\)\)$",
        ),
        ([], r"no picture in .*x.tar \(looked for .*; there are: no files\)$"),
    ],
)
def test_samples_that_are_not_as_they_should_be_are_named(tmp_path: Path, members: Members, reason: str) -> None:
    found = refusal(pack(tmp_path / "x.tar", members), depth="uint8")
    assert found.startswith("data.root: ")
    assert re.search(reason, found), found


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("sym", "is a link without content"),
        ("hard", "is a link"),
        ("sparse", "is a sparse file: pack the shard without"),
    ],
)
def test_members_without_content_of_their_own_are_refused(tmp_path: Path, kind: str, reason: str) -> None:
    (tmp_path / "1.png").write_bytes(png(0))
    if kind == "sym":
        (tmp_path / "2.png").symlink_to("1.png")
    elif kind == "hard":
        (tmp_path / "2.png").hardlink_to(tmp_path / "1.png")
    else:
        with (tmp_path / "2.png").open("wb") as file:
            file.truncate(1 << 22)
    options = {"sparse": ["--sparse"]}.get(kind, [])
    command = ["tar", *options, "-cf", "x.tar", "-C", tmp_path, "1.png", "2.png"]
    subprocess.run(command, check=True)
    assert f"x.tar/2.png {reason}" in refusal("x.tar")
    if kind != "sparse":
        subprocess.run([*command[:1], "--dereference", "--hard-dereference", *command[1:]], check=True)
        assert names(shards("x.tar")) == ["x/1.png", "x/2.png"]


def test_tars_joined_to_one_file_are_refused(tmp_path: Path) -> None:
    made(tmp_path)
    parts = [path.read_bytes() for path in sorted(tmp_path.glob("*.tar"))]
    joined = tmp_path / "joined" / "x.tar"
    joined.parent.mkdir()
    joined.write_bytes(b"".join(parts))
    where = len(parts[0].rstrip(b"\0")) // 512 * 512 + 512
    assert refusal(joined) == (
        f"data.root: the shard {joined} goes on after its end mark at byte {where:,}, as where tars were joined by "
        "cat: give each a file of its own"
    )
    joined.write_bytes(parts[0] + bytes(1 << 20))  # zeros, as tar -b adds them
    assert len(shards(joined)) == 4


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


def test_the_classes_are_the_labels_of_the_training_pictures(tmp_path: Path) -> None:
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
            f"data.root: {tmp_path}/test/x.tar/1.png has the label {strange}, which none of the training pictures has"
        )
    write("test", [None, None])
    assert "x.tar/0.png has no label" in refusal(tmp_path, phase="test")
    write("train", [None])
    write("test", [1])
    assert shards(tmp_path, phase="test").labels is None


# ---- what a root stands for


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
def test_braces_are_what_they_are_to_a_shell(pattern: str) -> None:
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
        source = shards(root).found.source
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


def test_names_tell_shards_of_several_folders_apart(tmp_path: Path) -> None:
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
        ("pictures", "data.root: there are no .tar files in pictures (data=single reads pictures)"),
        ("above", "data.root: there are no .tar files in above; there are in above/one, above/two"),
        ("packed", "the shard packed/1.tar.gz is compressed, so that no picture can be read without all before it"),
        ("packed/1.tar.gz", "data.root: the shard packed/1.tar.gz is compressed"),
        ("packed/*", "data.root: the shard packed/1.tar.gz is compressed"),
        ("disguised", "/disguised/1.tar is compressed"),
        ("s3://bucket/{0..3}.tar", "data.root=s3://bucket/{0..3}.tar: shards are read as files: copy them, or mount"),
        ("pipe:cat 1.tar", "data.root=pipe:cat 1.tar: shards are read as files"),
        ("text.tar", "/text.tar is no tar file ("),
        ("empty.tar", "/empty.tar is no tar file ("),
    ],
)
def test_what_will_not_do_is_refused_in_one_line(root: str, reason: str) -> None:
    made(Path("good"))
    for part in ("one", "two"):
        made(Path("above") / part, 1)
    Path("pictures").mkdir()
    Path("pictures/1.png").write_bytes(png(0))
    for path in ("packed/1.tar.gz", "disguised/1.tar"):
        Path(path).parent.mkdir()
        with tarfile.open(path, "w:gz") as archive:
            archive.add("pictures/1.png")
    Path("text.tar").write_text("no shard\n" * 999)
    Path("empty.tar").touch()
    assert reason in refusal(root)


# ---- damaged shards


def test_a_shard_that_is_cut_off_anywhere_is_refused(tmp_path: Path, folder: Path) -> None:
    whole = pack(tmp_path / "x.tar", samples(range(3))).read_bytes()
    end = len(whole.rstrip(b"\0"))
    end += -end % 512  # from there on, there are zeros: 1024 of them are the end mark, the first of which is needed
    for size in [0, 1, 511, 512, 513, 1024, 1536, 2000, *range(end - 600, end, 100), end, end + 511]:
        (tmp_path / "x.tar").write_bytes(whole[:size])
        found = refusal(tmp_path)
        assert re.search(rf"x\.tar is (cut off, .* missing after {size:,} bytes$|no tar file)", found)
    assert [*folder.iterdir()] == []
    (tmp_path / "x.tar").write_bytes(whole[: end + 512])
    assert len(shards(tmp_path)) == 3


def test_a_damaged_header_is_found_wherever_it_is(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", samples(range(3)))
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        starts = [member.offset for member in archive.getmembers()]
    assert len(starts) == 6
    for start in starts:
        damaged = bytearray(whole)
        damaged[start + 5] ^= 1
        path.write_bytes(damaged)
        assert (f"x.tar is damaged at byte {start:,} (" if start else "x.tar is no tar file (") in refusal(path)


def test_sizes_and_names_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", samples([0, 1]))
    for size in (-1, -512, -1024, -2048):  # of which some would lead back to where one came from
        damaged = bytearray(path.read_bytes())
        damaged[1024 + 124 : 1024 + 136] = (256**12 + size).to_bytes(12, "big")
        damaged[1024 + 148 : 1024 + 156] = b" " * 8
        damaged[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(damaged[1024:1536])
        (tmp_path / "damaged.tar").write_bytes(damaged)
        assert "damaged.tar is damaged at byte 1,024 (" in refusal(tmp_path / "damaged.tar")
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("0.png"))
        member = tarfile.TarInfo("1.png")
        member.pax_headers = {"path": "1\0.png"}
        archive.addfile(member)
    assert "x.tar is damaged at byte 512 (" in refusal(path)


def test_any_garbage_is_refused_in_one_line_or_read(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", [("a" * 200 + ".png", png(0)), *samples(range(2))])
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    refused: list[str] = []
    read: list[list[str]] = []
    for _ in range(100):
        garbled = whole.copy()
        start = 512 * random.integers(0, 4)
        places = random.integers(start, start + 512, random.integers(1, 8))
        garbled[places] = random.integers(0, 256, len(places))
        for header in range(0, 2048, 512):  # else hardly any garbage came through
            block = garbled[header : header + 512]
            block[148:156] = 32
            block[148:156] = np.frombuffer(b"%06o\0 " % block.sum(), np.uint8)
        path.write_bytes(garbled.tobytes())
        try:
            read.append(names_in(path))
        except ConfigError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert len(read) > 2
    assert not [reason for reason in refused if "\n" in reason or not reason.startswith("data.root: ")]
    assert max(map(len, read)) <= 3


# ---- equal to the pictures themselves


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
def test_batches_are_those_of_the_same_pictures_unpacked(tmp_path: Path, preprocess: str | None) -> None:
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


def test_batches_are_the_same_with_any_number_of_workers_and_after_a_resumption(tmp_path: Path) -> None:
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
        kept.keep(Cache(cache=mode))
        with monkeypatch.context() as without:
            without.setattr(OpenShard, "read", None)
            cached = [*drawn(kept, 2)]
        assert_same_bits([*drawn(plain, 0)], cached)
        pack(tmp_path / "part-001.tar", [*samples([4]), ("00005.cls", b"0"), ("00005.png", png(99)), *samples([6, 7])])


def test_shards_of_equal_names_sizes_and_times_are_not_taken_for_each_other(tmp_path: Path, folder: Path) -> None:
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
            kept.keep(Cache(cache="disk"))
            assert plain.spec.class_names == (label.decode(),)
            assert_same_bits([*drawn(plain, 0)], [*drawn(kept, 0)])
    assert len(list(folder.with_name("pictures").iterdir())) == 2
    assert len(list(folder.glob("*.index"))) == 2


def test_a_stamp_and_a_fingerprint_change_with_what_they_are_of(tmp_path: Path) -> None:
    made(tmp_path / "in", 3)
    first = tmp_path / "in/part-000.tar"

    def of() -> tuple[str, str]:
        whole = shards(tmp_path / "in")
        return whole.found.source.stamp(range(3)), whole.fingerprint

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


def test_a_pickled_data_set_holds_neither_names_nor_pictures(tmp_path: Path) -> None:
    pack(tmp_path / "x.tar", [(f"{number}{'long' * 20}.png", png(0)) for number in range(300)])
    whole = shards(tmp_path)
    item = whole.item(5, 1)
    packed = pickle.dumps(whole)
    assert len(packed) < 5000
    assert_same_bits(pickle.loads(packed).item(5, 1), item)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_many_processes_read_the_same_pictures(tmp_path: Path, start: str) -> None:
    whole = shards(made(tmp_path, 24, each=3))
    mine = [whole.item(index, index)["image"].sum().item() for index in range(24)]
    with get_context(start).Pool(2) as pool:
        assert pool.starmap(brightness, [(whole, index) for index in range(24)]) == mine


def brightness(dataset: Shards, index: int) -> float:
    return dataset.item(index, index)["image"].sum().item()


def open_files(folder: Path) -> int:
    links = [Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    return sum(link.is_symlink() and os.readlink(link).startswith(str(folder)) for link in links)


def test_few_shards_are_open_at_once_and_none_when_nobody_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 3)
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
        ("cut", "the shard has been changed since the run was started"),
        ("touched", "the shard has been changed since the run was started"),
        ("gone", "No such file or directory"),
    ],
)
def test_a_shard_that_is_not_what_it_was_is_named_with_its_member(tmp_path: Path, change: str, reason: str) -> None:
    whole = pickle.loads(pickle.dumps(shards(made(tmp_path))))  # which has none open
    path = tmp_path / "part-001.tar"
    if change == "cut":
        os.truncate(path, 4000)
    elif change == "touched":
        os.utime(path, ns=(0, 0))
    else:
        path.unlink()
    assert whole.item(0, 0)["name"] == "part-000/00000.png"
    with pytest.raises(ConfigError, match=rf"^can't read the picture {path}/0000\d.png: {reason}$"):
        [*drawn(whole, 0)]


def test_a_shard_cut_off_under_a_reader_is_named_with_its_member(tmp_path: Path) -> None:
    whole = shards(made(tmp_path))
    whole.item(4, 0)
    os.truncate(tmp_path / "part-001.tar", 4000)
    with pytest.raises(ConfigError, match=rf"picture {tmp_path}/part-001.tar/00007.png: the shard is cut off$"):
        whole.item(7, 0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_member_that_is_no_picture_is_named_or_its_neighbour_takes_its_place(
    tmp_path: Path, num_workers: int
) -> None:
    made(tmp_path, each=12)
    pack(tmp_path / "torn.tar", [("x.cls", b"0"), ("x.png", png(0)[:100])])
    whole = shards(tmp_path)
    with pytest.raises(ConfigError, match=rf"^can't read the picture {tmp_path}/torn.tar/x.png: .+") as error:
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
    assert "pictures                8          2" in out
    assert "warning: files that" not in out
    pack(root / "train/more.tar", [("a.cls", b"0"), ("a.png", png(0)), ("a.json", b"{}"), ("b.v2.png", png(1))])
    pack(root / "test/more.tar", [("torn.cls", b"0"), ("torn.png", b"torn"), ("torn.json", b"{}")])
    assert main(["data", "check", *keys]) == 1
    out = capsys.readouterr().out
    assert "warning: files that are not read, for their extensions: .json (2), .v2.png (1)\n" in out
    assert f"can't read the picture {root}/test/more.tar/torn.png: " in out


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
    assert "\n  training images: as many, but their names are others" in capsys.readouterr().err


def test_pictures_of_shards_are_translated_whole_under_their_names(train) -> None:
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


def test_a_pattern_that_the_shell_took_apart_is_not_taken_for_its_last_shard(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made(Path("data"))
    words = [f"data.root=data/part-{number:03}.tar" for number in range(3)]
    for command in (["train"], ["test", "run=checkpoints/run"], ["data", "check"]):
        assert main([*command, "data=shards", *words]) == 2
        assert capsys.readouterr().err == (
            "gantrain: data.root is given 3 times, from data.root=data/part-000.tar to data.root=data/part-002.tar: "
            "where the shell took a pattern apart, quote it twice: \"data.root='shards/{000..012}.tar'\"\n"
        )
    assert main(["train", "data=shards", "data.root='data/part-{000..002}.tar'", "dry_run=true"]) == 0
    assert "12 in an epoch" in capsys.readouterr().out
