"""``gantrain runs``: what it lists, removes, renames and writes anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import data_of
from run_folders import job, make_run

from gantrain.cli.main import main
from gantrain.errors import ConfigError
from gantrain.report.log import TABLES
from gantrain.report.pages.page import read_status, write_data
from gantrain.runtime import run_lock
from gantrain.sweeps import runs as module
from gantrain.sweeps.runs import duration
from gantrain.sweeps.runs import main as runs
from gantrain.sweeps.sweep import read_jobs

RUNS = Path("checkpoints")


def answers(text: str) -> Callable[[str], str]:
    return lambda _: text


def test_runs_are_listed_with_their_state_and_time_newest_last(capsys) -> None:
    for name, opened, ran in (("late", 7000.0, 3600.0), ("early", 1000.0, 0.0)):
        folder = make_run(name)
        status = {"state": "done", "step": 1234, "opened": opened, "time": opened + 120, "ran": ran}
        write_data(folder, "status", status)
    write_data(make_run("dead"), "status", {"state": "running", "opened": 1.0, "time": 2.0})
    assert main(["runs"]) == 0
    dead, early, late = capsys.readouterr().out.splitlines()
    assert dead.split()[2:] == ["killed", "1", "s", "dead"]
    assert early.split()[2:] == ["done", "step", "1,234", "2", "min", "early"]
    assert late.split()[2:] == ["done", "step", "1,234", "1", "h", "2", "min", "late"]
    assert main(["runs", "list", "checkpoints_dir=nowhere"]) == 0
    assert capsys.readouterr().out == "no runs in nowhere\n"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.0, "59 s"), (60, "1 min"), (7260, "2 h 1 min")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("answer", "removed"), [("y", True), ("YES", True), ("n", False), ("", False), ("all", False)])
def test_runs_are_removed_after_a_question(answer: str, removed: bool) -> None:
    for name in ("one", "two", "three"):
        make_run(name)
    assert runs(["remove", "one", "checkpoints/two"], ask=answers(answer)) == (0 if removed else 1)
    assert [(RUNS / name).exists() for name in ("one", "two", "three")] == [not removed, not removed, True]
    if removed:
        assert [card["name"] for card in data_of(RUNS, "runs")] == ["three"]


def test_a_run_is_removed_without_a_question_only_by_yes(capsys, monkeypatch) -> None:
    def closed(_: str) -> str:
        raise EOFError

    make_run("one")
    assert runs(["remove", "one"], ask=closed) == 1
    assert "--yes" in capsys.readouterr().err
    assert (RUNS / "one").exists()
    assert runs(["remove", "one", "--yes"], ask=closed) == 0
    assert not (RUNS / "one").exists()


def test_a_linked_run_is_unlinked_and_its_files_stay() -> None:
    shutil.move(make_run("one"), "elsewhere")
    (RUNS / "one").symlink_to(Path("elsewhere").absolute())
    assert runs(["remove", "one", "--yes"]) == 0
    assert not (RUNS / "one").is_symlink()
    assert Path("elsewhere/config.yaml").exists()


def test_removed_and_renamed_runs_leave_and_stay_in_their_sweep() -> None:
    for name in ("one", "two", "three"):
        make_run(name)
        job(name, "seed=1")
    assert runs(["remove", "one", "--yes"]) == 0
    assert runs(["rename", "two", "best so far"]) == 0
    sweep = RUNS / "sweeps/mine"
    assert [record["run"] for record in read_jobs(sweep)] == ["best so far", "three"]
    assert {row["run"] for row in json.loads((sweep / "runs.json").read_text())["runs"]} == {"best so far", "three"}
    assert (RUNS / "best so far/losses.jsonl").exists()
    assert {(card["name"], card["sweep"]) for card in data_of(RUNS, "runs")} == {
        ("best so far", "mine"),
        ("three", "mine"),
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["remove", "tow"], "tow: no run in checkpoints; did you mean 'two'"),
        (["rename", "one", "two"], "checkpoints/two exists: give another name"),
        (["rename", "one", "a/b"], "a/b: give a name"),
        (["rename", "one", "sweeps"], "sweeps: give a name"),
        (["rename", "one", ".."], "give a name"),
        (["rename", "one", "x" * 300], "give a name"),
        (["rename", "one"], "expected gantrain runs rename RUN NAME"),
        (["remove"], "expected gantrain runs remove RUN"),
        (["list", "one"], "one: expected"),
        (["delete", "one"], "no command 'runs delete'"),
        (["remove", "one", "--force"], "--force"),
    ],
)
def test_mistakes_change_nothing_and_name_what_would_work(words: list[str], message: str) -> None:
    for name in ("one", "two"):
        make_run(name)
    with pytest.raises(ConfigError) as refused:
        runs([*words, *(["--yes"] if words[0] == "remove" else [])])
    assert message in str(refused.value)
    assert (RUNS / "one/config.yaml").exists()
    assert (RUNS / "two/config.yaml").exists()


@pytest.mark.parametrize("words", [["remove", "one", "--yes"], ["rename", "one", "other"]])
def test_a_run_that_is_being_trained_is_neither_removed_nor_renamed(words: list[str], monkeypatch) -> None:
    make_run("one")
    monkeypatch.setattr(module, "is_locked", lambda folder: folder.name == "one")
    with pytest.raises(ConfigError, match="checkpoints/one is being trained"):
        runs(words)
    assert (RUNS / "one").exists()
    assert run_lock.is_locked(RUNS / "one") is False


def test_pages_are_written_anew_from_what_the_run_has_stored(train) -> None:
    train("run", "trainer.steps=4", "trainer.log_every=2", "trainer.image_every=2")
    folder = RUNS / "run"
    page, status = (folder / "index.html").read_text(), read_status(folder)
    for name in ("index.html", "index_files/data/log_0.js", "index_files/page.css"):
        (folder / name).unlink()
    (folder / "metrics.jsonl").write_text('{"step": 4, "fid": 1.5, "protocol": "digits"}\n')
    (folder / "notes.jsonl").write_text('{"step": 4, "note": "mode collapse"}\n')
    assert runs(["pages"]) == 0
    assert (folder / "index.html").read_text() == page
    assert read_status(folder) == {**status, "lines": status["lines"] + 2}
    log = (folder / "index_files/data/log_0.js").read_text()
    assert all(f'gantrain.line("{table}"' in log for table in TABLES)
    assert (folder / "index_files/page.css").exists()
    assert runs(["rename", "run", "other"]) == 0
    assert (RUNS / "other/index.html").read_text() == page.replace(">run<", ">other<")


def test_a_page_whose_facts_are_unknown_is_left_as_it_is(capsys) -> None:
    folder = make_run("old")
    assert runs(["pages"]) == 0
    assert (folder / "index.html").read_text() == "a page"
    assert "0 of 1 runs" in capsys.readouterr().out
