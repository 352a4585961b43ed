"""Samples in tar files of the layout of WebDataset: what is found in them, and what is refused."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sharded import Members, digits, made, names, names_in, pack, png, refusal, samples, shards

from gantrain.errors import ConfigError
from gantrain.inference.image_folder import ImageFolder

pytestmark = pytest.mark.usefixtures("shard_indices")


# ---- samples


def test_images_and_labels_are_in_the_order_of_shards_and_members(tmp_path: Path) -> None:
    whole = shards(made(tmp_path), load_size=28, crop_size=28, crop="center", flip=False)
    assert names(whole) == [f"part-{number // 4:03}/{number:05}.png" for number in range(12)]
    assert whole.keys == {"image", "label"}
    used = sorted(set(digits().labels[:12]))
    assert whole.spec.class_names == tuple(map(str, used))
    for number in range(12):
        assert whole.readers["image"].source.open(number) == png(number)
        item, wanted = whole.item(number, seed=7), digits().item(number, 0)
        assert torch.equal(item["image"], wanted["image"])
        assert whole.spec.class_names[item["label"]] == str(int(wanted["label"]))
    assert whole.labels == [whole.item(number, 0)["label"] for number in range(12)]
    assert not whole.held_out


def test_files_of_a_sample_share_the_name_up_to_the_first_dot(tmp_path: Path) -> None:
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
    assert whole.readers["image"].source.index.unread == {".json": 1, ".seg.png": 1, ".npy": 1, "README": 1}


def test_an_array_is_an_image_if_the_sample_has_no_other(tmp_path: Path) -> None:
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
def test_archives_of_gnu_tar_are_read(tmp_path: Path, options: list[str]) -> None:
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


def test_names_outside_the_folder_create_no_files(tmp_path: Path) -> None:
    odd = ["../../1.png", "/1.png", "1.png", "a/../../1.png", "a//1.png", ".../1.png", "\udcff.png"]
    root = pack(tmp_path / "deep/x.tar", [(name, png(number)) for number, name in enumerate(odd)])
    whole = shards(root, crop_size=28, flip=False)
    assert names(whole) == [f"x/{name}" for name in odd]
    assert whole.readers["image"].source.location(0) == f"{root}/../../1.png"
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
        ([("1.png", b""), ("1.jpg", b"")], r"x.tar contains 1.png and 1.jpg, two images of .* to 1.other.jpg$"),
        ([("1.png", b""), ("1.png", b"")], r"x.tar contains 1.png and 1.png, two images of one sample"),
        (
            [("1.cls", b"cat"), ("1.png", b"")],
            r"x.tar/1.cls: .* an integer from 0 to 999999999, not 'cat'$",
        ),
        ([("1.cls", b"-1"), ("1.png", b"")], r"x.tar/1.cls: .* an integer from 0 to 999999999, not '-1'$"),
        ([("1.cls", b""), ("1.png", b"")], r"x.tar/1.cls: .* an integer from 0 to 999999999, not ''$"),
        (
            [("1.cls", b"1" + b" " * 99), ("1.png", b"")],
            r"x.tar/1.cls: .* an integer from 0 to 999999999, not '1'$",
        ),
        (
            [("1.cls", b"1" * 20), ("1.png", b"")],
            r"x.tar/1.cls: .* an integer from 0 to 999999999, not '1{20}'$",
        ),
        ([("1.cls", b"1"), ("1.png", b""), ("2.png", b"")], r"x.tar/2.png has no label, a .cls right beside it"),
        (
            [("1.cls", b"1"), ("2.cls", b"1"), ("1.png", b""), ("2.png", b"")],
            r"x.tar/1.png has no label, .*--sort=name",
        ),
        (
            [("1.v2.png", b""), ("1.txt", b""), ("2.txt", b""), ("LICENSE", b"")],
            r"no image in .*x.tar \(looked for .*\.png.*found: \.txt \(2\), \.v2\.png \(1\), LICENSE \(1\)\)$",
        ),
        ([], r"no image in .*x.tar \(looked for .*; found: no files\)$"),
    ],
)
def test_invalid_samples_are_named(tmp_path: Path, members: Members, reason: str) -> None:
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
def test_links_and_sparse_files_are_refused(tmp_path: Path, kind: str, reason: str) -> None:
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
    message = refusal(joined)
    for part in ("data.root: ", f"{joined} continues after its end mark", f"byte {where:,}", "separate file"):
        assert part in message
    joined.write_bytes(parts[0] + bytes(1 << 20))  # tar -b appends zeros.
    assert len(shards(joined)) == 4


# ---- corrupt shards


def test_a_truncated_shard_is_refused(tmp_path: Path, shard_indices: Path) -> None:
    whole = pack(tmp_path / "x.tar", samples(range(3))).read_bytes()
    end = len(whole.rstrip(b"\0"))
    end += -end % 512  # from there on, there are zeros: 1024 of them are the end mark, the first of which is needed
    for size in [0, 1, 511, 512, 513, 1024, 1536, 2000, *range(end - 600, end, 100), end, end + 511]:
        (tmp_path / "x.tar").write_bytes(whole[:size])
        found = refusal(tmp_path)
        assert re.search(rf"x\.tar is (truncated, .* missing after {size:,} bytes$|not a tar file)", found)
    assert [*shard_indices.iterdir()] == []
    (tmp_path / "x.tar").write_bytes(whole[: end + 512])
    assert len(shards(tmp_path)) == 3


def test_a_corrupt_header_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", samples(range(3)))
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        starts = [member.offset for member in archive.getmembers()]
    assert len(starts) == 6
    for start in starts:
        damaged = bytearray(whole)
        damaged[start + 5] ^= 1
        path.write_bytes(damaged)
        assert (f"x.tar is corrupt at byte {start:,} (" if start else "x.tar is not a tar file (") in refusal(path)


def test_invalid_sizes_and_names_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", samples([0, 1]))
    for size in (-1, -512, -1024, -2048):  # Some of these point back.
        damaged = bytearray(path.read_bytes())
        damaged[1024 + 124 : 1024 + 136] = (256**12 + size).to_bytes(12, "big")
        damaged[1024 + 148 : 1024 + 156] = b" " * 8
        damaged[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(damaged[1024:1536])
        (tmp_path / "damaged.tar").write_bytes(damaged)
        assert "damaged.tar is corrupt at byte 1,024 (" in refusal(tmp_path / "damaged.tar")
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("0.png"))
        member = tarfile.TarInfo("1.png")
        member.pax_headers = {"path": "1\0.png"}
        archive.addfile(member)
    assert "x.tar is corrupt at byte 512 (" in refusal(path)


def test_any_garbage_is_refused_in_one_line_or_read(tmp_path: Path) -> None:
    # The first member has three blocks before its content: a pax header, the long name in it, and its own header.
    path = pack(tmp_path / "x.tar", [("a" * 200 + ".png", png(0)), ("1.png", png(1)), ("2.png", png(2))])
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    refused: list[str] = []
    read: list[list[str]] = []
    for _ in range(100):
        garbled = whole.copy()
        start = 512 * random.integers(0, 3)
        places = random.integers(start, start + 160, random.integers(1, 8))
        garbled[places] = random.integers(0, 256, len(places))
        for header in (0, 1024):  # Otherwise, hardly any garbage would be read.
            block = garbled[header : header + 512]
            block[148:156] = 32
            block[148:156] = np.frombuffer(b"%06o\0 " % block.sum(), np.uint8)
        path.write_bytes(garbled.tobytes())
        try:
            read.append(names_in(path))
        except ConfigError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert len(read) > 20
    assert not [reason for reason in refused if "\n" in reason or not reason.startswith("data.root: ")]
    assert max(map(len, read)) <= 3
