"""The index of the keys of an LMDB is built once, and again if the database has changed."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from pathlib import Path

import pytest
from in_processes import build_index
from lmdb_files import key_of, numbered, write

from gantrain.data.sets import lmdb_index as module
from gantrain.data.sets.lmdb_index import Database, key_index, open_database
from gantrain.errors import ConfigError


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The databases whose keys were read."""
    seen: list[Path] = []
    keys = Database.keys

    def counted(self: Database):
        seen.append(self.path)
        return keys(self)

    monkeypatch.setattr(Database, "keys", counted)
    return seen


def test_the_index_contains_every_key_in_order(tmp_path: Path) -> None:
    database = open_database(numbered(tmp_path / "db"))
    index = key_index(database)
    assert len(index) == 10_000
    assert [index[number] for number in range(10_000)] == [key_of(number) for number in range(10_000)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "db.keys"]


def test_keys_of_any_length_are_indexed(tmp_path: Path) -> None:
    keys = sorted({bytes([65 + number % 26]) * length for number, length in enumerate([1, 2, 3, 8, 100, 511])})
    index = key_index(open_database(write(tmp_path / "db", dict.fromkeys(keys, b"x"))))
    assert [index[number] for number in range(len(index))] == keys


def test_the_index_is_reused(tmp_path: Path, walks: list[Path]) -> None:
    one = key_index(open_database(numbered(tmp_path / "db")))
    assert walks == [tmp_path / "db"]
    other = key_index(open_database(tmp_path / "db"))
    assert len(walks) == 1
    assert one.digest == other.digest
    assert [one[5], one[9_999]] == [other[5], other[9_999]]


def test_a_pickled_index_contains_no_keys(tmp_path: Path) -> None:
    index = key_index(open_database(numbered(tmp_path / "db")))
    packed = pickle.dumps(index)
    assert len(packed) < 500
    assert pickle.loads(packed)[9_999] == index[9_999]


def test_a_corrupt_key_in_the_index_is_reported_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANTRAIN_CACHE", str(tmp_path / "cache"))
    database = open_database(write(tmp_path / "db", {b"first": b"1", b"second": b"2"}))
    key_index(database)
    path = tmp_path / "db.keys"
    path.write_bytes(path.read_bytes().replace(b"second", b"secand"))
    with pytest.raises(ConfigError, match=f"{path} is corrupt: delete it"):
        database.get(key_index(database)[1])


def test_the_digest_depends_on_the_keys(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, {key: b"x"}) for name, key in (("a", b"1"), ("b", b"2"), ("c", b"1"))]
    digests = [key_index(open_database(path)).digest for path in paths]
    assert digests[0] == digests[2] != digests[1]
    assert len(digests[0]) == 16


@pytest.mark.parametrize("change", ["key", "value", "time", "replaced"])
def test_a_changed_database_gets_a_new_index(tmp_path: Path, walks: list[Path], change: str) -> None:
    numbered(tmp_path / "db", 100)
    key_index(open_database(tmp_path / "db"))
    data = tmp_path / "db/data.mdb"
    stat = data.stat()
    if change == "key":
        write(tmp_path / "db", {b"zzz": b"new"})
        os.utime(data, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # The time alone would not show it.
    elif change == "value":  # The size stays the same.
        write(tmp_path / "db", {key_of(0): b"9"})
        os.utime(data, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "time":
        os.utime(data, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    else:
        write(tmp_path / "new", {b"another": b"x"})
        shutil.rmtree(tmp_path / "db")
        (tmp_path / "new").rename(tmp_path / "db")
    index = key_index(open_database(tmp_path / "db"))
    assert len(walks) == 2
    last = {"key": b"zzz", "replaced": b"another"}.get(change, key_of(99))
    assert index[len(index) - 1] == last
    key_index(open_database(tmp_path / "db"))
    assert len(walks) == 2


def test_a_database_replaced_while_open_is_opened_again(tmp_path: Path) -> None:
    database = open_database(write(tmp_path / "db", {b"old": b"1"}))
    assert database.get(b"old") == b"1"
    write(tmp_path / "new", {b"new": b"2"})
    shutil.rmtree(tmp_path / "db")
    (tmp_path / "new").rename(tmp_path / "db")
    again = open_database(tmp_path / "db")
    assert [*again.keys()] == [b"new"]
    assert again.get(b"new") == b"2"
    assert database.get(b"old") == b"1"  # The old file is still open.


@pytest.mark.parametrize("part", [0, 10, 80, 5000, -1])
def test_a_truncated_index_is_rebuilt(tmp_path: Path, walks: list[Path], part: int) -> None:
    key_index(open_database(numbered(tmp_path / "db", 1000)))
    whole = (tmp_path / "db.keys").read_bytes()
    (tmp_path / "db.keys").write_bytes(whole[:part])
    assert key_index(open_database(tmp_path / "db"))[999] == key_of(999)
    assert len(walks) == 2
    assert (tmp_path / "db.keys").read_bytes() == whole


@pytest.mark.parametrize("place", [0, 8])
def test_an_index_of_another_format_or_version_is_rebuilt(tmp_path: Path, walks: list[Path], place: int) -> None:
    key_index(open_database(numbered(tmp_path / "db", 10)))
    whole = bytearray((tmp_path / "db.keys").read_bytes())
    changed = whole.copy()
    changed[place] ^= 1
    (tmp_path / "db.keys").write_bytes(changed)
    assert len(key_index(open_database(tmp_path / "db"))) == 10
    assert len(walks) == 2
    assert (tmp_path / "db.keys").read_bytes() == whole


def test_an_interrupted_build_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered(tmp_path / "db", 10)

    def keys(self: Database):
        yield b"first"
        raise KeyboardInterrupt

    monkeypatch.setattr(Database, "keys", keys)
    with pytest.raises(KeyboardInterrupt):
        key_index(open_database(tmp_path / "db"))
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_no_index_is_built_if_keys_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered(tmp_path / "db", 10)
    monkeypatch.setattr(Database, "keys", lambda self: iter([b"1", b"2"]))
    with pytest.raises(ConfigError, match=r"is corrupt, or is being changed: 2 keys were found"):
        key_index(open_database(tmp_path / "db"))
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def unwritable(folder: Path, monkeypatch: pytest.MonkeyPatch, reason: int = 30) -> None:
    """Make writing into a folder fail, for root too."""
    write_mapped_file = module.write_mapped_file

    def refuse(path: Path, kind: str):
        if path.parent == folder:
            raise OSError(reason, os.strerror(reason), path)
        return write_mapped_file(path, kind)

    monkeypatch.setattr(module, "write_mapped_file", refuse)


@pytest.mark.parametrize("given", [True, False])
def test_the_index_of_a_read_only_database_is_in_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, walks: list[Path], given: bool
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    numbered(shared / "db", 10)
    unwritable(shared, monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GANTRAIN_CACHE", raising=False)
    if given:
        monkeypatch.setenv("GANTRAIN_CACHE", str(tmp_path / "given"))
    for _ in range(2):
        assert len(key_index(open_database(shared / "db"))) == 10
    assert len(walks) == 1
    assert [path.name for path in shared.iterdir()] == ["db"]
    folder = tmp_path / "given" if given else tmp_path / "home/.cache/gantrain"
    assert [path.name[:3] for path in folder.iterdir()] == ["db-"]


def test_databases_of_equal_names_have_separate_indices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANTRAIN_CACHE", str(tmp_path / "cache"))
    for part, count in (("a", 3), ("b", 5)):
        (tmp_path / part).mkdir()
        numbered(tmp_path / part / "db", count)
        unwritable(tmp_path / part, monkeypatch)
        assert len(key_index(open_database(tmp_path / part / "db"))) == count
    assert len([*(tmp_path / "cache").iterdir()]) == 2


def test_a_full_disk_is_reported_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered(tmp_path / "db", 3)
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("GANTRAIN_CACHE", str(tmp_path / "cache"))
    for folder in (tmp_path, tmp_path / "cache"):
        unwritable(folder, monkeypatch, reason=28)
    with pytest.raises(ConfigError, match=r"\(No space left on device\): set GANTRAIN_CACHE to a folder with"):
        key_index(open_database(tmp_path / "db"))


@pytest.mark.usefixtures("warm_python")
def test_processes_that_build_the_index_at_once_all_get_it(tmp_path: Path) -> None:
    count = 30_000
    numbered(tmp_path / "db", count)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(build_index, [tmp_path / "db"] * 2)
    assert found == [(count, key_of(count - 1))] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "db.keys"]
