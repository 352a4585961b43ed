"""Ranks whose launcher is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

STATES = {
    "before the ranks have met": "import socket; server = socket.create_server(('localhost', 0)); server.accept()",
    "stuck in a step": "with signals.Interruption(None): time.sleep(600)",
    "between two steps": (
        "with signals.Interruption(None) as stop:\n while not stop.is_asked_for(): time.sleep(0.01)\n"
        " open('saved', 'w').close(); os._exit(0)"
    ),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("early", [False, True], ids=["later", "before it is followed"])
def test_a_rank_ends_with_its_launcher(state: str, early: bool) -> None:
    code = (
        "import os, sys, time\nfrom gantrain.runtime import signals\n"
        "launcher = os.getpid()\n"
        "if os.fork(): time.sleep(600)\n"
        "open('rank', 'w').write(str(os.getpid()))\n"
        f"while {early} and os.getppid() == launcher: time.sleep(0.01)\n"
        "os.environ[signals.LAUNCHER] = str(launcher)\n"
        "signals.ORPHAN_POLL, signals.ORPHAN_SECONDS = 0.05, 1.0\n"
        "signals.follow_launcher()\n"
        "open('follows', 'w').close()\n" + STATES[state]
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    while not Path("rank" if early else "follows").exists():
        time.sleep(0.01)
    launcher.kill()
    launcher.communicate(timeout=120)  # Until the rank has ended, too, which would last ten minutes.
    if not early:  # Otherwise it may end before there is anything to save.
        assert Path("saved").exists() == (state == "between two steps")
