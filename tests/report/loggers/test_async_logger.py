"""Loggers run in threads of their own and can neither slow nor stop a run."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from conftest import TINY
from pages import logged_lines
from PIL import Image

from gantrain.cli.main import main
from gantrain.registry import LOGGERS
from gantrain.report.loggers import AsyncLogger, Logger, async_logger, end_all

OFTEN = ["trainer.log_every=2", "trainer.image_every=4"]


class Recorder(Logger):
    """Records its calls; waits or fails in a chosen one."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.was_called = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.fails = False

    def _take(self, *call: Any) -> None:
        self.was_called.set()
        self.may_go_on.wait()
        self.calls.append(call)
        if self.fails:
            raise RuntimeError("no\nmore")

    def begin(self, step: int, settings: Any, lines: Any) -> None:
        self._take("begin", step, list(lines))

    def scalars(self, step: int, values: Any) -> None:
        self._take("scalars", step, values)

    def image(self, step: int, name: str, image: Image.Image) -> None:
        self._take("image", step, name)

    def end(self, status: str) -> None:
        self._take("end", status)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The logger that ``+logger.mine={name: mine}`` chooses."""
    made = Recorder()
    monkeypatch.setitem(LOGGERS._classes, "mine", lambda: made)
    return made


MINE = "+logger.mine={name: mine}"


def test_a_logger_receives_a_run_in_order(recorder, train) -> None:
    train("run", MINE, "trainer.steps=4", *OFTEN)
    assert [call[:2] for call in recorder.calls] == [
        ("begin", 0),
        ("scalars", 2),
        ("scalars", 4),
        ("image", 4),
        ("end", "done"),
    ]
    recorder.calls.clear()
    train("run", MINE, "trainer.steps=6", *OFTEN)
    assert recorder.calls[0] == ("begin", 4, logged_lines("run")[:2])
    assert [call[1] for call in recorder.calls[1:-1] if call[0] == "scalars"] == [6]


def test_a_failing_logger_costs_one_warning(recorder, train, capsys) -> None:
    recorder.fails = True
    assert train("run", MINE, "trainer.steps=6", *OFTEN)["step"] == 6
    assert recorder.calls[-1] == ("end", "done")  # It has had enough time.
    shown = capsys.readouterr().err
    assert shown.count("warning") == 1
    assert "warning: logger mine: no; training continues" in shown


def test_a_hanging_logger_delays_neither_a_run_nor_its_end(recorder, train, capsys, monkeypatch) -> None:
    monkeypatch.setattr(async_logger, "END_TIMEOUT", 0.1)
    monkeypatch.setattr(async_logger, "MAX_CALLS", 3)
    recorder.may_go_on.clear()
    assert train("run", MINE, "trainer.steps=12", *OFTEN)["step"] == 12
    assert recorder.calls == []
    assert capsys.readouterr().err.count("warning: logger mine: is too slow") == 1
    recorder.may_go_on.set()


def test_loggers_end_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=async_logger.END_TIMEOUT)

    class Ends(Recorder):
        def end(self, status: str) -> None:
            both.wait()

    posts = [served(Ends()) for _ in range(2)]
    for post, _ in posts:
        post.begin(0, {}, [])
    end_all([post for post, _ in posts], "done")
    assert [warnings for _, warnings in posts] == [[], []]


def test_loggers_receive_the_reason_of_a_crash(recorder, capsys) -> None:
    typed = [*TINY, MINE, "name=run", "optimizer.lr=1e30", "trainer.steps=50", "trainer.log_every=1"]
    assert main(["train", *typed]) == 2
    kind, status = recorder.calls[-1]
    assert kind == "end"
    assert status.startswith("crashed: ")


def served(logger: Logger) -> tuple[AsyncLogger, list[str]]:
    warnings: list[str] = []
    return AsyncLogger("mine", logger, warnings.extend), warnings


def test_a_logger_that_exits_its_thread_costs_one_warning() -> None:
    class Exits(Recorder):
        def scalars(self, step: int, values: Mapping[str, float]) -> None:
            raise SystemExit("no key")

    recorder = Exits()
    post, warnings = served(recorder)
    post.begin(0, {}, [])
    post.scalars(1, {"g": 1.0})
    post.end("done")
    assert recorder.calls[-1] == ("end", "done")
    assert warnings == ["warning: logger mine: no key; training continues"]


def test_the_number_of_waiting_images_is_limited() -> None:
    recorder = Recorder()
    recorder.may_go_on.clear()
    post, warnings = served(recorder)
    post.begin(0, {}, [])
    for step in range(50):
        post.image(step, "samples", Image.new("L", (1, 1)))
    recorder.may_go_on.set()
    post.end("done")
    assert [call[1] for call in recorder.calls if call[0] == "image"] == list(range(async_logger.MAX_IMAGES))
    assert len(warnings) == 1
    post.begin(0, {}, [])  # The same number again, after those were processed.
    post.image(50, "samples", Image.new("L", (1, 1)))
    post.end("done")
    assert recorder.calls[-2] == ("image", 50, "samples")


def test_the_queue_is_cleared_when_a_run_returns_to_an_earlier_step() -> None:
    recorder = Recorder()
    recorder.may_go_on.clear()
    post, warnings = served(recorder)
    post.begin(0, {}, [])
    recorder.was_called.wait()
    post.image(4, "samples", Image.new("L", (1, 1)))
    post.image(8, "samples", Image.new("L", (1, 1)))
    for step in range(1, 2000):  # More than the queue holds.
        post.scalars(step, {"g": 1.0})
    post.begin(5, {}, [{"step": 5, "g": 1.0}])
    post.scalars(6, {"g": 2.0})
    recorder.may_go_on.set()
    post.end("done")
    expected = [("begin", 0), ("begin", 5), ("image", 4), ("scalars", 6), ("end", "done")]
    assert [call[:2] for call in recorder.calls] == expected
    assert len(warnings) == 1
