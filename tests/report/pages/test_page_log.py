"""What a page shows line by line: written once, whatever happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import lines_of

from gantrain.report.pages import page, page_log
from gantrain.report.pages.page_log import LINES, PageLog

DATA = Path("index_files/data")


def filled(count: int) -> PageLog:
    log = PageLog(Path())
    log.restart([])
    for number in range(count):
        log.add("losses", {"step": number, "g": float("nan") if number == 3 else 0.5})
    return log


def steps() -> list[int]:
    return [line["step"] for line in lines_of(Path(), "losses")]


def test_lines_go_into_files_that_only_grow() -> None:
    log = filled(2 * LINES + 10)
    assert (log.count, log.files) == (2 * LINES + 10, 3)
    assert steps() == list(range(2 * LINES + 10))
    before = {path: (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns) for path in DATA.iterdir()}
    log.add("losses", {"step": log.count})
    changed = {
        path
        for path in DATA.iterdir()
        if before[path] != (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns)
    }
    assert changed == {DATA / "log_2.js"}
    assert before[DATA / "log_2.js"][0] == (DATA / "log_2.js").stat().st_ino  # longer, and not another
    assert steps() == list(range(2 * LINES + 11))


def test_a_line_costs_its_own_length(monkeypatch) -> None:
    log = filled(LINES + 7)
    written: list[int] = []
    monkeypatch.setattr(page_log, "write_file", lambda path, text: written.append(len(text)))
    sizes = {path: path.stat().st_size for path in DATA.iterdir()}
    log.add("losses", {"step": -1})
    grown = {path.name: path.stat().st_size - sizes[path] for path in DATA.iterdir()}
    assert written == []
    assert grown == {"log_0.js": 0, "log_1.js": len('gantrain.line("losses", {"step":-1});\n')}


def test_a_log_that_begins_again_keeps_nothing_of_the_old_one() -> None:
    filled(3 * LINES)
    log = PageLog(Path())
    log.restart(("losses", {"step": number}) for number in range(LINES + 1))
    assert sorted(path.name for path in DATA.iterdir()) == ["log_0.js", "log_1.js"]
    assert steps() == list(range(LINES + 1))
    log.add("losses", {"step": LINES + 1})
    assert steps() == list(range(LINES + 2))


@pytest.mark.parametrize("before", [10, LINES - 2, LINES])
def test_what_could_not_be_written_is_caught_up_on(before: int, monkeypatch) -> None:
    log = filled(before)
    real = Path.open

    def half(path: Path, *arguments: object, **keys: object) -> object:
        if "log_" in path.name:
            with real(path, "a") as file:
                file.write('gantrain.line("losses", {"st')  # and then the disk is full
            raise OSError(28, "No space left on device")
        return real(path, *arguments, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", half)
        patch.setattr(page_log, "write_file", lambda path, text: half(path))
        for number in range(before, before + 5):
            with pytest.raises(OSError, match="No space"):
                log.add("losses", {"step": number})
    log.catch_up()
    assert steps() == list(range(before + 5))
    log.add("losses", {"step": before + 5})
    assert steps() == list(range(before + 6))


def test_a_file_that_can_not_be_written_leaves_the_old_one_and_nothing_else(monkeypatch) -> None:
    page.write_data(Path(), "status", {"step": 1})

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:3])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            page.write_data(Path(), "status", {"step": 2})
    assert page.read_data(Path(), "status") == {"step": 1}
    assert [path.name for path in DATA.iterdir()] == ["status.js"]
