"""Free memory is the least of what the machine and the limits of groups leave; peak memory is that since a reset."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gantrain.runtime import memory

MIB = 2**20


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 1,000 MiB, in whose folders tests write limits."""
    monkeypatch.setattr(memory, "PROC", Path("proc"))
    monkeypatch.setattr(memory, "CGROUPS", Path("groups"))
    write("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:  1024000 kB\n")
    write("proc/self/status", "VmSize: 1 kB\n")
    write("proc/self/cgroup", "0::/jobs/7\n")


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def limit(group: str, most: str, used: int, cached: int) -> None:
    write(f"groups/{group}/memory.max", f"{most}\n")
    write(f"groups/{group}/memory.current", f"{used}\n")
    write(f"groups/{group}/memory.stat", f"anon 1\ninactive_file {cached}\n")


@pytest.mark.usefixtures("machine")
def test_without_limits_it_is_what_the_machine_has() -> None:
    limit("jobs/7", "max", 5, 0)
    assert memory.free_memory() == 1000 * MIB


@pytest.mark.parametrize("group", ["jobs/7", "jobs", "."])
@pytest.mark.usefixtures("machine")
def test_the_limit_of_any_enclosing_group_counts_without_its_cache(group: str) -> None:
    limit(group, str(300 * MIB), 100 * MIB, 40 * MIB)
    assert memory.free_memory() == 240 * MIB


@pytest.mark.usefixtures("machine")
def test_older_kernels_limits_count_too() -> None:
    write("proc/self/cgroup", "11:memory:/job\n3:cpu,cpuacct:/job\n")
    write("groups/memory/job/memory.limit_in_bytes", str(200 * MIB))
    write("groups/memory/job/memory.usage_in_bytes", str(190 * MIB))
    write("groups/memory/job/memory.stat", f"total_inactive_file {50 * MIB}\n")
    assert memory.free_memory() == 60 * MIB


@pytest.mark.usefixtures("machine")
def test_a_full_group_leaves_nothing_and_unknown_devices_are_not_guessed() -> None:
    limit("jobs/7", "100", 200, 0)
    assert memory.free_memory() == 0
    assert memory.free_on(torch.device("mps")) is None
    assert memory.free_on(torch.device("cpu")) == 0
    Path("proc/meminfo").unlink()
    assert memory.free_memory() > 10 * MIB  # Half of what is installed.


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset it")
def test_peak_memory_is_that_since_it_was_reset() -> None:
    cpu = torch.device("cpu")
    large = torch.ones(256 * MIB, dtype=torch.uint8)
    before = memory.peak_memory(cpu)
    del large
    memory.reset_peak_memory(cpu)
    assert memory.peak_memory(cpu) < before - 200 * MIB
    torch.ones(128 * MIB, dtype=torch.uint8)
    assert before - 200 * MIB < memory.peak_memory(cpu) < before - 80 * MIB
