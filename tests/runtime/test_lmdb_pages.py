"""Damaged LMDB files are reported in one line; the library would end the process."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lmdb_files import classes, fill, write

from gantrain.cli.main import main
from gantrain.data.sets.lmdb_index import key_index, open_database
from gantrain.data.tools.lmdb_convert import fill as resume
from gantrain.errors import ConfigError
from gantrain.runtime.lmdb_pages import BRANCH, LEAF, PAGE, read_header

SIZE = 4096
COUNT = 330  # The fewest keys, about, of a tree of three levels.


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database with a tree of three levels, and values inside and outside of its leaves."""
    sizes = np.random.default_rng(0)
    values = {
        b"%0200x" % (n * 7919): sizes.bytes(int(sizes.integers(10, 9000 if n % 7 == 0 else 900))) for n in range(COUNT)
    }
    content = (write(tmp_path_factory.mktemp("db") / "whole", values) / "data.mdb").read_bytes()
    kinds = [PAGE.unpack_from(content, start)[2] for start in range(0, len(content), SIZE)]
    assert kinds.count(BRANCH) > 2
    return content


def in_tree(content: bytes) -> list[int]:
    starts = range(2 * SIZE, len(content), SIZE)
    return [start for start in starts if PAGE.unpack_from(content, start)[2] in (BRANCH, LEAF)]


def with_page(content: bytes, start: int, page: bytes) -> bytes:
    return content[:start] + page + content[start + len(page) :]


def damaged(content: bytes, kind: str) -> Iterator[bytes]:
    chance = random.Random(kind)
    if kind == "cut":
        yield from (content[:length] for length in (1, 20, 152, SIZE, SIZE + 20, 2 * SIZE, len(content) // 2, -1))
    elif kind in ("zeros", "ones", "noise"):
        for start in [0, SIZE, *in_tree(content)]:
            page = {"zeros": bytes(SIZE), "ones": b"\xff" * SIZE, "noise": chance.randbytes(SIZE)}[kind]
            yield with_page(content, start, page)
    elif kind == "a bit":
        for start in [0, SIZE, *in_tree(content)]:
            for _ in range(4):
                place = start + chance.randrange(150)
                yield with_page(content, place, bytes([content[place] ^ 1 << chance.randrange(8)]))
    else:
        yield from (with_page(content, start, content[2 * SIZE : 3 * SIZE]) for start in in_tree(content))


def read_all(contents: list[bytes], folder: Path) -> None:
    """Read every database, and write a line for each to a file."""
    with (folder / "log").open("w") as log:
        for number, content in enumerate(contents):
            path = folder / f"db{number}"
            path.mkdir()
            (path / "data.mdb").write_bytes(content)
            try:
                database = open_database(path)
                database.state()
                line = f"read {len([database.get(key) for key in [*database.keys()]])}"
            except ConfigError as error:
                line = str(error)
            print(line, file=log, flush=True)


@pytest.mark.parametrize("kind", ["cut", "zeros", "ones", "noise", "a bit", "another page"])
def test_no_damage_ends_the_process(whole: bytes, kind: str, tmp_path: Path) -> None:
    contents = list(damaged(whole, kind))
    child = multiprocessing.get_context("fork").Process(target=read_all, args=(contents, tmp_path))
    child.start()
    child.join()
    lines = (tmp_path / "log").read_text().split("\n")[:-1]
    assert child.exitcode == 0, f"{kind}: died of {child.exitcode} after {lines[-1:]}"
    assert len(lines) == len(contents)
    damage = r"is truncated: .*copy it again|is corrupt \(.*\): .* again|it is corrupt \(.*\)|an empty one\)|is empty"
    for number, line in enumerate(lines):  # Of the two headers, one is older: its damage does no harm.
        assert line == f"read {COUNT}" or re.search(rf"{tmp_path}/db{number}\b.* ({damage})$", line), line


def test_whole_databases_are_read(whole: bytes, tmp_path: Path) -> None:
    read_all([whole], tmp_path)
    assert (tmp_path / "log").read_text() == f"read {COUNT}\n"
    (tmp_path / "data.mdb").write_bytes(whole)
    with (tmp_path / "data.mdb").open("rb") as file:
        header = read_header(file.fileno())
    assert (header.page_size, header.entries, header.size) == (SIZE, COUNT, len(whole))
    assert header.depth >= 3


@pytest.mark.parametrize("command", ["data check data=lsun", "train data=lsun trainer.steps=1", "data export db out"])
def test_commands_report_a_damaged_database(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("folder"), classes(40))
    assert main(["data", "lmdb", "folder", "db"]) == 0
    data = Path("db/data.mdb")
    content = data.read_bytes()
    data.write_bytes(with_page(content, next(s for s in in_tree(content) if content[s + 10] == LEAF), bytes(SIZE)))
    words = command.split()
    capsys.readouterr()
    assert main([*words, *(["data.root=db"] if "data=lsun" in words else [])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gantrain: the LMDB ")
    assert "/db is corrupt" in line
    assert line.endswith("copy, download or write it again")


def test_writing_does_not_resume_in_a_damaged_database(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db/data.mdb").write_bytes(with_page(whole, in_tree(whole)[0], bytes(SIZE)))
    (tmp_path / "1.png").write_bytes(b"new")
    with pytest.raises(ConfigError, match=r"/db is corrupt .*write it again"):
        resume(tmp_path / "db", {b"1": tmp_path / "1.png"}, label="")


def test_a_database_cut_while_it_is_open_is_reported(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(whole)
    database = open_database(tmp_path)
    index = key_index(database)
    database.get(index[0])
    os.truncate(tmp_path / "data.mdb", 3 * SIZE)
    with pytest.raises(ConfigError, match=r"is truncated: .*copy it again"):
        database.get(index[COUNT - 1])
