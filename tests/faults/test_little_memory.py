"""Batches that are too large for the memory of a process, or for the memory that processes share."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import assert_mentions
from warm import Warm

# Limits memory to what the process has after all imports, and 700 MiB more.
LITTLE = """
import resource
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
resource.setrlimit(resource.RLIMIT_AS, (int(status["VmSize"].split()[0]) * 1024 + (700 << 20),) * 2)
"""
RUN = ["train", "model=dcgan", "trainer.accelerator=cpu", "trainer.steps=2", "network.width=16", "data.load_size=64"]


def test_a_batch_too_large_for_the_memory_is_reported_in_one_line(warm: Warm, workplace: Path) -> None:
    log = workplace / "log.txt"
    warm.start([*RUN, "data.batch_size=4096"], workplace, first=LITTLE)
    assert warm.wait().status == 2
    message = log.read_text()
    assert re.match(r"gantrain: data\.batch_size=4096: ", message)
    assert message.count("\n") == 1
    assert_mentions(message, "are free on cpu", " fits", "data.load_size", "network.width")
    assert list(workplace.iterdir()) == [log]  # No step was run.
    warm.start([*RUN, "data.batch_size=2"], workplace, first=LITTLE)
    assert warm.wait().status == 0, log.read_text()


# Gives the process its own, small /dev/shm; the numbers are CLONE_NEWNS and MS_REC | MS_PRIVATE.
SMALL_SHM = """
import ctypes
libc = ctypes.CDLL(None)
assert libc.unshare(0x20000) == 0
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0
assert libc.mount(b"none", b"/dev/shm", b"tmpfs", 0, b"size=64k") == 0
"""


def test_too_little_shared_memory_is_reported_in_one_line(warm: Warm, workplace: Path) -> None:
    if warm.run(["-c", SMALL_SHM]).returncode:
        pytest.skip("no other /dev/shm can be mounted here")
    log = workplace / "log.txt"
    warm.start([*RUN, "data.batch_size=64", "data.num_workers=1"], workplace, first=SMALL_SHM)
    assert warm.wait().status == 2
    message = log.read_text()
    assert message.count("gantrain: ") == 1
    assert message.splitlines()[-1].startswith("gantrain: out of shared memory (df /dev/shm)")
    assert list(workplace.iterdir()) == [log]
