"""Files are complete or missing, even if a writer is killed or several write; files in use are not removed."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from gantrain.runtime.atomic import atomic_write, cache_dir, file_lock, remove_if_unused, try_lock, write_file

WRITER = """
import sys, time
from pathlib import Path
from gantrain.runtime.atomic import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("half way", flush=True)
    sys.stdin.readline()
    file.write(b" and whole")
"""


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network folder without locks."""

    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def writer(path: Path) -> subprocess.Popen[str]:
    """A process that has written half of a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half way\n"
    return process


def test_a_file_appears_only_when_it_is_complete() -> None:
    with atomic_write(Path("file")) as file:
        file.write(b"whole")
        assert not Path("file").exists()
    assert Path("file").read_bytes() == b"whole"
    with suppress(KeyboardInterrupt), atomic_write(Path("file")) as file:
        file.write(b"other")
        raise KeyboardInterrupt
    assert Path("file").read_bytes() == b"whole"
    assert os.listdir() == ["file"]


def test_only_leftovers_of_killed_writers_are_removed() -> None:
    killed = writer(Path("file"))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (left,) = os.listdir()
    os.utime(left, (0, 0))
    living = writer(Path("file"))
    assert left not in os.listdir()
    with atomic_write(Path("file")) as file:
        file.write(b"mine")
    assert living.communicate("\n") == ("", None)
    assert living.returncode == 0
    assert Path("file").read_bytes() == b"half and whole"
    assert os.listdir() == ["file"]


def test_leftovers_of_other_files_stay() -> None:
    for name in ("other.1.tmp", "fil[e].1.tmp", "file.1.tmp", "fil[e].x.tmp"):
        Path(name).touch()
        os.utime(name, (0, 0))
    with atomic_write(Path("fil[e]")):
        pass
    assert sorted(os.listdir()) == ["fil[e]", "fil[e].x.tmp", "file.1.tmp", "other.1.tmp"]


def test_a_file_in_use_is_not_removed() -> None:
    Path("file").touch()
    with Path("file").open("rb") as file:
        assert try_lock(file, exclusive=False)
        assert not remove_if_unused(Path("file"))
    assert remove_if_unused(Path("file"))
    assert not remove_if_unused(Path("file"))


@pytest.mark.usefixtures("no_locks")
def test_without_locks_files_are_written_and_nothing_is_removed() -> None:
    Path("file.1.tmp").touch()
    os.utime("file.1.tmp", (0, 0))
    with file_lock(Path("file"), wait=lambda: pytest.fail("waits")), atomic_write(Path("file")) as file:
        file.write(b"whole")
    assert not remove_if_unused(Path("file"))
    assert sorted(os.listdir()) == ["file", "file.1.tmp"]


def test_a_user_without_home_folder_has_a_temporary_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_user(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("GANTRAIN_CACHE")
    monkeypatch.setenv("HOME", "/home/user")
    assert cache_dir() == Path("/home/user/.cache/gantrain")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", no_user)
    assert cache_dir() == Path(tempfile.gettempdir()) / f"gantrain-{os.getuid()}"
    monkeypatch.setenv("GANTRAIN_CACHE", "given")
    assert cache_dir() == Path("given")


def test_a_small_file_is_replaced_or_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(Path("page"), "of no text: \udcff")
    assert Path("page").read_text() == "of no text: ?"
    write_file(Path("page"), b"bytes")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_file(Path("page"), "new")
    assert Path("page").read_bytes() == b"bytes"
    assert os.listdir() == ["page"]


def test_young_leftovers_stay() -> None:
    Path("file.1.tmp").touch()  # A process may be about to lock it.
    write_file(Path("file"), "")
    assert sorted(os.listdir()) == ["file", "file.1.tmp"]
