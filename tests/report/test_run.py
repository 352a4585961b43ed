"""The report of a run: speed, hints on waiting for data, and the state of its page."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pages import data_of

from gantrain.report import Report, run
from gantrain.report.pages.home_page import write_home
from gantrain.report.pages.page import DATA, read_data
from gantrain.report.pages.training_page import ABOUT
from gantrain.report.stalls import DataStallMonitor, PauseMonitor

ADVICE = "data.num_workers=4 (now 1; this process may use 4 cores)"
HINT = f"set {ADVICE}"


class Drive:
    """A report on a simulated clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, advice: str = ADVICE, active: bool = True) -> None:
        self.now = self.waited = 0.0
        self.step = 0
        monkeypatch.setattr(run, "time", SimpleNamespace(perf_counter=lambda: self.now, time=lambda: self.now))
        self.report = Report(
            Path("run"), command="", config={}, columns=None, loggers={}, advice=lambda: advice, active=active
        )
        self.report.open(0, done=0, total=1000, unit="step")
        self.line(10.0, 0.0)

    def line(self, seconds: float, share: float) -> None:
        self.now += seconds
        self.waited += share * seconds
        self.step += 1
        self.report.log(step=self.step, epoch=0.0, images=self.step * 1000, losses={"loss": 1.0}, waited=self.waited)


def test_the_defaults_are_composed_when_the_page_is_opened_and_once() -> None:
    composed: list[dict[str, Any]] = []

    def defaults() -> dict[str, Any]:
        composed.append({"seed": 1})
        return composed[0]

    report = Report(
        Path("run"), command="", config={}, columns=None, loggers={}, advice=str, active=True, defaults=defaults
    )
    assert not composed
    for _ in range(2):
        report.open(0, done=0, total=10, unit="step")
    assert len(composed) == 1
    assert read_data(Path("run"), "about", ABOUT)["defaults"] == {"seed": 1}


@pytest.mark.parametrize(("share", "shown"), [(0.12, "data=12%"), (0.02, "data=2%"), (0.01, None), (0.0, None)])
def test_the_progress_bar_shows_noticeable_waiting(share: float, shown: str | None, monkeypatch) -> None:
    drive = Drive(monkeypatch)
    assert drive.report._bar.postfix == "loss=1.000"  # The first line has no speed yet.
    drive.line(10.0, share)
    postfix = drive.report._bar.postfix.split(", ")
    assert postfix == [*([shown] if shown else []), "loss=1.000", "img/s=100"]


def test_speed_and_waiting_are_logged_line_by_line(monkeypatch) -> None:
    drive = Drive(monkeypatch)
    for seconds, share in ((10.0, 0.25), (4.0, 0.5)):
        drive.line(seconds, share)
    lines = [json.loads(line) for line in Path("run/speed.jsonl").read_text().splitlines()]
    assert [(line["images_per_second"], line["data_wait"]) for line in lines] == [(100.0, 0.25), (250.0, 0.5)]


def hints(capfd) -> int:
    return capfd.readouterr().err.count(HINT)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([(10.0, 0.2)] * 6, 1),  # six lines, a minute
        ([(9.9, 0.2)] * 6, 0),  # not a minute yet
        ([(30.0, 0.2)] * 5, 0),  # only five lines
        ([(10.0, 0.1)] * 30, 0),  # exactly a tenth
        ([(10.0, 0.2)] * 5 + [(10.0, 0.05)] + [(10.0, 0.2)] * 5, 0),  # interrupted
        ([(30.0, 0.2)] * 3 + [(30.0, 0.05)] + [(30.0, 0.2)] * 3, 0),
        ([(10.0, 0.2)] * 5 + [(10.0, 0.05)] + [(10.0, 0.2)] * 6, 1),
        ([(10.0, 0.2)] * 20 + [(10.0, 0.0)] + [(10.0, 0.2)] * 20, 1),  # It is reported once.
    ],
)
def test_long_waiting_gets_one_hint(lines: list[tuple[float, float]], expected: int, monkeypatch, capfd) -> None:
    drive = Drive(monkeypatch)
    for seconds, share in lines:
        drive.line(seconds, share)
    assert hints(capfd) == expected


def test_the_hint_reports_the_waiting_time_and_what_to_change(monkeypatch, capfd) -> None:
    drive = Drive(monkeypatch)
    for _ in range(6):
        drive.line(10.0, 0.34)
    (line,) = [line for line in capfd.readouterr().err.replace("\r", "\n").splitlines() if HINT in line]
    assert "34%" in line


@pytest.mark.parametrize("keys", [{"advice": ""}, {"active": False}])
def test_no_hint_without_advice_or_on_other_ranks(keys: dict[str, Any], monkeypatch, capfd) -> None:
    drive = Drive(monkeypatch, **keys)
    for _ in range(10):
        drive.line(10.0, 0.5)
    drive.report.say(["warning"] if "active" in keys else [])
    output = capfd.readouterr().err
    assert "waits for data" not in output
    assert "warning" not in output


def test_a_data_stall_is_reported_once() -> None:
    waiting = DataStallMonitor()
    reports = [waiting.is_too_long(0.2, 25.0) for _ in range(8)]
    assert reports == [False] * 5 + [True, False, False]


def test_an_error_ends_the_line_of_the_progress_bar(monkeypatch, capfd) -> None:
    drive = Drive(monkeypatch)
    with pytest.raises(KeyError), drive.report:
        raise KeyError
    assert capfd.readouterr().err.endswith("\n")


@pytest.mark.parametrize(
    "status", ["5", "null", "[1]", "{}", '{"state":"done"}', '{"state":"done","opened":null}', "half a li"]
)
def test_the_status_of_another_version_is_unknown(status: str) -> None:
    folder = Path("checkpoints/old")
    (folder / DATA).mkdir(parents=True)
    (folder / "config.yaml").touch()
    (folder / DATA / "status.js").write_text(f'gantrain.data("status", {status});')
    write_home(folder.parent)
    (card,) = data_of(folder.parent, "runs")
    assert (card["name"], card["state"]) == ("old", "unknown")


def test_finish_finds_a_moved_run_and_restores_a_lost_page() -> None:
    def report(name: str) -> Report:
        folder = Path("checkpoints") / name
        folder.mkdir(parents=True, exist_ok=True)
        keys: dict[str, Any] = {"columns": None, "loggers": {}, "advice": lambda: "", "active": True}
        return Report(folder, command="", config={}, home=folder.parent, **keys)

    length: dict[str, Any] = {"total": 10, "unit": "step"}
    report("one").open(0, done=0, **length)
    report("one").finish(10, done=10, **length)
    (before,) = data_of(Path("checkpoints"), "runs")
    Path("checkpoints/one").rename("checkpoints/two")
    report("two").finish(10, done=10, **length)
    (card,) = data_of(Path("checkpoints"), "runs")
    assert (card["folder"], card["opened"]) == ("two", before["opened"])
    Path("checkpoints/two/index.html").unlink()
    report("two").finish(10, done=10, **length)
    assert "done" in Path("checkpoints/two/index.html").read_text()


def test_a_resumed_run_removes_incomplete_files(train) -> None:
    train("run", "trainer.steps=1")
    home, run = Path("checkpoints"), Path("checkpoints/run")
    places = [run, run / "index_files/uplot", run / "index_files/data"]
    left = [*(place / "file.js.123.tmp" for place in places), run / "images/step_1_samples.png.6.tmp"]
    young, old = home / "index.html.4.tmp", home / "index_files/icon.svg.5.tmp"  # of any run
    for path in (*left, young, old, run / "mine.tmp"):
        path.touch()
    os.utime(old, (0, 0))
    train("run", "trainer.steps=2")
    assert not [path for path in (*left, old) if path.exists()]
    assert young.exists()  # another process may be writing it
    assert (run / "mine.tmp").exists()


def test_a_pause_of_the_process_is_no_slow_step(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pauses = PauseMonitor()
    found = []
    for seconds in (3.0, 0.5, 2.0, 0.5, 60.0, 0.5, 15.0, 60.0):  # The first is no step; after 15 s, 60 s are possible.
        now[0] += seconds
        found.append(pauses.since_last_step())
    assert found == [0.0, 0.0, 0.0, 0.0, 58.0, 0.0, 0.0, 0.0]
