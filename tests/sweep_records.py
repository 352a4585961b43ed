"""Sweeps of short runs, and the records of the runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import TINY

SHORT = [*TINY, "trainer.steps=2", "trainer.log_every=1"]


def jobs(key: str = "seed") -> dict[str, dict[str, Any]]:
    """The records of the only sweep by their values of a key, such as ``seed-3``."""
    (folder,) = Path("checkpoints/sweeps").iterdir()
    records = [json.loads(path.read_text()) for path in (folder / "jobs").glob("*.json")]
    last = key.rpartition(".")[2]
    return {
        f"{last}-{next(word.partition('=')[2] for word in record['overrides'] if word.startswith(f'{key}='))}": record
        for record in records
    }
