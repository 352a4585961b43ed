"""The index of shards, which is built once in constant memory and is always up to date."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shard_files import listed, made, only, rows

from gantrain.data.sets import shard_index as module
from gantrain.data.sets.shard_index import Member, shard_index
from gantrain.data.sets.tar_samples import Sample, Shard, samples

pytestmark = pytest.mark.usefixtures("shard_indices")


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards that were read."""
    seen: list[str] = []

    def counted(shard: Shard, ignore: Callable[[str], None]) -> Iterator[Sample]:
        seen.append(shard.path.name)
        return samples(shard, ignore)

    monkeypatch.setattr(module, "samples", counted)
    return seen


def test_it_has_the_position_of_every_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IMAGES_AT_ONCE", 100)
    shards = made(tmp_path, 150, 1, 0, 30)
    index = shard_index(shards)
    assert len(index) == 181
    wanted = []
    for number, shard in enumerate(shards):
        with tarfile.open(shard.path) as archive:
            for member in archive.getmembers():
                if member.name.endswith("png"):
                    place = Member(number, member.offset_data, member.size)
                    wanted.append((place, member.name, int(member.name[:6]) % 7))
    assert rows(index) == wanted
    assert index.unread == {}


def test_the_second_opening_reads_no_shard(tmp_path: Path, walks: list[str]) -> None:
    shards = made(tmp_path, 3, 2)
    one = shard_index(shards)
    other = shard_index(listed(tmp_path))
    assert walks == ["0.tar", "1.tar"]
    assert rows(one) == rows(other)
    assert one.digest == other.digest


def test_a_pickled_index_contains_no_names(tmp_path: Path) -> None:
    index = shard_index(made(tmp_path, 1000))
    packed = pickle.dumps(index)
    assert len(packed) < 500
    assert rows(pickle.loads(packed)) == rows(index)


@pytest.mark.parametrize("change", ["time", "content", "more", "fewer", "renamed", "order", "elsewhere"])
def test_changed_shards_get_a_new_index(tmp_path: Path, walks: list[str], change: str) -> None:
    shards = made(tmp_path / "in", 3, 2)
    old = rows(shard_index(shards))
    walks.clear()
    path = shards[1].path
    if change == "time":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    elif change == "content":
        times = {shard.path: shard.path.stat().st_mtime_ns for shard in shards}
        made(tmp_path / "in", 3, 20)
        for path, time in times.items():
            os.utime(path, ns=(0, time))  # a clock that stands still
    elif change == "more":
        made(tmp_path / "in", 3, 2, 1)
    elif change == "fewer":
        path.unlink()
    elif change == "renamed":
        path.rename(path.with_name("2.tar"))
    elif change == "elsewhere":
        (tmp_path / "in").rename(tmp_path / "out")
    there = listed(tmp_path / ("out" if change == "elsewhere" else "in"))
    there = there[::-1] if change == "order" else there
    index = shard_index(there)
    assert walks == [shard.path.name for shard in there]
    assert [row[1] for row in rows(index)] == [
        f"{number:06}.png"
        for count in {"content": (3, 20), "more": (3, 2, 1), "fewer": (3,), "order": (2, 3)}.get(change, (3, 2))
        for number in range(count)
    ]
    if change in ("time", "renamed", "elsewhere"):
        assert rows(index) == old
    assert rows(shard_index(there)) == rows(index)
    assert len(walks) == len(there)


def test_a_truncated_index_is_rebuilt(tmp_path: Path, shard_indices: Path, walks: list[str]) -> None:
    shards = made(tmp_path, 20)
    shard_index(shards)
    path = only(shard_indices)
    whole = path.read_bytes()
    for size in [0, 1, *range(8, len(whole), 61), len(whole) - 1]:
        path.write_bytes(whole[:size])
        walks.clear()
        assert len(shard_index(shards)) == 20
        assert walks == ["0.tar"]
        assert path.read_bytes() == whole
    path.write_bytes(whole + b"x")
    assert len(shard_index(shards)) == 20
    assert only(shard_indices).read_bytes() == whole


@pytest.mark.parametrize("place", [0, 8, 16, 24, 32])  # magic, version, and three lengths
def test_an_index_of_another_format_or_version_is_rebuilt(
    tmp_path: Path, shard_indices: Path, walks: list[str], place: int
) -> None:
    shards = made(tmp_path, 10)
    shard_index(shards)
    whole = only(shard_indices).read_bytes()
    changed = bytearray(whole)
    changed[place] ^= 1
    only(shard_indices).write_bytes(changed)
    assert len(shard_index(shards)) == 10
    assert len(walks) == 2
    assert only(shard_indices).read_bytes() == whole


def test_the_digest_is_of_names_labels_and_shards(tmp_path: Path) -> None:
    def digest(*shards: list[tuple[str, bytes]], place: int = 0) -> str:
        for number, members in enumerate(shards):
            path = tmp_path / f"{place}/{number}.tar"
            path.parent.mkdir(exist_ok=True)
            with tarfile.open(path, "w") as archive:
                for name, content in members:
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        return shard_index(listed(tmp_path / str(place))).digest

    a, b = ("a.png", b""), ("b.png", b"")
    same = digest([a, b]), digest([("a.png", b"other content"), b], place=1)
    assert same[0] == same[1]
    others = [
        digest([b, a], place=2),
        digest([a], [b], place=3),
        digest([a, ("a.cls", b"0"), b], place=4),
        digest([a, ("a.cls", b"1"), b], place=5),
        digest([a], place=6),
    ]
    assert len({same[0], *others}) == 6


def test_the_number_of_separately_counted_file_types_is_limited(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name in ("a.png", *(f"{number}.v{number}.png" for number in range(100)), "b.v1.png", "c.cls"):
            archive.addfile(tarfile.TarInfo(name))
    unread = shard_index(listed(tmp_path)).unread
    counted = {f".v{number}.png": 1 for number in range(module.MAX_KINDS)}
    assert unread == {**counted, ".v1.png": 2, "others": 100 - module.MAX_KINDS, ".cls": 1}
