"""Logs of lines in growing files: truncated, and completed after a failed write."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gantrain.report import log as module
from gantrain.report.log import AppendLog, JsonlLog, read_lines
from gantrain.runtime.atomic import write_file

LOG = Path("log.jsonl")


def line(step: int) -> dict[str, float]:
    return {"step": step, "loss": step / 2}


def text(*steps: int) -> str:
    return "".join(json.dumps(line(step)) + "\n" for step in steps)


@pytest.fixture
def full(monkeypatch) -> Callable[[bool], None]:
    """Sets whether the disk is full; then only half of each write succeeds."""
    state = {"full": False}
    opened = Path.open

    class Half:
        def __init__(self, file) -> None:
            self.file = file

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

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


def added(log: JsonlLog, *steps: int) -> JsonlLog:
    for step in steps:
        log.add(line(step))
    return log


def test_every_line_is_written_at_once() -> None:
    log = JsonlLog(LOG)
    for step in (1, 2, 5):
        log.add(line(step))
        assert LOG.read_text() == text(*[there for there in (1, 2, 5) if there <= step])


def test_truncating_drops_the_lines_after_a_step() -> None:
    LOG.write_text(text(1, 2, 2, 5, 7))
    log = JsonlLog(LOG)
    log.truncate(4)
    assert log.records == [line(1), line(2), line(2)]
    assert LOG.read_text() == text(1, 2, 2)
    assert added(log, 6).records[-1] == line(6)
    assert LOG.read_text() == text(1, 2, 2, 6)
    log.truncate(2)  # Again, in the same run.
    assert LOG.read_text() == text(1, 2, 2)


def test_a_log_that_needs_no_change_is_read_and_not_written_again(monkeypatch) -> None:
    LOG.write_text(text(1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_file", lambda *_: pytest.fail("written again"))
        log = JsonlLog(LOG)
        log.truncate(2)
        again = AppendLog(Path("copy*.js"), json.dumps)
        Path("copy0.js").write_text(text(1, 2))
        again.replace(log.records)
    names = [list(record) for record in log.records]
    assert all(first is second for first, second in zip(*names, strict=True))  # 100,000 lines have few names.
    assert added(log, 3).records[-1] == line(3)
    assert LOG.read_text() == text(1, 2, 3)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_nothing_is_appended_to_a_link_out_of_the_run_folder(link: Callable[[str, Path], None]) -> None:
    Path("private").write_text(text(1, 2))
    link("private", LOG)
    log = JsonlLog(LOG)
    log.truncate(2)
    added(log, 3)
    assert LOG.read_text() == text(1, 2, 3)
    assert Path("private").read_text() == text(1, 2)


def test_truncating_without_a_file_creates_none() -> None:
    log = JsonlLog(LOG)
    log.truncate(0)
    assert log.records == []
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
        b"",
        b'{"step": "3"}',
        b'{"step": -3}',
        b'{"step": 1e999}',
        b'{"step": 3, "loss": true}',
        b'{"step": 3, "loss": 1' + b"0" * 400 + b"}",
        b" " * (2 << 20) + b'{"step": 3, "loss": 1}',
        b'{"step": 3, "loss": [1]}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_reported_and_skipped_alone(end: bytes, capsys) -> None:
    LOG.write_bytes(text(1, 2).encode() + end + b"\n" + text(4).encode())
    log = JsonlLog(LOG)
    log.truncate(9)
    assert log.records == [line(1), line(2), line(4)]
    assert LOG.read_text() == text(1, 2, 4)
    (warning,) = capsys.readouterr().err.splitlines()
    assert "log.jsonl" in warning
    assert "1 line" in warning


def test_a_byte_order_mark_damages_no_line() -> None:
    LOG.write_bytes(b"\xef\xbb\xbf" + text(1, 2).encode())
    assert read_lines(LOG) == [line(1), line(2)]


def test_a_last_line_that_a_killed_process_left_incomplete_is_no_damage(capsys) -> None:
    LOG.write_bytes(text(1, 2).encode() + b'{"step": 3, "lo')
    assert read_lines(LOG) == [line(1), line(2)]
    assert capsys.readouterr().err == ""


def test_lines_of_failed_writes_are_written_with_the_next_line(full) -> None:
    log = added(JsonlLog(LOG), 1, 2)
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


def test_lines_of_failed_writes_are_written_by_catch_up(full) -> None:
    log = added(JsonlLog(LOG), 1)
    full(True)
    with pytest.raises(OSError, match="No space left"):
        log.add(line(2))
    full(False)
    log.catch_up()
    assert LOG.read_text() == text(1, 2)


def test_nothing_is_written_again_without_need(monkeypatch) -> None:
    log = added(JsonlLog(LOG), 1)
    monkeypatch.setattr(module, "write_file", lambda *_: pytest.fail("written again"))
    log.catch_up()
    log.add(line(2))


def test_truncating_keeps_lines_that_are_not_written_yet(full) -> None:
    log = added(JsonlLog(LOG), 1)
    full(True)
    for step in (2, 3):
        with pytest.raises(OSError, match="No space left"):
            log.add(line(step))
    with pytest.raises(OSError, match="No space left"):
        log.truncate(2)
    assert LOG.read_text().startswith(text(1))  # The old file stays until the new one is complete.
    full(False)
    log.add(line(4))
    assert LOG.read_text() == text(1, 2, 4)


def test_a_deleted_log_is_restored_by_truncating() -> None:
    log = added(JsonlLog(LOG), 1, 2, 3)
    LOG.unlink()
    log.truncate(2)
    assert LOG.read_text() == text(1, 2)


@pytest.mark.parametrize("change", [LOG.unlink, lambda: LOG.write_text(text(1)), lambda: LOG.write_text(text(7, 8, 9))])
def test_a_deleted_or_changed_log_is_restored_by_the_next_line(change) -> None:
    log = added(JsonlLog(LOG), 1, 2)
    change()
    added(log, 3, 4)
    assert LOG.read_text() == text(1, 2, 3, 4)


def test_a_file_is_replaced_completely_or_not_at_all(full) -> None:
    page = Path("page.html")
    write_file(page, "old")
    full(True)
    with pytest.raises(OSError, match="No space left"):
        write_file(page, "new and long")
    assert page.read_text() == "old"
    assert list(Path().iterdir()) == [page]  # The temporary file is removed.
    full(False)
    write_file(page, "of no text: \udcff")
    assert page.read_text() == "of no text: ?"


# ---- several files


PER_FILE = 50


def encode(number: int) -> str:
    return f"say({number});"


def filled(count: int) -> AppendLog[int]:
    log = AppendLog(Path("log_*.js"), encode, per_file=PER_FILE)
    for number in range(count):
        log.add(number)
    return log


def stored(log: AppendLog[int]) -> list[str]:
    return [line for number in range(log.files) for line in Path(f"log_{number}.js").read_text().splitlines()]


def states() -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_size) for path in Path().iterdir()}


def test_a_line_is_appended_to_the_last_of_several_files(monkeypatch) -> None:
    log = filled(2 * PER_FILE + 10)
    assert (log.written, log.files) == (2 * PER_FILE + 10, 3)
    assert stored(log) == [encode(number) for number in log.records]
    before = states()
    monkeypatch.setattr(module, "write_file", lambda *_: pytest.fail("written again"))
    log.add(7)
    name, added = "log_2.js", len(encode(7)) + 1
    assert states() == before | {name: (before[name][0], before[name][1] + added)}


def test_replaced_records_leave_no_old_files() -> None:
    log = filled(3 * PER_FILE)
    log.replace(range(PER_FILE + 1))
    assert sorted(path.name for path in Path().iterdir()) == ["log_0.js", "log_1.js"]
    log.add(-1)
    assert stored(log) == [encode(number) for number in [*range(PER_FILE + 1), -1]]


@pytest.mark.parametrize("before", [10, PER_FILE - 2, PER_FILE])
def test_failed_writes_are_repeated_across_files(before: int, full) -> None:
    log = filled(before)
    full(True)
    for number in range(before, before + 5):
        with pytest.raises(OSError, match="No space left"):
            log.add(number)
    full(False)
    log.catch_up()
    assert stored(log) == [encode(number) for number in range(before + 5)]
    log.add(before + 5)
    assert stored(log)[-1] == encode(before + 5)
