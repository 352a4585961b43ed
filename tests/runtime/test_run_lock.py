"""Only one process at a time trains in a run folder; the lock of a killed one does not block it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import INTRODUCTION, TINY

from gantrain.cli.main import main
from gantrain.errors import ConfigError
from gantrain.report import Report
from gantrain.runtime import run_lock as lock
from gantrain.runtime.run_lock import RunLock

FOLDER = Path("checkpoints/run")
# Holds the lock until it gets a line; with an argument, it forks a process that stays alive.
HOLDER = """
import os, sys, time
from pathlib import Path
from gantrain.runtime.run_lock import RunLock

with RunLock(Path("checkpoints/run")):
    if len(sys.argv) > 1 and not os.fork():
        time.sleep(600)
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def hold() -> Iterator[Callable[..., subprocess.Popen]]:
    """Another process that holds the lock of the run folder."""
    holders = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLDER, *arguments]
        pipe = subprocess.PIPE
        holder = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        holders.append(holder)
        assert holder.stdout.readline() == "held\n"
        return holder

    yield start
    for holder in holders:
        with suppress(ProcessLookupError):
            os.killpg(holder.pid, signal.SIGKILL)  # Forked processes are in its group.
        holder.wait()


def acquire() -> None:
    """Take the lock and release it."""
    with RunLock(FOLDER):
        pass


def test_a_second_run_is_refused_with_the_process_and_host_of_the_first(hold, capsys) -> None:
    holder = hold()
    before = sorted(FOLDER.iterdir())
    for _ in range(2):  # A refused run does not release the lock.
        assert main(["train", *TINY, "name=run", "trainer.steps=1"]) == 2
        message = capsys.readouterr().err
        assert re.match(f"gantrain: checkpoints/run .* process {holder.pid} on {socket.gethostname()} ", message)
        assert message.count("\n") == 1
    assert sorted(FOLDER.iterdir()) == before
    holder.communicate("\n")
    assert not FOLDER.exists()
    assert main(["train", *TINY, "name=run", "trainer.steps=1"]) == 0


def test_other_run_folders_can_be_locked(hold) -> None:
    hold()
    with RunLock(Path("checkpoints/other")):
        assert Path("checkpoints/other/.lock").exists()
    assert not Path("checkpoints/other").exists()


def test_the_lock_of_a_killed_run_is_free_while_its_workers_live(hold) -> None:
    holder = hold("with a worker")
    with pytest.raises(ConfigError, match=f"process {holder.pid}"):
        acquire()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    os.killpg(holder.pid, 0)  # The worker is alive.
    assert (FOLDER / ".lock").exists()
    acquire()


@pytest.mark.parametrize("content", [b"", b"process 1 on there (since 2020-01-01 00:00)", b"\xff\x00" * 5000])
def test_a_lock_file_without_a_holder_is_ignored(content: bytes) -> None:
    FOLDER.mkdir(parents=True)
    (FOLDER / ".lock").write_bytes(content)
    with RunLock(FOLDER):
        assert (FOLDER / ".lock").read_text().startswith(f"process {os.getpid()} on {socket.gethostname()} (since 2")
    assert list(FOLDER.iterdir()) == []


def test_any_content_of_a_lock_file_makes_one_short_message(hold) -> None:
    hold()
    (FOLDER / ".lock").write_bytes(b"\xff\n" * 5000)
    with pytest.raises(ConfigError) as refused:
        acquire()
    assert len(str(refused.value)) < 500


def test_releasing_the_lock_removes_only_the_lock_and_empty_folders() -> None:
    with RunLock(Path("some/where/run")):
        assert Path("some/where/run/.lock").exists()
    assert list(Path().iterdir()) == []
    with RunLock(Path("some/where/run")):
        Path("some/where/run/page").write_text("x")
    assert [path.name for path in Path("some/where/run").iterdir()] == ["page"]


@pytest.mark.parametrize(
    "mistake",
    [
        ["schedule=plateau", "schedule.metric=nonsense"],  # It is found in the first step.
        ["init_from=checkpoints/nothing"],
        ["objective.mode=most"],
        ["trainer.steps=0"],
    ],
)
def test_a_refused_run_leaves_no_files(mistake: list[str], capsys) -> None:
    assert main(["train", *TINY, "name=run", *mistake]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith(INTRODUCTION)] == lines[-1:]
    assert list(Path().iterdir()) == []


def test_a_run_that_must_not_resume_leaves_its_folder_unchanged(train, capsys) -> None:
    train("run", "trainer.steps=1")
    before = {path: path.stat().st_mtime_ns for path in sorted(FOLDER.rglob("*"))}
    for also in ("optimizer.lr=1", "schedule=plateau", "init_from=checkpoints/nothing resume=never"):
        assert main(["train", *TINY, "name=run", "trainer.steps=2", *also.split()]) == 2
    assert {path: path.stat().st_mtime_ns for path in sorted(FOLDER.rglob("*"))} == before


def test_a_folder_that_cannot_be_created_is_reported_in_one_line(capsys) -> None:
    Path("checkpoints").write_text("a file")
    assert main(["train", *TINY, "name=run"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("gantrain: can't write to checkpoints/run: ")
    assert message.count("\n") == 1


def test_no_empty_lock_file_stays_on_a_full_disk(monkeypatch) -> None:
    class Full:
        def __init__(self, file) -> None:
            self.file = file

        def __getattr__(self, name: str):
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *arguments, **options: Full(opened(*arguments, **options)))
    with pytest.raises(ConfigError, match="can't write to checkpoints/run: No space left on device"):
        acquire()
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_file_locks_is_reported_by_a_warning(number: int, monkeypatch, capsys) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", fail)
    acquire()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert os.strerror(number) in line
    assert line.endswith("no other process trains in checkpoints/run")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_both_error_numbers_of_a_held_lock_are_known(number: int, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", fail)
    with pytest.raises(ConfigError, match="checkpoints/run is in use"):
        acquire()


def test_a_lock_file_deleted_before_it_is_locked_is_not_used(hold, monkeypatch) -> None:
    """The previous holder deletes the file after it has been opened here and before it is locked."""
    locks = []
    real = lock.try_process_lock

    def late(file) -> bool:
        if not locks:
            (FOLDER / ".lock").unlink()
        locks.append(os.fstat(file.fileno()).st_ino)
        return real(file)

    monkeypatch.setattr(lock, "try_process_lock", late)
    with RunLock(FOLDER):
        assert len(locks) == 2
        assert (FOLDER / ".lock").stat().st_ino == locks[1]


def test_a_deleted_lock_is_taken_again() -> None:
    with RunLock(FOLDER) as held:
        held.renew()
        (FOLDER / ".lock").unlink()
        held.renew()
        code = (
            "from pathlib import Path; from gantrain.runtime.run_lock import RunLock; "
            "RunLock(Path('checkpoints/run')).__enter__()"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert f"in use: process {os.getpid()}" in other.stderr
    assert list(Path().iterdir()) == []


def test_a_lock_that_another_process_has_taken_is_left_to_it(hold) -> None:
    with RunLock(FOLDER) as held:
        (FOLDER / ".lock").unlink()
        holder = hold()
        for _ in range(2):
            with pytest.raises(ConfigError, match=f"is in use: process {holder.pid}"):
                held.renew()
    assert (FOLDER / ".lock").exists()
    with pytest.raises(ConfigError, match=f"is in use: process {holder.pid}"):
        acquire()


def test_a_deleted_folder_is_not_created_again() -> None:
    with RunLock(FOLDER) as held:
        (FOLDER / ".lock").unlink()
        FOLDER.rmdir()
        held.renew()
        assert not FOLDER.exists()


def wait_for_checkpoint() -> None:
    """Return when nothing is being written: a thread saves the checkpoint of step 2."""
    while not (FOLDER / "step_2.pt").exists():
        time.sleep(0.01)


def test_a_run_stops_if_another_process_has_taken_its_folder(hold, monkeypatch, capsys) -> None:
    advance = Report.advance
    others = []

    def acting(self: Report, done: int) -> None:
        if done == 3 and not others:
            wait_for_checkpoint()
            for path in sorted(FOLDER.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            FOLDER.rmdir()
            others.append(hold())
        advance(self, done)

    monkeypatch.setattr(Report, "advance", acting)
    every = ["trainer.save_every=2", "trainer.log_every=4", "trainer.keep=0"]
    assert main(["train", *TINY, "name=run", "trainer.steps=8", *every]) == 2
    message = capsys.readouterr().err
    assert f"gantrain: checkpoints/run is in use: process {others[0].pid} on" in message
    assert "Traceback" not in message
    assert [path.name for path in FOLDER.iterdir()] == [".lock"]  # It writes no log, page or image.


def test_a_run_stops_if_its_folder_was_replaced(train, monkeypatch, capsys) -> None:
    advance = Report.advance

    def moving(self: Report, done: int) -> None:
        if done == 3:
            wait_for_checkpoint()
            FOLDER.rename("original")
            FOLDER.mkdir()
            (FOLDER / "theirs").touch()
        advance(self, done)

    every = ["trainer.save_every=2", "trainer.log_every=4"]
    with monkeypatch.context() as patch:
        patch.setattr(Report, "advance", moving)
        assert main(["train", *TINY, "name=run", "trainer.steps=8", *every]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("gantrain: checkpoints/run was deleted or renamed, ")
    assert [path.name for path in FOLDER.iterdir()] == ["theirs"]
    FOLDER.rename("others")
    Path("original").rename(FOLDER)
    assert train("run", "trainer.steps=8", *every)["step"] == 8
