"""Temporary folders: removed at the end, and those of killed processes at the next start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import gantrain
from gantrain.runtime.scratch import LOCK, scratch_folder

OTHER = "from gantrain.runtime.scratch import scratch_folder\nwith scratch_folder() as f: print(f, flush=True); input()"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_scratch_folder_is_removed_at_the_end_even_after_an_error(temporary: Path) -> None:
    def fail(folder: Path) -> None:
        assert folder.parent == temporary
        (folder / "inside").mkdir()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), scratch_folder() as folder:
        fail(folder)
    assert not folder.exists()


def test_only_the_folders_of_killed_processes_are_removed(temporary: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", OTHER], **pipes) as other:
        theirs = Path(other.stdout.readline().strip())
        (theirs / "job.json").touch()
        (temporary / "gantrain-mine").mkdir()  # Of something else: it has no lock.
        with scratch_folder():
            assert (theirs / "job.json").exists()
        other.kill()
        other.wait()
        assert (theirs / LOCK).exists()
        with scratch_folder() as folder:
            assert sorted(os.listdir(temporary)) == sorted(["gantrain-mine", folder.name])


def test_every_temporary_folder_is_one_that_is_removed_after_a_kill() -> None:
    for path in Path(gantrain.__file__).parent.rglob("*.py"):
        calls = re.findall(r"(?:TemporaryDirectory|mkdtemp)\((.*?)\)", path.read_text())
        # Those inside the folder of resumable_dir are removed with it.
        assert path.name == "scratch.py" or set(calls) <= {"dir=scratch"}, f"{path}: {calls}"
