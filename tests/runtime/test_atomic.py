"""A file is whole or not there, whoever is killed or comes in between; what others use stays."""

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

from gantrain.runtime.atomic import atomic, cache_folder, lock, one_at_a_time, remove_if_unused

WRITER = """
import sys, time
from pathlib import Path
from gantrain.data.whole_files import atomic
with atomic(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("half way", flush=True)
    sys.stdin.readline()
    file.write(b" and whole")
"""


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder on a network that knows none."""

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


def test_a_file_is_there_when_it_is_whole_and_not_before() -> None:
    with atomic(Path("file")) as file:
        file.write(b"whole")
        assert not Path("file").exists()
    assert Path("file").read_bytes() == b"whole"
    with suppress(KeyboardInterrupt), atomic(Path("file")) as file:
        file.write(b"other")
        raise KeyboardInterrupt
    assert Path("file").read_bytes() == b"whole"
    assert os.listdir() == ["file"]


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays() -> None:
    killed = writer(Path("file"))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (left,) = os.listdir()
    living = writer(Path("file"))
    assert left not in os.listdir()
    with atomic(Path("file")) as file:
        file.write(b"mine")
    assert living.communicate("\n") == ("", None)
    assert living.returncode == 0
    assert Path("file").read_bytes() == b"half and whole"
    assert os.listdir() == ["file"]


def test_leftovers_of_another_file_are_none_of_its_business() -> None:
    for name in (".other-1.partial", ".fil[e]-1.partial", ".file-1.partial"):
        Path(name).touch()
    with atomic(Path("fil[e]")):
        pass
    assert sorted(os.listdir()) == [".file-1.partial", ".other-1.partial", "fil[e]"]


def test_a_file_that_somebody_holds_is_not_removed() -> None:
    Path("file").touch()
    with Path("file").open("rb") as file:
        assert lock(file, exclusive=False)
        assert not remove_if_unused(Path("file"))
    assert remove_if_unused(Path("file"))
    assert not remove_if_unused(Path("file"))


@pytest.mark.usefixtures("no_locks")
def test_without_locks_work_goes_on_and_nothing_is_removed() -> None:
    Path(".file-1.partial").touch()
    with one_at_a_time(Path("file"), wait=lambda: pytest.fail("waits for nobody")), atomic(Path("file")) as file:
        file.write(b"whole")
    assert not remove_if_unused(Path("file"))
    assert sorted(os.listdir()) == [".file-1.partial", "file"]


def test_who_has_no_home_folder_keeps_things_among_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("GANTRAIN_CACHE")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/gantrain")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert cache_folder() == Path(tempfile.gettempdir()) / f"gantrain-{os.getuid()}"
    monkeypatch.setenv("GANTRAIN_CACHE", "given")
    assert cache_folder() == Path("given")
