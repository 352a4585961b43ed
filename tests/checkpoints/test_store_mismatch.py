"""Valid checkpoints of the same configuration that do not fit the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, assert_mentions

from gantrain.checkpoints import file as checkpoint_file
from gantrain.cli.main import main

Change = dict[str, Any]


def narrower(state: Change) -> Change:
    model = state["model"]
    return {"model": {key: value[..., :1] if key.endswith("weight") else value for key, value in model.items()}}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda state: {"model": {}}, "Missing key(s) in state_dict: "),
        (narrower, "size mismatch for "),
        (lambda state: {"updates": {}}, "'players'"),
        (lambda state: {"objective": {}}, "'metric'"),
        (lambda state: {"ranks": []}, ""),
        (lambda state: {"spec": {}}, ""),
    ],
    ids=["no weights", "other shapes", "no optimizers", "no objective", "no ranks", "no data"],
)
def test_a_checkpoint_of_other_contents_is_refused_in_one_line(
    changed: Any, reason: str, train: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    state = train("run", "trainer.steps=1")
    path = Path("checkpoints/run/step_1.pt")
    checkpoint_file.write({**state, **changed(state)}, path)
    before = path.read_bytes()
    capsys.readouterr()
    assert main(["train", *TINY, "name=run", "trainer.steps=2"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("gantrain: ")
    assert_mentions(message, "step 1 in checkpoints/run", f"({reason}", "another name=", "resume=never")
    assert message.count("\n") == 1
    assert path.read_bytes() == before
