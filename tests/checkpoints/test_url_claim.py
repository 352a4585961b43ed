"""Claims of runs at URLs: a second machine does not train the same run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event, Thread

import fsspec
import pytest
from conftest import TINY, assert_mentions

from gantrain.checkpoints import url_claim
from gantrain.checkpoints.url_claim import NAME, Claim
from gantrain.cli.main import main
from gantrain.errors import ConfigError

RUN = [*TINY, "name=run", "trainer.steps=2", "checkpoints_dir=memory://bucket/runs"]
PATH = f"/bucket/runs/run/{NAME}"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """An empty bucket, ``memory://bucket``."""
    monkeypatch.setenv("GANTRAIN_CACHE", str(Path("cache").absolute()))
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_claim, "WATCHED", 1)


def claim_of(host: str, *, pid: int = 7, at: float = 0) -> bytes:
    return json.dumps({"host": host, "pid": pid, "time": at}).encode()


@contextmanager
def refreshing(bucket: fsspec.AbstractFileSystem, path: str, host: str, pid: int = 7) -> Iterator[None]:
    """Inside, another process refreshes its claim."""
    ends = Event()

    def refresh() -> None:
        for number in count():
            bucket.pipe(path, claim_of(host, pid=pid, at=number))
            if ends.wait(0.05):
                return

    bucket.pipe(path, claim_of(host, pid=pid, at=-1))
    thread = Thread(target=refresh)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_that_another_machine_trains_is_refused(bucket, capsys) -> None:
    with refreshing(bucket, PATH, "other-host"):
        assert main(["train", *RUN]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("gantrain: "))
    assert_mentions(line, "memory://bucket/runs/run", "other-host", "process 7", "name=...")
    assert bucket.find("/bucket") == [PATH]


def test_what_no_process_trains_any_more_is_taken_over(bucket, capsys) -> None:
    own = socket.gethostname()
    for claim, mentioned in (
        (claim_of("other-host"), ["other-host", "not refreshed"]),
        (claim_of("other-host", at=time.time() + 1e6), ["other-host", "not refreshed"]),  # Its clock is wrong.
        (claim_of(own, pid=os.getppid()), [own, "not refreshed"]),  # The number is another process's now.
        (claim_of(own, pid=(pid := ended_process())), [own, f"process {pid}", "ended"]),
        (b'{"host": 1', []),
    ):
        bucket.pipe(PATH, claim)
        assert main(["train", *RUN, "resume=never"]) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Taking over")]
        assert len(lines) == bool(mentioned)
        assert_mentions("".join(lines), *mentioned)
        assert not bucket.exists(PATH)  # The run has ended.


def test_a_claim_is_refreshed_until_another_machine_takes_it(bucket, monkeypatch) -> None:
    monkeypatch.setattr(url_claim, "REFRESH", 0.01)
    warned: list[str] = []
    claim = Claim(bucket, "/bucket/run", shown="memory://bucket/run", warn=warned.append)
    with claim:
        bucket.rm_file("/bucket/run/claim.json")
        while not bucket.exists("/bucket/run/claim.json"):
            time.sleep(0.01)
        assert json.loads(bucket.cat_file("/bucket/run/claim.json"))["pid"] == os.getpid()
        claim._ends.set()  # So that it does not overwrite the other's in this instant.
        claim._thread.join()
        claim._ends.clear()
        bucket.pipe("/bucket/run/claim.json", claim_of("other-host"))
        claim._keep()
    (warning,) = warned
    assert_mentions(warning, "memory://bucket/run", "other-host", "stop one")
    assert bucket.exists("/bucket/run/claim.json")  # It is the other's.


def test_a_storage_that_fails_is_no_reason_to_stop(bucket, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError("no access")

    monkeypatch.setattr(type(bucket), "pipe_file", fail)
    warned: list[str] = []
    with Claim(bucket, "/bucket/run", shown="memory://bucket/run", warn=warned.append):
        pass
    (warning,) = warned
    assert_mentions(warning, "memory://bucket/run", "no access")


def test_a_process_that_lives_on_this_machine_keeps_its_claim(bucket) -> None:
    claim = Claim(bucket, "/bucket/run", shown="memory://bucket/run", warn=print)
    alive = refreshing(bucket, "/bucket/run/claim.json", socket.gethostname(), os.getppid())
    with alive, pytest.raises(ConfigError, match=f"process {os.getppid()} "), claim:
        pass
