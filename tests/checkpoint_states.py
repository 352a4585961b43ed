"""States of runs that tests store as checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gantrain.checkpoints.store import Checkpoints

STATE = ("step", "position", "origin", "plan", "model", "updates", "ranks")


def state_of(checkpoint: dict) -> dict:
    """The parts of a checkpoint that decide how a run goes on."""
    return {key: checkpoint[key] for key in STATE}


def state_at(step: int) -> dict[str, Any]:
    """The smallest valid state of a run, with tensors of several types."""
    numbers = torch.arange(5) + step
    return {
        "step": step,
        "position": 3 * step,
        "origin": {"number": 0, "images": 0, "epochs": 0.0},
        "plan": {"unit": "step", "start": 0, "end": 9, "last": 0.0},
        "segments": [{"step": 0, "command": "gantrain train seed=1", "changes": {}}],
        "rollbacks": 0,
        "images": 7,
        "fingerprint": "f",
        "overrides": ["seed=1"],
        "ranks": [{"means": {}, "pool": (torch.full((3,), float(step)),)}],
        "config": {"name": "run"},
        "spec": {},
        "model": {"weight": numbers.float(), "half": numbers.bfloat16(), "none": numbers[:0], "number": numbers[0]},
        "updates": {"averages": None, "lists": [[torch.ones(2, dtype=torch.bfloat16)]], "bytes": numbers.byte()},
        "objective": {"metric": None},
    }


@pytest.fixture
def run_folder() -> Path:
    """An empty run folder."""
    Path("run").mkdir()
    return Path("run")


def saved(checkpoints: Checkpoints, *steps: int, best: int | None = None) -> Checkpoints:
    """Save states of these steps, and wait until they are written."""
    for step in steps:
        checkpoints.save(state_at(step), best=step == best)
    checkpoints.wait()
    return checkpoints


def corrupt(path: Path) -> None:
    """Change a byte of a file, but not of its hard links."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
