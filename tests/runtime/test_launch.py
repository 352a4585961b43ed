"""Starting ranks: Ctrl-C ends those that have not begun, and they import what their launcher imports."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from gantrain.runtime.launch import launch
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
