"""Starting and ending ranks: signals at any time, what ranks import, and the status of the first that failed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import TINY

from gantrain.cli.main import main
from gantrain.runtime.launch import _first_failure, launch
from gantrain.runtime.run_lock import RunLock
from gantrain.runtime.signals import STOP, begin_rank

JOB = {"config": {"resume": "auto"}}
# The second line stands for an import that waits; in the current folder is another module ``tqdm``.
SLOW = """import os, pathlib, time
import tqdm
pathlib.Path(f"begun_{os.environ['RANK']}").write_text(tqdm.__file__)
time.sleep(100)
"""


def test_ctrl_c_ends_ranks_quietly_before_they_train(tmp_path: Path, monkeypatch, capfd) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/slow_module.py").write_text(SLOW)
    monkeypatch.setattr(
        sys, "path", [*(path for path in sys.path if path not in ("", os.getcwd())), str(tmp_path / "modules")]
    )
    Path("tqdm.py").write_text("")

    def stop() -> None:
        deadline = time.monotonic() + 60
        while not all(Path(f"begun_{rank}").exists() for rank in range(2)) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop).start()
    assert launch("slow_module", JOB, 2) == 128 + signal.SIGINT
    assert "Traceback" not in capfd.readouterr().err
    for rank in range(2):
        assert Path(Path(f"begun_{rank}").read_text()).parent != Path.cwd()


def test_a_rank_that_begins_after_its_launcher_was_stopped_ends(tmp_path: Path, monkeypatch) -> None:
    def end(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", end)
    before = signal.getsignal(signal.SIGINT)
    try:
        begin_rank(str(tmp_path / "job.json"))
        (tmp_path / STOP).touch()
        with pytest.raises(SystemExit, match="130"):
            begin_rank(str(tmp_path / "job.json"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / f"{os.getpid()}.rank").exists()


@pytest.mark.parametrize(
    ("failures", "status"),
    [
        ([(-signal.SIGTERM, 10), (2, 11)], 2),  # The second began between the looks at the two ranks.
        ([(1, 11), (2, 10)], 2),
        ([(3, 10), (2, 11)], 2),  # 3 is a rank that lost its connection to another one.
        ([(-signal.SIGKILL, 11), (-signal.SIGTERM, 10)], 128 + signal.SIGKILL),
        ([(-signal.SIGTERM, 11), (-signal.SIGTERM, 10)], 128 + signal.SIGTERM),
    ],
)
def test_the_status_is_that_of_the_rank_that_torch_did_not_end(failures, status: int) -> None:
    found = {rank: SimpleNamespace(exitcode=code, timestamp=time) for rank, (code, time) in enumerate(failures)}
    assert _first_failure(found, "again") == status


def test_a_rank_that_is_terminated_while_it_releases_its_folder_deletes_it(monkeypatch, capsys) -> None:
    """As torch terminates the ranks that are left when another one has failed."""

    def killed(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def terminated(self: RunLock, *error: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        release(self, *error)

    release, before = RunLock.__exit__, signal.signal(signal.SIGTERM, killed)
    monkeypatch.setattr(RunLock, "__exit__", terminated)
    try:
        assert main(["train", *TINY, "trainer.steps=2", "init_from=checkpoints/nothing"]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "init_from=checkpoints/nothing" in capsys.readouterr().err
    assert not Path("checkpoints").exists()
