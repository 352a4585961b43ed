"""LMDB files are opened once per process, read by many processes, and never written to."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from in_processes import read_part
from lmdb_files import key_of, numbered, write
from warm import Warm

from gantrain.data.sets.lmdb_index import key_index, open_database
from gantrain.errors import ConfigError


def test_different_paths_to_a_file_open_it_once(tmp_path: Path) -> None:
    numbered(tmp_path / "db", 3)
    (tmp_path / "link").symlink_to(tmp_path / "db")
    for folder, link in (("hard", os.link), ("soft", os.symlink)):  # LMDB itself would refuse to open these too.
        (tmp_path / folder).mkdir()
        link(tmp_path / "db/data.mdb", tmp_path / folder / "data.mdb")
    one = open_database(tmp_path / "db")
    assert one.get(key_of(1)) == b"1"
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
    data = numbered(tmp_path / "db", 1000) / "data.mdb"
    pages = data.read_bytes()
    data.write_bytes(pages[:8192] + bytes(len(pages) - 8192))  # Only the two meta pages remain.
    database = open_database(tmp_path / "db")
    for read in (lambda: database.get(key_of(0)), lambda: [*database.keys()], lambda: key_index(database)):
        with pytest.raises(
            ConfigError, match=rf"^the LMDB {tmp_path}/db is corrupt \([^\n]*\): copy, download or write it again$"
        ):
            read()
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_a_database_is_closed_with_its_last_reference(tmp_path: Path) -> None:
    numbered(tmp_path / "db", 3)
    open_database(tmp_path / "db").state()
    with lmdb.open(str(tmp_path / "db"), readonly=True, lock=False):  # LMDB refuses an open file.
        pass


def test_nothing_is_written_into_a_database_that_is_read(tmp_path: Path) -> None:
    numbered(tmp_path / "db", 3)
    (tmp_path / "db/lock.mdb").unlink()
    before = (tmp_path / "db/data.mdb").stat()
    database = open_database(tmp_path / "db")
    assert [*database.keys()] == [key_of(number) for number in range(3)]
    assert [path.name for path in (tmp_path / "db").iterdir()] == ["data.mdb"]
    assert (tmp_path / "db/data.mdb").stat().st_mtime_ns == before.st_mtime_ns


def test_a_single_file_is_a_database_too(tmp_path: Path) -> None:
    numbered(tmp_path / "db", 3)
    (tmp_path / "db/data.mdb").rename(tmp_path / "alone.lmdb")
    database = open_database(tmp_path / "alone.lmdb")
    assert len(key_index(database)) == 3
    assert database.get(key_of(0)) == b"0"


def test_a_pickled_database_is_a_path(tmp_path: Path) -> None:
    database = open_database(numbered(tmp_path / "db", 3))
    database.get(key_of(0))
    packed = pickle.dumps(database)
    assert len(packed) < 300
    assert pickle.loads(packed) is database


@pytest.mark.usefixtures("warm_python")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_many_processes_read_at_once(tmp_path: Path, start: str) -> None:
    database = open_database(numbered(tmp_path / "db", 500))
    index = key_index(database)
    assert database.get(index[1]) == b"1"  # It is open before the processes start.
    processes = multiprocessing.get_context(start)
    with processes.Pool(2) as pool:
        parts = pool.starmap(read_part, [(database, index, part) for part in range(2)])
    assert parts == [[b"%d" % number for number in range(part, 500, 2)] for part in range(2)]
    assert database.get(index[499]) == b"499"


def test_a_forked_process_opens_an_environment_of_its_own(tmp_path: Path) -> None:
    database = open_database(numbered(tmp_path / "db", 3))
    database.state()
    mine = id(database._environment)
    child = os.fork()
    if not child:
        before = database._environment
        good = database.get(key_of(1)) == b"1" and database._environment is not before
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert id(database._environment) == mine
    assert database.get(key_of(1)) == b"1"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, r"no LMDB {path}$"),
        (Path.mkdir, r"{path} is not an LMDB \(no data\.mdb"),
        (lambda path: path.touch(), r"{path} is not an LMDB \(no data\.mdb"),
        (lambda path: path.write_bytes(b"hello" * 9999), r"{path} is not an LMDB.* corrupt \(it has no header"),
        (lambda path: write(path, {}), r"{path} is empty$"),
    ],
)
def test_paths_without_a_valid_database_are_refused(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    make(tmp_path / "db")
    with pytest.raises(ConfigError) as error:
        key_index(open_database(tmp_path / "db"))
    assert re.search(reason.format(path=tmp_path / "db"), str(error.value))
    assert "\n" not in str(error.value)


def test_a_truncated_database_does_not_kill_the_process(tmp_path: Path, warm: Warm) -> None:
    script = (
        "import sys; from pathlib import Path; from gantrain.data.sets.lmdb_index import key_index, open_database\n"
        "try: key_index(open_database(Path(sys.argv[1])))\n"
        "except Exception as error: print(error)"
    )
    data = numbered(tmp_path / "db", 2000) / "data.mdb"
    whole = data.stat().st_size
    os.truncate(data, whole // 2)
    result = warm.run(["-c", script, str(tmp_path / "db")])
    assert result.returncode == 0
    for part in (f"{tmp_path / 'db'} is truncated", f"{whole // 2:,} of {whole:,} bytes"):
        assert part in result.stdout
