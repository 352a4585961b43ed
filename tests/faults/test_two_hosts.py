"""Two hosts on this machine: network namespaces that are joined by a virtual cable, which is cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import TINY, assert_same_bits, newest

pytestmark = [
    pytest.mark.usefixtures("warm_python"),
    pytest.mark.skipif(
        not shutil.which("ip")
        or os.geteuid() != 0
        or subprocess.run(["unshare", "--net", "true"], check=False).returncode,
        reason="needs the rights to create network namespaces, and iproute2",
    ),
]
LONG = 240  # Seconds after which the test fails.
# Joins the network of a host before anything is connected; a file pauses rank 0 before a step.
HOST = """
import ctypes, os, pathlib, time
from gantrain.optim.updates import Updates
from gantrain.runtime.cluster import heartbeat

heartbeat.POLL, heartbeat.MISSED = 0.1, 60  # Fast, but 6 seconds without an answer, as the machine may be busy.
place = os.open(f"/run/netns/{os.environ['HOST']}", os.O_RDONLY)
assert ctypes.CDLL(None).setns(place, 0) == 0
begin = Updates.begin

def held(self, step, progress):
    begin(self, step, progress)
    if step == 4 and os.environ.get("RANK") == "0" and pathlib.Path("hold").exists():
        pathlib.Path("held").touch()
        while pathlib.Path("hold").exists():
            time.sleep(0.01)

Updates.begin = held
"""
TORCHRUN = "import host; from torch.distributed.run import main; main()"
RANK = "import host, sys; from gantrain.cli.main import main; sys.exit(main())"
EXACT = [
    "model=dcgan",
    "trainer.precision=float64",
    "network.norm=sync_batch",
    "trainer.steps=6",
    "trainer.save_every=2",
]


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """The names of two network namespaces, whose devices ``eth0`` have the addresses 10.77.0.1 and 10.77.0.2."""
    names = [f"gantrain_{os.getpid()}_{number}" for number in (1, 2)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def start(hosts: list[str], name: str) -> list[subprocess.Popen[str]]:
    """A run by torchrun with one process on each host."""
    Path("host.py").write_text(HOST)
    Path("torchrun.py").write_text(TORCHRUN)
    Path("rank.py").write_text(RANK)
    command = [sys.executable, "torchrun.py", "--nnodes=2", "--nproc-per-node=1", "--master-addr=10.77.0.1"]
    run = ["rank.py", "train", *TINY, *EXACT, f"name={name}"]
    paths = os.pathsep.join([str(Path.cwd()), *sys.path])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "GLOO_SOCKET_IFNAME": "eth0"}
    return [
        subprocess.Popen(
            [*command, f"--node-rank={number}", *run],
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "HOST": host},
        )
        for number, host in enumerate(hosts)
    ]


def test_a_cut_cable_ends_both_hosts_and_the_same_command_resumes(hosts: list[str], train) -> None:
    one = train("one", *EXACT)
    for process in start(hosts, "whole"):
        assert process.wait(LONG) == 0, process.communicate()[1]
    whole = newest("whole")
    for key, value in one["model"].items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(whole["model"][key], value, rtol=0, atol=1e-9)

    Path("hold").touch()
    processes = start(hosts, "cut")
    deadline = time.monotonic() + LONG
    while not Path("held").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    ip("-n", hosts[1], "link", "set", "eth0", "down")
    Path("hold").unlink()
    for process in processes:
        _, printed = process.communicate(timeout=LONG)
        assert process.returncode
        (line,) = [line for line in printed.splitlines() if line.startswith("gantrain: ")]
        for words in ("lost connection", "did not answer", "run the same command to resume"):
            assert words in line
    assert newest("cut")["step"] == 4

    ip("-n", hosts[1], "link", "set", "eth0", "up")
    for process in start(hosts, "cut"):
        assert process.wait(LONG) == 0, process.communicate()[1]
    again = newest("cut")
    for key in ("step", "position", "model", "updates", "ranks"):
        assert_same_bits(again[key], whole[key], key)
