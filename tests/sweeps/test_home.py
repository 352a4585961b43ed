"""The page of all runs after any command."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from pages import data_of
from run_folders import make_run

from gantrain.cli.main import main
from gantrain.report.pages import home_page
from gantrain.report.pages.home_page import write_home
from gantrain.report.pages.page import write_data
from gantrain.sweeps.home import refresh_home

RUNS = Path("checkpoints")
DATA = RUNS / "index_files/data/runs.js"


def names() -> set[str]:
    return {card["name"] for card in data_of(RUNS, "runs")}


@pytest.fixture
def home() -> Path:
    """A page of two runs, which is newer than they are."""
    for name in ("one", "two"):
        make_run(name)
    write_home(RUNS)
    for path in (RUNS, *RUNS.rglob("status.js")):
        os.utime(path, (100.0, 100.0))
    return RUNS


@pytest.mark.parametrize("command", [["list"], ["data"], ["runs"], ["compare", "nowhere"], ["test", "run=nowhere"]])
def test_every_command_refreshes_the_page(command: list[str], home: Path) -> None:
    shutil.rmtree(home / "one")
    (home / "two").rename(home / "renamed")
    make_run("new")
    main(command)
    assert names() == {"renamed", "new"}


def test_a_changed_run_is_seen_too(home: Path) -> None:
    write_data(home / "two", "status", {"state": "crashed", "opened": 5.0})
    os.utime(home, (100.0, 100.0))
    refresh_home([])
    assert {card["state"] for card in data_of(home, "runs")} == {"done", "unknown", "crashed"} - {"done"}


def test_a_page_that_is_up_to_date_is_not_written(home: Path, monkeypatch) -> None:
    monkeypatch.setattr(home_page, "write_home", lambda _: pytest.fail("written"))
    refresh_home([])


def test_without_a_page_and_in_a_rank_nothing_is_written(home: Path, monkeypatch) -> None:
    shutil.rmtree(home / "one")
    refresh_home(["checkpoints_dir=elsewhere"])
    with monkeypatch.context() as patch:
        patch.setenv("RANK", "0")
        refresh_home([])
    (home / "index.html").unlink()
    refresh_home([])
    assert names() == {"one", "two"}
    assert not Path("elsewhere").exists()


def test_the_folder_of_all_runs_is_that_of_the_command(home: Path) -> None:
    home.rename("elsewhere")
    shutil.rmtree("elsewhere/one")
    refresh_home(["run=two", "checkpoints_dir='elsewhere'"])
    assert {card["name"] for card in data_of(Path("elsewhere"), "runs")} == {"two"}
