"""New directories that are complete or absent."""

from __future__ import annotations

from pathlib import Path

import pytest
from archives import files

from gantrain.errors import ConfigError
from gantrain.runtime import directories
from gantrain.runtime.atomic import try_lock
from gantrain.runtime.directories import atomic_dir, is_complete, resumable_dir
from gantrain.runtime.scratch import LOCK


def test_a_folder_that_another_process_completed_stays(tmp_path: Path) -> None:
    with atomic_dir(tmp_path / "made") as folder:
        folder.mkdir()
        (folder / "ours").touch()
        (tmp_path / "made").mkdir()
        (tmp_path / "made/theirs").touch()
    assert files(tmp_path) == {"made/theirs"}


def test_parent_folders_that_others_use_stay(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_dir(tmp_path / "a/b/made") as folder:
            folder.mkdir()
            (tmp_path / "a/other").touch()
            raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        fail()
    assert files(tmp_path) == {"a/other"}
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a/other"]


def test_folders_of_killed_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    for name, content in {
        ".made-killed": LOCK,
        ".made-living": LOCK,
        ".made-own": "photo.png",
        ".other-1": LOCK,
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / content).touch()
    (tmp_path / ".made-linked").symlink_to(tmp_path / ".other-1")
    with (tmp_path / ".made-living" / LOCK).open("r+b") as lock:
        assert try_lock(lock, exclusive=True)
        with atomic_dir(tmp_path / "made") as folder:
            folder.mkdir()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"made", ".made-living", ".made-own", ".made-linked", ".other-1"}


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_what_a_kill_during_the_tidying_up_leaves_is_removed(
    removed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree, calls = directories.shutil.rmtree, []

    def rmtree_until_killed(path: Path, **options: bool) -> None:
        if len(calls) == removed:
            raise KeyboardInterrupt
        calls.append(path)
        rmtree(path, **options)

    def write() -> None:
        with resumable_dir(tmp_path / "out", (), "mine") as scratch:
            (scratch / "whole/image").touch()
            for name in ("parts", "fetched"):
                (scratch / name).mkdir()

    monkeypatch.setattr(directories.shutil, "rmtree", rmtree_until_killed)
    with pytest.raises(KeyboardInterrupt):
        write()
    monkeypatch.setattr(directories.shutil, "rmtree", rmtree)
    assert (tmp_path / ".out-unfinished").exists()
    assert is_complete(tmp_path / "out", "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / ".out-unfinished").mkdir()  # Killed before the last call of the system.
    assert not is_complete(tmp_path / "out", "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
