"""Logs of JSON lines: cut back, and caught up on after what could not be written."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gantrain.report import lines as module
from gantrain.report.lines import Lines
from gantrain.runtime.atomic import write_file

LOG = Path("log.jsonl")


def line(step: int) -> dict[str, float]:
    return {"step": step, "loss": step / 2}


def text(*steps: int) -> str:
    return "".join(json.dumps(line(step)) + "\n" for step in steps)


@pytest.fixture
def full(monkeypatch) -> Callable[[bool], None]:
    """Says whether the disk is full: then half of what is written comes there, as it may."""
    state = {"full": False}
    opened = Path.open

    class Half:
        def __init__(self, file) -> None:
            self.file = file

        def tell(self) -> int:
            return self.file.tell()

        def write(self, words: bytes) -> None:
            self.file.write(words[: len(words) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        def __enter__(self) -> Half:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

    def open_(self: Path, mode: str = "r", *arguments, **options):
        file = opened(self, mode, *arguments, **options)
        return Half(file) if state["full"] and mode != "r" else file

    monkeypatch.setattr(Path, "open", open_)

    def write_text(self: Path, words: str, encoding: str, errors: str) -> None:
        with self.open("w", encoding=encoding, errors=errors) as file:
            file.write(words)

    monkeypatch.setattr(Path, "write_text", write_text)
    return lambda now: state.update(full=now)


def added(log: Lines, *steps: int) -> Lines:
    for step in steps:
        log.add(line(step))
    return log


def test_every_line_is_there_at_once() -> None:
    log = Lines(LOG)
    for step in (1, 2, 5):
        log.add(line(step))
        assert LOG.read_text() == text(*[there for there in (1, 2, 5) if there <= step])


def test_going_back_drops_the_lines_after_a_step() -> None:
    LOG.write_text(text(1, 2, 2, 5, 7))
    log = Lines(LOG)
    log.go_back_to(4)
    assert log.all == [line(1), line(2), line(2)]
    assert LOG.read_text() == text(1, 2, 2)
    assert added(log, 6).all[-1] == line(6)
    assert LOG.read_text() == text(1, 2, 2, 6)
    log.go_back_to(2)  # again, in the same run
    assert LOG.read_text() == text(1, 2, 2)


def test_going_back_where_there_is_nothing_makes_nothing() -> None:
    log = Lines(LOG)
    log.go_back_to(0)
    assert log.all == []
    assert not LOG.exists()


@pytest.mark.parametrize(
    "end",
    [
        b'{"step": 3, "lo',
        b"\x00" * 100,
        b"\xff\xfe\xfa",
        b"3",
        b"[1]",
        b"null",
        b'{"loss": 3}',
        b'{"step": "3"}',
        b'{"step": 3, "loss": [1]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_line_of_a_log_ends_it(end: bytes) -> None:
    LOG.write_bytes(text(1, 2).encode() + end + b"\n" + text(4).encode())
    log = Lines(LOG)
    log.go_back_to(9)
    assert log.all == [line(1), line(2)]
    assert LOG.read_text() == text(1, 2)


def test_what_could_not_be_written_comes_with_the_next_line(full) -> None:
    log = added(Lines(LOG), 1, 2)
    full(True)
    for step in (3, 4):
        with pytest.raises(OSError, match="No space left"):
            log.add(line(step))
    assert LOG.read_text().startswith(text(1, 2))
    full(False)
    log.add(line(5))
    assert LOG.read_text() == text(1, 2, 3, 4, 5)
    log.add(line(6))
    assert LOG.read_text() == text(1, 2, 3, 4, 5, 6)
    assert list(Path().iterdir()) == [LOG]


def test_what_could_not_be_written_comes_without_another_line_too(full) -> None:
    log = added(Lines(LOG), 1)
    full(True)
    with pytest.raises(OSError, match="No space left"):
        log.add(line(2))
    full(False)
    log.catch_up()
    assert LOG.read_text() == text(1, 2)


def test_nothing_is_written_again_without_need(monkeypatch) -> None:
    log = added(Lines(LOG), 1)
    monkeypatch.setattr(module, "write_file", lambda *_: pytest.fail("written again"))
    log.catch_up()
    log.add(line(2))


def test_going_back_keeps_the_lines_that_were_not_written_yet(full) -> None:
    log = added(Lines(LOG), 1)
    full(True)
    for step in (2, 3):
        with pytest.raises(OSError, match="No space left"):
            log.add(line(step))
    with pytest.raises(OSError, match="No space left"):
        log.go_back_to(2)
    assert LOG.read_text().startswith(text(1))  # the old one stays until the new one is whole
    full(False)
    log.add(line(4))
    assert LOG.read_text() == text(1, 2, 4)


def test_a_log_that_is_deleted_comes_again() -> None:
    log = added(Lines(LOG), 1, 2, 3)
    LOG.unlink()
    log.go_back_to(2)
    assert LOG.read_text() == text(1, 2)


@pytest.mark.parametrize("change", [LOG.unlink, lambda: LOG.write_text(text(1)), lambda: LOG.write_text(text(7, 8, 9))])
def test_one_that_was_deleted_or_changed_meanwhile_is_whole_after_the_next_line(change) -> None:
    log = added(Lines(LOG), 1, 2)
    change()
    added(log, 3, 4)
    assert LOG.read_text() == text(1, 2, 3, 4)


def test_a_text_is_replaced_whole_or_not_at_all(full) -> None:
    page = Path("page.html")
    write_file(page, "old")
    full(True)
    with pytest.raises(OSError, match="No space left"):
        write_file(page, "new and long")
    assert page.read_text() == "old"
    assert list(Path().iterdir()) == [page]  # what was written in vain takes no room
    full(False)
    write_file(page, "of no text: \udcff")
    assert page.read_text() == "of no text: ?"
