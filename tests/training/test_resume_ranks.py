"""Ranks on machines with folders of their own resume from one step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from gantrain.checkpoints.store import Checkpoints
from gantrain.errors import ConfigError
from gantrain.training import resume


@pytest.mark.parametrize(
    ("own", "other", "agreed"), [([2, 4], [2, 4], None), ([4, 6, 8], [2, 4, 6], 6), ([8], [], "none"), ([8], [2], "2")]
)
def test_machines_with_folders_of_their_own_resume_from_a_common_step(own, other, agreed, monkeypatch) -> None:
    for step in own:
        Path(f"step_{step}.pt").touch()
    monkeypatch.setattr(resume.distributed, "all_gather_object", lambda item: [item, other])
    if isinstance(agreed, str):
        with pytest.raises(ConfigError, match=rf"8 on rank 0, {agreed} on rank 1.*trainer\.mirror"):
            resume._agreed_step(Checkpoints(Path()))
    else:
        assert resume._agreed_step(Checkpoints(Path())) == agreed


def test_ranks_that_read_checkpoints_of_different_steps_do_not_resume(monkeypatch) -> None:
    """As where the newest is corrupt on one of several machines with folders of their own."""
    states = iter([{"step": 4}, {"step": 4}])
    checkpoints = cast(Checkpoints, SimpleNamespace(folder="run", load=lambda step: next(states)))
    monkeypatch.setattr(resume.distributed, "all_gather_object", lambda item: [item, 4])
    assert resume._load(checkpoints, None) == {"step": 4}
    monkeypatch.setattr(resume.distributed, "all_gather_object", lambda item: [item, 2])
    with pytest.raises(ConfigError, match="step 4 on rank 0, step 2 on rank 1.*delete"):
        resume._load(checkpoints, None)
