"""An index of shards is built once, in constant memory, and is whole or absent."""

from __future__ import annotations

import errno
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing import get_context
from pathlib import Path

import pytest
from shard_files import made, only, rows

from gantrain.data.sets import shard_index as module
from gantrain.data.sets.shard_index import shard_index
from gantrain.data.sets.tar_samples import Sample, Shard, samples
from gantrain.errors import ConfigError

pytestmark = pytest.mark.usefixtures("shard_indices")


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
