"""Short runs that learn, and the notes of their pages."""

from __future__ import annotations

import json
from pathlib import Path

from pages import lines_of

RUN = Path("checkpoints/run")
# Long enough for a difference.
LEARNING = ["data.load_size=16", "data.batch_size=16", "network.width=16", "metrics=none", "trainer.accelerator=cpu"]


def notes() -> list[str]:
    """What was found, by the first words."""
    path = RUN / "notes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    assert lines == lines_of(RUN, "notes")
    return [line["note"].split(":")[0] for line in lines]
