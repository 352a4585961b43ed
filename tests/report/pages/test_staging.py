"""Results replace those of an earlier call only when they are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from gantrain.errors import ConfigError
from gantrain.report.pages.staging import staging_folder


def write(*names: str, command: str = "gantrain test") -> None:
    with staging_folder(Path("out"), command=command) as folder:
        for name in (*names, "index.html"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)


def present() -> set[str]:
    return {path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()}


def test_only_the_files_of_the_earlier_call_are_replaced(capsys) -> None:
    write("a/1.png", "b/2.png")
    Path("out/mine.txt").touch()
    write("a/3\n.png", command="gantrain test num=1")
    assert present() == {"a/3\n.png", "index.html", "files.txt", "mine.txt"}
    assert not Path("out/b").exists()
    assert "replacing the results of: gantrain test\n" in capsys.readouterr().err
    write(command="gantrain test num=1")
    assert present() == {"index.html", "files.txt", "mine.txt"}
    assert capsys.readouterr().err == ""


def test_an_error_changes_nothing() -> None:
    write("a.png")
    with pytest.raises(FileNotFoundError), staging_folder(Path("out"), command="x") as folder:
        (folder / "missing/b.png").touch()
    assert present() == {"a.png", "index.html", "files.txt"}
    assert not Path("out.part").exists()


def test_a_foreign_part_folder_is_an_error() -> None:
    Path("out.part").mkdir()
    with pytest.raises(ConfigError, match=r"out\.part.* give another out=FOLDER"):
        write()
    Path("out.part/files.txt").touch()  # As a killed call leaves it.
    write("a.png")
    assert present() == {"a.png", "index.html", "files.txt"}
