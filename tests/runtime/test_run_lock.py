"""One run per folder, whoever it is that wants in, and however the last one ended."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import TINY

from gantrain.cli.main import main
from gantrain.errors import ConfigError
from gantrain.report import Report
from gantrain.runtime import run_lock as lock
from gantrain.runtime.run_lock import RunLock

FOLDER = Path("checkpoints/run")
# holds the lock until it is told to let go; with an argument, beside a forked process that lives on
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
            os.killpg(holder.pid, signal.SIGKILL)  # what it forked is of its group
        holder.wait()


def takes() -> None:
    with RunLock(FOLDER):
        pass


def test_a_second_run_is_refused_with_the_process_and_host_of_the_first(hold, capsys) -> None:
    holder = hold()
    before = sorted(FOLDER.iterdir())
    for _ in range(2):  # being refused lets nobody in
        assert main(["train", *TINY, "name=run", "trainer.steps=1"]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"gantrain: checkpoints/run is in use: process {holder.pid} on {socket.gethostname()} (")
        assert told.count("\n") == 1
    assert sorted(FOLDER.iterdir()) == before
    holder.communicate("\n")
    assert not FOLDER.exists()
    assert main(["train", *TINY, "name=run", "trainer.steps=1"]) == 0


def test_other_runs_are_not_in_the_way(hold) -> None:
    hold()
    with RunLock(Path("checkpoints/other")):
        assert Path("checkpoints/other/.lock").exists()
    assert not Path("checkpoints/other").exists()


def test_a_killed_run_is_in_nobodys_way_even_while_its_workers_live(hold) -> None:
    holder = hold("with a worker")
    with pytest.raises(ConfigError, match=f"process {holder.pid}"):
        takes()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    os.killpg(holder.pid, 0)  # the worker is there
    assert (FOLDER / ".lock").exists()
    takes()


@pytest.mark.parametrize("content", [b"", b"process 1 on there (since 2020-01-01 00:00)", b"\xff\x00" * 5000])
def test_a_file_that_nobody_holds_is_no_lock(content: bytes) -> None:
    FOLDER.mkdir(parents=True)
    (FOLDER / ".lock").write_bytes(content)
    with RunLock(FOLDER):
        assert (FOLDER / ".lock").read_text().startswith(f"process {os.getpid()} on {socket.gethostname()} (since 2")
    assert list(FOLDER.iterdir()) == []


def test_whatever_a_holder_wrote_makes_one_short_line(hold) -> None:
    hold()
    (FOLDER / ".lock").write_bytes(b"\xff\n" * 5000)
    with pytest.raises(ConfigError) as refused:
        takes()
    assert len(str(refused.value)) < 500


def test_who_lets_go_leaves_only_what_was_put_there() -> None:
    with RunLock(Path("some/where/run")):
        assert Path("some/where/run/.lock").exists()
    assert list(Path().iterdir()) == []
    with RunLock(Path("some/where/run")):
        Path("some/where/run/page").write_text("x")
    assert [path.name for path in Path("some/where/run").iterdir()] == ["page"]


@pytest.mark.parametrize(
    "mistake",
    [
        ["schedule=plateau", "schedule.metric=nonsense"],  # seen in the first step
        ["init_from=checkpoints/nothing"],
        ["objective.mode=most"],
        ["trainer.steps=0"],
    ],
)
def test_a_refused_run_leaves_nothing(mistake: list[str], capsys) -> None:
    assert main(["train", *TINY, "name=run", *mistake]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_a_run_that_may_not_go_on_leaves_the_folder_as_it_was(train, capsys) -> None:
    train("run", "trainer.steps=1")
    before = {path: path.stat().st_mtime_ns for path in sorted(FOLDER.rglob("*"))}
    for also in ("optimizer.lr=1", "schedule=plateau", "init_from=checkpoints/nothing resume=never"):
        assert main(["train", *TINY, "name=run", "trainer.steps=2", *also.split()]) == 2
    assert {path: path.stat().st_mtime_ns for path in sorted(FOLDER.rglob("*"))} == before


def test_a_folder_that_cannot_be_made_is_one_line(capsys) -> None:
    Path("checkpoints").write_text("a file")
    assert main(["train", *TINY, "name=run"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("gantrain: can't write to checkpoints/run: ")
    assert told.count("\n") == 1


def test_a_disk_that_is_full_to_the_last_byte_keeps_no_empty_lock(monkeypatch) -> None:
    class Full:
        def __init__(self, file) -> None:
            self.file = file

        def __getattr__(self, name: str):
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda *arguments, **options: Full(opened(*arguments, **options)))
    with pytest.raises(ConfigError, match="can't write to checkpoints/run: No space left on device"):
        takes()
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_costs_a_warning(number: int, monkeypatch, capsys) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", fail)
    takes()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: no file locks on this disk ({os.strerror(number)}): ")
    assert line.endswith("no other process trains in checkpoints/run")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_systems_say_in_two_ways_that_it_is_taken(number: int, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", fail)
    with pytest.raises(ConfigError, match="is in use: another process trains there"):
        takes()


def test_a_lock_file_deleted_before_it_is_locked_is_not_used(hold, monkeypatch) -> None:
    """The last holder deletes the file between its being opened here and locked: then it's no lock for anybody else."""
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


# ---- a lock that is deleted while it is held


def test_one_that_was_deleted_is_taken_again() -> None:
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


def test_one_that_another_process_has_taken_meanwhile_is_left_to_it(hold) -> None:
    with RunLock(FOLDER) as held:
        (FOLDER / ".lock").unlink()
        holder = hold()
        for _ in range(2):
            with pytest.raises(ConfigError, match=f"is in use: process {holder.pid}"):
                held.renew()
    assert (FOLDER / ".lock").exists()
    with pytest.raises(ConfigError, match=f"is in use: process {holder.pid}"):
        takes()


def test_a_folder_that_is_gone_is_not_made_again() -> None:
    with RunLock(FOLDER) as held:
        (FOLDER / ".lock").unlink()
        FOLDER.rmdir()
        held.renew()
        assert not FOLDER.exists()


def test_a_run_whose_folder_was_deleted_and_taken_by_another_stops(hold, monkeypatch, capsys) -> None:
    advance = Report.advance
    others = []

    def acting(self: Report, done: int) -> None:
        if done == 3 and not others:
            for path in sorted(FOLDER.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            FOLDER.rmdir()
            others.append(hold())
        advance(self, done)

    monkeypatch.setattr(Report, "advance", acting)
    every = ["trainer.save_every=2", "trainer.log_every=4", "trainer.keep=0"]
    assert main(["train", *TINY, "name=run", "trainer.steps=8", *every]) == 2
    told = capsys.readouterr().err
    assert f"gantrain: checkpoints/run is in use: process {others[0].pid} on" in told
    assert "Traceback" not in told
    assert [path.name for path in FOLDER.iterdir()] == [".lock"]  # and its log, page and images are left alone


def test_a_run_whose_folder_was_replaced_stops(train, monkeypatch, capsys) -> None:
    advance = Report.advance

    def moving(self: Report, done: int) -> None:
        if done == 3:
            while not (FOLDER / "step_2.pt").exists():
                time.sleep(0.01)
            FOLDER.rename("kept")
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
    Path("kept").rename(FOLDER)
    assert train("run", "trainer.steps=8", *every)["step"] == 8
