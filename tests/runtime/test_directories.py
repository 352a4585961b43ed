"""New directories that are complete or absent."""

from __future__ import annotations

from pathlib import Path

import pytest
from archives import files

from gantrain.errors import ConfigError
from gantrain.runtime.directories import atomic_dir


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
