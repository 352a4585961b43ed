"""Functions of test modules as two ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch


def as_two_ranks(file: str) -> list[Any]:
    """Run ``work()`` of a test module in two processes, started by torchrun; return what each saves, by rank."""
    path = Path(file)
    Path("work.py").write_text(f"from {path.stem} import work\nwork()\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "work.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(path.parent), *sys.path])}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    return [torch.load(f"rank_{rank}.pt", weights_only=True) for rank in (0, 1)]
