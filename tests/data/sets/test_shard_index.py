"""The index of shards, which is built once in constant memory and is always up to date."""

from __future__ import annotations

import errno
import io
import os
import pickle
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing import get_context
from pathlib import Path

import pytest

from gantrain.data.sets import shard_index as module
from gantrain.data.sets.shard_index import Member, ShardIndex, shard_index
from gantrain.data.sets.tar_samples import Sample, Shard, samples
from gantrain.errors import ConfigError


def made(folder: Path, *counts: int, size: int = 3) -> list[Shard]:
    """Shards of so many samples each, of an image of ``size`` bytes with a label; no image can be decoded."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, count in enumerate(counts):
        with tarfile.open(folder / f"{number}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for sample in range(count):
                for kind, content in (("png", b"%d" % (sample % 10) * size), ("cls", b"%d" % (sample % 7))):
                    member = tarfile.TarInfo(f"{sample:06}.{kind}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return listed(folder)


def listed(folder: Path) -> list[Shard]:
    return [Shard.at(path) for path in sorted(folder.glob("*.tar"))]


def rows(index: ShardIndex) -> list[tuple[Member, str, int]]:
    return [(index[number], index.name(number), int(index.labels[number])) for number in range(len(index))]


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


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


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


# ---- building


def test_an_interrupted_build_leaves_nothing(
    tmp_path: Path, shard_indices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(shard: Shard, ignore: Callable[[str], None]) -> Iterator[Sample]:
        yield from samples(shard, ignore)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "IMAGES_AT_ONCE", 100)
    shards = made(tmp_path, 500, 3)
    with monkeypatch.context() as patch:
        patch.setattr(module, "samples", interrupted)
        with pytest.raises(KeyboardInterrupt):
            shard_index(shards)
    assert [*shard_indices.iterdir()] == []
    assert len(shard_index(shards)) == 503


def test_no_index_is_built_of_a_shard_that_changes_meanwhile(
    tmp_path: Path, shard_indices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(shard: Shard, ignore: Callable[[str], None]) -> Iterator[Sample]:
        yield from samples(shard, ignore)
        os.utime(shard.path, ns=(0, 0))

    shards = made(tmp_path, 3)
    monkeypatch.setattr(module, "samples", changing)
    with pytest.raises(ConfigError, match=rf"^data\.root: the shard {tmp_path}/0.tar was changed while it was read"):
        shard_index(shards)
    assert [*shard_indices.iterdir()] == []


def test_a_shard_that_was_deleted_meanwhile_is_named(tmp_path: Path) -> None:
    shards = made(tmp_path, 3, 2)
    shards[1].path.unlink()
    with pytest.raises(ConfigError, match=rf"^data\.root: can't read the shard {tmp_path}/1.tar: No such file or dir"):
        shard_index(shards)


@pytest.mark.parametrize("reason", [errno.EROFS, errno.ENOSPC])
def test_without_space_one_line_gives_the_remedy(
    tmp_path: Path, shard_indices: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(path: Path, kind: str) -> None:
        raise OSError(reason, os.strerror(reason), path)

    monkeypatch.setattr(module, "write_mapped_file", refuse)
    with pytest.raises(ConfigError) as error:
        shard_index(made(tmp_path, 3, 2))
    for part in (f"{tmp_path}/0.tar", f"{shard_indices}/", os.strerror(reason), "set GANTRAIN_CACHE to a folder with"):
        assert part in str(error.value)


def test_one_of_two_processes_builds_it_for_both(
    tmp_path: Path, shard_indices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = get_context("fork")
    waits, walked = processes.Event(), processes.Value("i", 0)
    file_lock = module.file_lock

    def observed(path: Path, message: str) -> AbstractContextManager[None]:
        return file_lock(path, message, wait=waits.set)

    def slow(shard: Shard, ignore: Callable[[str], None]) -> Iterator[Sample]:
        walked.value += 1
        assert waits.wait(60)
        return samples(shard, ignore)

    monkeypatch.setattr(module, "file_lock", observed)
    monkeypatch.setattr(module, "samples", slow)
    with processes.Pool(2) as pool:
        found = pool.map(names_in_shards, [made(tmp_path, 3)] * 2, chunksize=1)
    assert found == [["000000.png", "000001.png", "000002.png"]] * 2
    assert walked.value == 1
    assert only(shard_indices).suffix == ".index"


def names_in_shards(shards: list[Shard]) -> list[str]:
    return [name for _, name, _ in rows(shard_index(shards))]


def test_it_is_built_in_constant_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IMAGES_AT_ONCE", 100)
    shards = made(tmp_path, 2000, size=0)
    tracemalloc.start()
    try:
        shard_index(shards)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000  # of all members, 850,000


def test_a_flipped_bit_anywhere_changes_nothing_silently(tmp_path: Path, shard_indices: Path) -> None:
    shards = made(tmp_path / "shards", 30, 30)
    expected = rows(shard_index(shards))
    (path,) = shard_indices.glob("*.index")
    content, refused = path.read_bytes(), list[str]()
    for position in range(0, len(content), len(content) // 75):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            found = rows(shard_index(shards))
        except ConfigError as error:
            found, refused = expected, [*refused, str(error)]
        assert found == expected
    assert refused
    assert all(f"{path} is corrupt: delete it" in error for error in refused)
