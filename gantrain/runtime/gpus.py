"""One GPU for each of several runs on one machine."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from gantrain.runtime.run_lock import try_process_lock

CLAIM = "GANTRAIN_GPU"  # The environment variable that names the GPU of a process that has claimed one.


def visible_gpus() -> list[str]:
    """The names of the GPUs that ``CUDA_VISIBLE_DEVICES`` may select here."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is not None:
        return [name.strip() for name in names.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def claim_gpu(gpus: Sequence[str], number: int) -> None:
    """Restrict this process to one of ``gpus`` that no other process has claimed, for as long as it lives.

    If all are claimed, they are shared by run ``number``. Must be called before CUDA is used.
    """
    if CLAIM in os.environ or len(gpus) < 2:
        return
    gpu = next((gpu for gpu in gpus if _claim(gpu)), gpus[number % len(gpus)])
    os.environ[CLAIM] = os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def _claim(gpu: str) -> bool:
    """Whether this process has claimed the GPU. The file stays open, as closing it would release the lock."""
    if sys.platform == "win32":
        return False
    folder = Path(tempfile.gettempdir()) / f"gantrain-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = os.open(folder / gpu.replace("/", "_"), os.O_RDWR | os.O_CREAT, 0o600)
    with suppress(OSError):
        if try_process_lock(file):
            return True
    os.close(file)
    return False
