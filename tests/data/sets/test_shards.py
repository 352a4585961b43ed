"""Tar files as WebDataset lays them out: what is found in them, by any number of processes, and what is refused."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sharded import Members, digits, made, names, names_in, pack, png, refusal, samples, shards

from gantrain.data.sets.shards import expanded
from gantrain.errors import ConfigError
from gantrain.inference.translate import ImageFolder


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where indices are kept, not there yet."""
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GANTRAIN_CACHE", str(place))
    return place / "shards"


# ---- samples


def test_images_come_with_their_labels_in_the_order_of_shards_and_members(tmp_path: Path) -> None:
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


def test_an_array_is_a_image_where_there_is_no_other(tmp_path: Path) -> None:
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
    assert whole.found.source.location(0) == f"{root}/../../1.png"
    results = ImageFolder(tmp_path / "deep/er/results", run=None, data=whole.spec)
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
        ([("1.png", b""), ("1.jpg", b"")], r"x.tar holds 1.png and 1.jpg, two images of .* like 1.other.jpg$"),
        ([("1.png", b""), ("1.png", b"")], r"x.tar holds 1.png and 1.png, two images of one sample"),
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
            r"no image in .*x.tar \(looked for .*\.png.*there are: \.txt \(2\), \.v2\.png \(1\), LICENSE \(1\)\)$",
        ),
        ([], r"no image in .*x.tar \(looked for .*; there are: no files\)$"),
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
        ("images", "data.root: there are no .tar files in images (data=single reads images)"),
        ("above", "data.root: there are no .tar files in above; there are in above/one, above/two"),
        ("packed", "the shard packed/1.tar.gz is compressed, so that no image can be read without all before it"),
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
    Path("images").mkdir()
    Path("images/1.png").write_bytes(png(0))
    for path in ("packed/1.tar.gz", "disguised/1.tar"):
        Path(path).parent.mkdir()
        with tarfile.open(path, "w:gz") as archive:
            archive.add("images/1.png")
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
