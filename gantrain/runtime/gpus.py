"""One GPU for each of several runs on one machine."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

if sys.platform != "win32":  # where processes share what there is
    import fcntl

CLAIM = "GANTRAIN_GPU"  # the environment variable of a process that has its own


def visible_gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` may name here, one by one."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def claim_gpu(gpus: Sequence[str], number: int) -> None:
    """Leave this process one GPU, for as long as it lives: one that no other process has claimed.

    Where there is none such, it shares one. It must come before CUDA is used.

    Args:
        gpus: As ``visible_gpus`` has them.
        number: Of the run, by which the GPUs are shared.
    """
    if CLAIM in os.environ or len(gpus) < 2:
        return
    chosen = next((gpu for gpu in gpus if _lock(gpu)), gpus[number % len(gpus)])
    os.environ[CLAIM] = os.environ["CUDA_VISIBLE_DEVICES"] = chosen


def _lock(gpu: str) -> bool:
    """Whether this process has it for itself now. The file stays open: the lock goes with the process."""
    if sys.platform == "win32":
        return False
    folder = Path(tempfile.gettempdir()) / f"gantrain-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = os.open(folder / gpu.replace("/", "_"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return False
    return True
