"""How much memory a process may still take, and how much it has taken at most."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

import torch

if sys.platform != "win32":
    import resource

CGROUPS, PROC = Path("/sys/fs/cgroup"), Path("/proc")


def free_memory() -> int:
    """Bytes that this process can allocate without swapping.

    This is the least of what the machine has, and what the limits of the process (``ulimit -v``) and of its control
    groups (of a container or a batch job) leave. On other systems than Linux, half of the installed memory.
    """
    with suppress(OSError, ValueError):
        left = [1024 * _number(PROC / "meminfo", "MemAvailable:"), *_left_in_groups()]
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            left.append(limit - 1024 * _number(PROC / "self/status", "VmSize:"))
        return max(0, min(left))
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def free_on(device: torch.device) -> int | None:
    """Bytes that this process may still take on a device; None if unknown."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    return free_memory() if device.type == "cpu" else None


def reset_peak_memory(device: torch.device) -> None:
    """Start to measure ``peak_memory`` anew; on the CPU, only Linux can do so."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            (PROC / "self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """The most bytes that were in use: of torch's tensors on a GPU, or else by this process; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError, ValueError):
        return 1024 * _number(PROC / "self/status", "VmHWM:")
    if sys.platform == "win32":
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _left_in_groups() -> list[int]:
    """What the limits of the control groups of this process leave, in either version of the kernel's interface."""
    left: list[int] = []
    for line in (PROC / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, names = (CGROUPS, ("memory.max", "memory.current", "inactive_file"))
        if controllers:
            top, names = (
                CGROUPS / "memory",
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            )
        folder = top / path.strip("/")
        # In a container, the path may be one of the host's.
        for group in {folder, *(parent for parent in folder.parents if parent.is_relative_to(top))}:
            with suppress(OSError, ValueError):
                limit, used = (int((group / name).read_text()) for name in names[:2])  # Without a limit: "max".
                left.append(limit - used + _number(group / "memory.stat", names[2]))
    return left


def _number(path: Path, key: str) -> int:
    """The number that follows ``key`` at the start of a line; a ValueError if there is none."""
    found = re.search(rf"^{key}\s+(\d+)", path.read_text(), re.MULTILINE)
    return int(found[1] if found else "")
