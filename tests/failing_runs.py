"""Training runs of tests that diverge or are killed, and what they leave."""

from __future__ import annotations

import math

import pytest
from conftest import TINY
from pages import data_of

from gantrain.data.base import Batch
from gantrain.data.stream import BatchStream

RUN = ["train", *TINY, "name=run", "trainer.log_every=2"]


def assert_crashed(reason: str) -> None:
    """The page shows that the run crashed, and why."""
    status = data_of("checkpoints/run", "status")
    assert status["state"] == "crashed"
    assert status["reason"].startswith(reason)


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


class Poisoned:
    """Makes one batch of the stream nan, until the run has rolled back ``until`` times."""

    def __init__(self, position: int, *, until: int = 1) -> None:
        self.position, self.until = position, until
        self.names: list[str] = []

    def __enter__(self) -> Poisoned:
        self._patch = pytest.MonkeyPatch()
        draw, poisoned = BatchStream.__next__, self

        def bad(stream: BatchStream) -> Batch:
            batch = draw(stream)
            if stream.position == poisoned.position and stream.rollbacks < poisoned.until:
                batch["image"].mul_(math.nan)
                poisoned.names = batch.get("name", [])
            return batch

        self._patch.setattr(BatchStream, "__next__", bad)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


class KilledError(BaseException):
    """Ends a run in this process as abruptly as SIGKILL would."""
