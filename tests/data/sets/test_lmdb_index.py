"""Opening LMDB files from many processes, and the index of their keys, which is built once and always up to date."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from in_processes import build_index, read_part

from gantrain.data.sets import lmdb_index as module
from gantrain.data.sets.lmdb_index import Database, key_index, open_database
from gantrain.errors import ConfigError


def write(path: Path, values: dict[bytes, bytes]) -> Path:
    with lmdb.open(str(path), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    return path


def made(path: Path, count: int = 10_000) -> Path:
    return write(path, {b"%040x" % (number * 7919): b"%d" % number for number in range(count)})


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


# ---- the database


def test_a_file_is_opened_once_for_every_path(tmp_path: Path) -> None:
    made(tmp_path / "db", 3)
    (tmp_path / "link").symlink_to(tmp_path / "db")
    for folder, link in (("hard", os.link), ("soft", os.symlink)):  # LMDB would refuse to open these beside it
        (tmp_path / folder).mkdir()
        link(tmp_path / "db/data.mdb", tmp_path / folder / "data.mdb")
    one = open_database(tmp_path / "db")
    assert one.get(b"%040x" % 7919) == b"1"
    for path in (tmp_path / "link", Path("db"), Path("db/data.mdb"), Path("hard"), Path("soft")):
        assert open_database(path) is one


def test_two_folders_without_a_database_are_distinct(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    held = open_database(tmp_path / "one")
    assert open_database(tmp_path / "other") is not held
    with pytest.raises(ConfigError, match=r"/other is not an LMDB"):
        open_database(tmp_path / "other").state()


def test_a_corrupt_page_is_reported_in_one_line(tmp_path: Path) -> None:
    data = made(tmp_path / "db", 1000) / "data.mdb"
    pages = data.read_bytes()
    data.write_bytes(pages[:8192] + bytes(len(pages) - 8192))  # all but the two meta pages
    database = open_database(tmp_path / "db")
    for read in (lambda: database.get(b"%040x" % 0), lambda: [*database.keys()], lambda: key_index(database)):
        with pytest.raises(ConfigError, match=rf"^the LMDB {tmp_path}/db is corrupt \(.*MDB_CORRUPTED[^\n]*\)$"):
            read()
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_it_is_closed_when_it_is_deleted(tmp_path: Path) -> None:
    made(tmp_path / "db", 3)
    open_database(tmp_path / "db").state()
    with lmdb.open(str(tmp_path / "db"), readonly=True, lock=False):  # which would be refused
        pass


def test_nothing_is_written_into_a_database_that_is_read(tmp_path: Path) -> None:
    made(tmp_path / "db", 3)
    (tmp_path / "db/lock.mdb").unlink()
    before = (tmp_path / "db/data.mdb").stat()
    database = open_database(tmp_path / "db")
    assert [*database.keys()] == [b"%040x" % (number * 7919) for number in range(3)]
    assert [path.name for path in (tmp_path / "db").iterdir()] == ["data.mdb"]
    assert (tmp_path / "db/data.mdb").stat().st_mtime_ns == before.st_mtime_ns


def test_a_single_file_is_a_database_too(tmp_path: Path) -> None:
    made(tmp_path / "db", 3)
    (tmp_path / "db/data.mdb").rename(tmp_path / "alone.lmdb")
    database = open_database(tmp_path / "alone.lmdb")
    assert len(key_index(database)) == 3
    assert database.get(b"%040x" % 0) == b"0"


def test_a_pickled_database_is_a_path(tmp_path: Path) -> None:
    database = open_database(made(tmp_path / "db", 3))
    database.get(b"%040x" % 0)
    packed = pickle.dumps(database)
    assert len(packed) < 300
    assert pickle.loads(packed) is database


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_many_processes_read_at_once(tmp_path: Path, start: str) -> None:
    database = open_database(made(tmp_path / "db", 500))
    index = key_index(database)
    assert database.get(index[1]) == b"1"  # opened before they fork
    processes = multiprocessing.get_context(start)
    with processes.Pool(2) as pool:
        parts = pool.starmap(read_part, [(database, index, part) for part in range(2)])
    assert parts == [[b"%d" % number for number in range(part, 500, 2)] for part in range(2)]
    assert database.get(index[499]) == b"499"


def test_a_forked_process_opens_an_environment_of_its_own(tmp_path: Path) -> None:
    database = open_database(made(tmp_path / "db", 3))
    database.state()
    mine = id(database._environment)
    child = os.fork()
    if not child:
        before = database._environment
        good = database.get(b"%040x" % 7919) == b"1" and database._environment is not before
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert id(database._environment) == mine
    assert database.get(b"%040x" % 7919) == b"1"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "there is no LMDB {path}"),
        (Path.mkdir, "{path} is not an LMDB (no data.mdb, or an empty one)"),
        (lambda path: path.touch(), "{path} is not an LMDB (no data.mdb, or an empty one)"),
        (lambda path: path.write_bytes(b"hello" * 9999), "{path} is not an LMDB, or it is corrupt (MDB_INV"),
        (lambda path: write(path, {}), "the LMDB {path} is empty"),
    ],
)
def test_what_is_not_a_database_is_refused(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    make(tmp_path / "db")
    with pytest.raises(ConfigError) as error:
        key_index(open_database(tmp_path / "db"))
    assert str(error.value).startswith(reason.format(path=tmp_path / "db"))
    assert "\n" not in str(error.value)


def test_a_truncated_database_does_not_kill_the_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from gantrain.data.sets.lmdb_index import key_index, open_database\n"
        "try: key_index(open_database(Path(sys.argv[1])))\n"
        "except Exception as error: print(error)"
    )
    data = made(tmp_path / "db", 2000) / "data.mdb"
    whole = data.stat().st_size
    os.truncate(data, whole // 2)
    result = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "db"], capture_output=True, text=True, check=False
    )
    assert result.returncode != -signal.SIGBUS
    assert result.stdout == f"the LMDB {tmp_path / 'db'} is truncated: it has {whole // 2:,} of {whole:,} bytes\n"


# ---- the index


def test_the_index_holds_every_key_in_its_order(tmp_path: Path) -> None:
    database = open_database(made(tmp_path / "db"))
    index = key_index(database)
    assert len(index) == 10_000
    assert [index[number] for number in range(10_000)] == [b"%040x" % (number * 7919) for number in range(10_000)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "db.keys"]


def test_keys_of_any_length_are_indexed(tmp_path: Path) -> None:
    keys = sorted({bytes([65 + number % 26]) * length for number, length in enumerate([1, 2, 3, 8, 100, 511])})
    index = key_index(open_database(write(tmp_path / "db", dict.fromkeys(keys, b"x"))))
    assert [index[number] for number in range(len(index))] == keys


def test_the_second_opening_reads_no_keys(tmp_path: Path, walks: list[Path]) -> None:
    one = key_index(open_database(made(tmp_path / "db")))
    assert walks == [tmp_path / "db"]
    other = key_index(open_database(tmp_path / "db"))
    assert len(walks) == 1
    assert one.digest == other.digest
    assert [one[5], one[9_999]] == [other[5], other[9_999]]


def test_a_pickled_index_holds_no_keys(tmp_path: Path) -> None:
    index = key_index(open_database(made(tmp_path / "db")))
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
    with pytest.raises(ConfigError) as error:
        database.get(key_index(database)[1])
    for part in (f"{tmp_path}/db has no key secand", "delete db.keys", f"db-*.keys in {tmp_path}/cache"):
        assert part in str(error.value)


def test_other_keys_have_another_digest(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, {key: b"x"}) for name, key in (("a", b"1"), ("b", b"2"), ("c", b"1"))]
    digests = [key_index(open_database(path)).digest for path in paths]
    assert digests[0] == digests[2] != digests[1]
    assert len(digests[0]) == 16


@pytest.mark.parametrize("change", ["key", "value", "time", "replaced"])
def test_a_changed_database_gets_a_new_index(tmp_path: Path, walks: list[Path], change: str) -> None:
    made(tmp_path / "db", 100)
    key_index(open_database(tmp_path / "db"))
    data = tmp_path / "db/data.mdb"
    stat = data.stat()
    if change == "key":
        write(tmp_path / "db", {b"zzz": b"new"})
        os.utime(data, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a clock that stands still
    elif change == "value":  # in the same room
        write(tmp_path / "db", {b"%040x" % 0: b"9"})
        os.utime(data, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "time":
        os.utime(data, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    else:
        write(tmp_path / "new", {b"another": b"x"})
        shutil.rmtree(tmp_path / "db")
        (tmp_path / "new").rename(tmp_path / "db")
    index = key_index(open_database(tmp_path / "db"))
    assert len(walks) == 2
    last = {"key": b"zzz", "replaced": b"another"}.get(change, b"%040x" % (99 * 7919))
    assert index[len(index) - 1] == last
    key_index(open_database(tmp_path / "db"))
    assert len(walks) == 2


def test_a_database_replaced_while_it_is_open_is_read_anew(tmp_path: Path) -> None:
    database = open_database(write(tmp_path / "db", {b"old": b"1"}))
    assert database.get(b"old") == b"1"
    write(tmp_path / "new", {b"new": b"2"})
    shutil.rmtree(tmp_path / "db")
    (tmp_path / "new").rename(tmp_path / "db")
    again = open_database(tmp_path / "db")
    assert [*again.keys()] == [b"new"]
    assert again.get(b"new") == b"2"
    assert database.get(b"old") == b"1"  # The keys of the old one are still valid for it.


@pytest.mark.parametrize("part", [0, 10, 80, 5000, -1])
def test_a_truncated_index_is_rebuilt(tmp_path: Path, walks: list[Path], part: int) -> None:
    key_index(open_database(made(tmp_path / "db", 1000)))
    whole = (tmp_path / "db.keys").read_bytes()
    (tmp_path / "db.keys").write_bytes(whole[:part])
    assert key_index(open_database(tmp_path / "db"))[999] == b"%040x" % (999 * 7919)
    assert len(walks) == 2
    assert (tmp_path / "db.keys").read_bytes() == whole


@pytest.mark.parametrize("place", [0, 8])
def test_an_index_of_another_format_or_version_is_rebuilt(tmp_path: Path, walks: list[Path], place: int) -> None:
    key_index(open_database(made(tmp_path / "db", 10)))
    whole = bytearray((tmp_path / "db.keys").read_bytes())
    changed = whole.copy()
    changed[place] ^= 1
    (tmp_path / "db.keys").write_bytes(changed)
    assert len(key_index(open_database(tmp_path / "db"))) == 10
    assert len(walks) == 2
    assert (tmp_path / "db.keys").read_bytes() == whole


def test_an_interrupted_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "db", 10)

    def keys(self: Database):
        yield b"first"
        raise KeyboardInterrupt

    monkeypatch.setattr(Database, "keys", keys)
    with pytest.raises(KeyboardInterrupt):
        key_index(open_database(tmp_path / "db"))
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_no_index_is_built_if_keys_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "db", 10)
    monkeypatch.setattr(Database, "keys", lambda self: iter([b"1", b"2"]))
    with pytest.raises(ConfigError, match=r"is corrupt, or is being changed: 2 keys were found"):
        key_index(open_database(tmp_path / "db"))
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


# ---- its location


def unwritable(folder: Path, monkeypatch: pytest.MonkeyPatch, reason: int = 30) -> None:
    """Nothing can be written into a folder (for root, permissions are none)."""
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
    made(shared / "db", 10)
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


def test_two_databases_of_one_name_share_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANTRAIN_CACHE", str(tmp_path / "cache"))
    for part, count in (("a", 3), ("b", 5)):
        (tmp_path / part).mkdir()
        made(tmp_path / part / "db", count)
        unwritable(tmp_path / part, monkeypatch)
        assert len(key_index(open_database(tmp_path / part / "db"))) == count
    assert len([*(tmp_path / "cache").iterdir()]) == 2


def test_without_space_one_line_gives_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "db", 3)
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("GANTRAIN_CACHE", str(tmp_path / "cache"))
    for folder in (tmp_path, tmp_path / "cache"):
        unwritable(folder, monkeypatch, reason=28)
    with pytest.raises(ConfigError, match=r"\(No space left on device\): set GANTRAIN_CACHE to a folder with"):
        key_index(open_database(tmp_path / "db"))


# ---- several at once


def test_processes_that_build_at_once_all_get_a_whole_index(tmp_path: Path) -> None:
    made(tmp_path / "db", 30_000)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(build_index, [tmp_path / "db"] * 2)
    assert found == [(30_000, b"%040x" % (29_999 * 7919))] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "db.keys"]
