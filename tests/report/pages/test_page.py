"""Data files of pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import data_of

from gantrain.report.pages.page import DATA, address, write_data


def test_a_failed_write_leaves_the_old_data_and_nothing_else(monkeypatch) -> None:
    write_data(Path(), "status", {"step": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            write_data(Path(), "status", {"step": 2})
    assert data_of(Path(), "status") == {"step": 1}
    assert [path.name for path in Path(DATA).iterdir()] == ["status.js"]


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [("runs/a b/x#.png", "runs", "a%20b/x%23.png"), ("runs/a", "out", "../runs/a"), ("a\udcff", ".", "a%FF")],
)
def test_addresses_are_relative_and_quoted(path: str, folder: str, expected: str) -> None:
    assert address(Path(path), Path(folder)) == expected
