"""Batches that are too large for the memory of a process, or for the memory that processes share."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from warm import Warm

# Limits memory to what the process has after all imports, and 400 MiB more.
LITTLE = """
import resource
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
resource.setrlimit(resource.RLIMIT_AS, (int(status["VmSize"].split()[0]) * 1024 + (400 << 20),) * 2)
"""
RUN = ["train", "model=dcgan", "trainer.accelerator=cpu", "trainer.steps=2", "network.width=16", "data.load_size=64"]


def test_a_batch_too_large_for_the_memory_is_reported_in_one_line(warm: Warm, workplace: Path) -> None:
    log = workplace / "log.txt"
    warm.start([*RUN, "data.batch_size=4096"], workplace, first=LITTLE)
    assert warm.wait().status == 2
    assert re.fullmatch(
        r"gantrain: data\.batch_size=4096: .* GiB, and \d+ MiB are free on cpu: data\.batch_size=(\d+) fits, "
        r"or lower data\.load_size, .* or network\.width\n",
        log.read_text(),
    )
    assert list(workplace.iterdir()) == [log]  # no step was made
    warm.start([*RUN, "data.batch_size=2"], workplace, first=LITTLE)
    assert warm.wait().status == 0, log.read_text()


# Runs a command with its own, small /dev/shm.
CROWDED = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"', "sh"]


def test_too_little_shared_memory_is_reported_in_one_line(workplace: Path) -> None:
    if (
        shutil.which("unshare") is None
        or subprocess.run([*CROWDED, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no other /dev/shm can be mounted here")
    command = [*CROWDED, sys.executable, "-m", "gantrain", *RUN, "data.batch_size=64", "data.num_workers=1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr.startswith("gantrain: out of shared memory (df /dev/shm)")
    assert ended.stderr.count("\n") == 1
    assert list(workplace.iterdir()) == []
