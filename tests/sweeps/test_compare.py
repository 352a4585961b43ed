"""Comparing runs: the settings that differ, the metrics, and the page, the table and the record."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pages import data_of
from run_folders import job, make_run

from gantrain.cli.main import main
from gantrain.report.pages.page import write_data
from gantrain.sweeps.compare import differing
from gantrain.sweeps.summary import Run, read_run

# ---- differences


def runs(*settings: dict[str, Any], typed: list[dict[str, str]] | None = None) -> list[Run]:
    return [
        Run(f"r{n}", Path(f"r{n}"), "done", "", settings={"name": f"r{n}", **each}, typed=typed[n] if typed else None)
        for n, each in enumerate(settings)
    ]


def test_settings_that_follow_from_a_choice_are_listed_separately() -> None:
    both = {"model.loss": "logistic", "trainer.steps": 5}
    some = runs(
        {"optimizer.lr": 1e-4, "model.name": "dcgan", "model.clip": 0, "seed": 0, **both},
        {"optimizer.lr": 2e-4, "model.name": "dcgan", "model.clip": 0, "seed": 0, **both},
        {"optimizer.lr": 1e-4, "model.name": "wgan", "model.clip": 0.01, "seed": 1, **both},
    )
    main, further = differing(some)
    assert main == {"model.name": ["dcgan", "dcgan", "wgan"], "optimizer.lr": [1e-4, 2e-4, 1e-4], "seed": [0, 0, 1]}
    assert further == {"model.clip": [0, 0, 0.01]}


def test_the_typed_settings_of_a_sweep_are_the_main_ones() -> None:
    some = runs(
        {"optimizer.lr": 1e-4, "optimizer.discriminator_lr": 1e-4, "model.name": "dcgan", "model.clip": 0},
        {"optimizer.lr": 2e-4, "optimizer.discriminator_lr": 2e-4, "model.name": "wgan", "model.clip": 1},
        {},  # It crashed before it had a folder.
        typed=[
            {"optimizer.lr": "1e-4", "model": "dcgan", "trainer.steps": "5"},
            {"optimizer.lr": "0.0002", "model": "wgan", "trainer.steps": "5", "logger": "csv"},
            {"optimizer.lr": "3e-4", "model": "dcgn", "trainer.steps": "5"},
        ],
    )
    main, further = differing(some)
    assert main == {"optimizer.lr": [1e-4, 2e-4, "3e-4"], "model": ["dcgan", "wgan", "dcgn"]}
    assert further == {"optimizer.discriminator_lr": [1e-4, 2e-4, None], "model.clip": [0, 1, None]}


def test_settings_typed_for_some_runs_are_compared_in_all() -> None:
    some = runs(
        {"seed": 0, "model.name": "dcgan"},
        {"seed": 1, "model.name": "wgan"},
        typed=[{}, {"seed": "1", "model": "wgan"}],
    )
    assert differing(some)[0] == {"seed": [0, 1], "model": ["dcgan", "wgan"]}


# ---- output


def test_the_table_the_record_and_the_page_agree(capsys) -> None:
    make_run("one")
    make_run("two", **{"optimizer.lr": 1e-3}, losses=[{"g": 4.0}], measured=[{"fid": 30.0}])
    assert main(["compare", "checkpoints/one", "two", "out=side"]) == 0
    assert "Page: side/index.html" in capsys.readouterr().err
    with Path("side/runs.csv").open(newline="") as file:
        one, two = csv.DictReader(file)
    assert (one["run"], one["optimizer.lr"], one["final g"], one["final fid"]) == ("one", "0.0002", "1.5", "")
    assert "best g" not in one  # A low loss of the generator is no sign of quality.
    assert (two["run"], two["optimizer.lr"], two["final g"], two["best fid"]) == ("two", "0.001", "4.0", "30.0")
    record = json.loads(Path("side/runs.json").read_text())
    assert record["differ"] == ["optimizer.lr"]
    assert [run["metrics"]["g"] for run in record["runs"]] == [{"final": 1.5}, {"final": 4.0}]
    assert "gantrain compare checkpoints/one two out=side" in Path("side/index.html").read_text()
    shown = data_of(Path("side"), "comparison")
    assert [(run["folder"], run["has_page"]) for run in shown["runs"]] == [
        ("../checkpoints/one", True),
        ("../checkpoints/two", True),
    ]
    assert (shown["differ"], shown["runs"][1]["metrics"]["fid"]["best"]) == (["optimizer.lr"], 30.0)


def test_a_sweep_is_compared_in_its_folder_with_crashed_runs(capsys) -> None:
    make_run("one")
    job("one", "seed=0")
    job("gone", "seed=1", status="crashed", message="no <b>data</b> & no hope")
    assert main(["compare", "checkpoints/sweeps/mine"]) == 0
    assert "gantrain train -m ..." in Path("checkpoints/sweeps/mine/index.html").read_text()
    gone, one = data_of(Path("checkpoints/sweeps/mine"), "comparison")["runs"]
    assert (gone["message"], gone["has_page"]) == ("no <b>data</b> & no hope", False)
    assert (one["folder"], one["has_page"]) == ("../../one", True)
    record = json.loads(Path("checkpoints/sweeps/mine/runs.json").read_text())
    assert [(run["run"], run["status"]) for run in record["runs"]] == [("gone", "crashed"), ("one", "done")]
    assert main(["compare", "mine", "one", "out=more"]) == 0
    assert len(json.loads(Path("more/runs.json").read_text())["runs"]) == 2  # The sweep contains "one".


def test_names_are_escaped_and_linked() -> None:
    names = ["a b", "a#b%20", "<script>alert(1)</script>", "ü'\"&", "l\nn"]
    for name in names:
        if "/" not in name:
            make_run(name)
    assert main(["compare", *(f"checkpoints/{name}" for name in names if "/" not in name)]) == 0
    shown = data_of(Path("comparison"), "comparison")["runs"]
    assert {run["name"] for run in shown} == {name for name in names if "/" not in name}
    for run in shown:
        assert (Path("comparison") / unquote(run["folder"]) / "index.html").exists()


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        (["nowhere"], ["nowhere", "no run and no sweep", "checkpoints/one"]),
        (["checkpoints/on"], ["did you mean 'checkpoints/one'?"]),
        (["checkpoints/one"], ["two runs or more"]),
        (["one", "two", "name=x"], ["name=x", "out=FOLDER"]),
        (["--fast"], ["--fast"]),
        (["one", "two", "out="], ["out=:", "out=FOLDER"]),
        (["one", "two", "out=full"], ["out=full", "other files"]),
    ],
)
def test_a_mistake_is_refused_in_one_line(typed: list[str], parts: list[str], capsys) -> None:
    make_run("one")
    make_run("two")
    Path("full").mkdir()
    Path("full/thesis.tex").touch()
    assert main(["compare", *typed]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for words in parts:
        assert words in message


@pytest.mark.parametrize("whole", [True, False])
def test_the_whole_folder_of_runs_can_be_given(whole: bool, capsys) -> None:
    write_data(make_run("one").parent, "runs", [])  # The page of all runs is in the same folder.
    Path("checkpoints/index.html").touch()
    Path("checkpoints/README.md").touch()  # A clone has one.
    job(make_run("two").name)
    given = ["checkpoints"] if whole else sorted(map(str, Path("checkpoints").iterdir()))
    assert main(["compare", *given]) == 0
    record = json.loads(Path("comparison/runs.json").read_text())
    assert [run["run"] for run in record["runs"]] == ["one", "two"]


def test_each_run_is_compared_once_under_a_unique_name(capsys) -> None:
    one = make_run("run", losses=[{"g": 1.0}])
    Path("elsewhere").mkdir()
    make_run("other", losses=[{"g": 2.0}]).rename("elsewhere/run")
    assert main(["compare", "run", "elsewhere/run", f"{one}/"]) == 0
    record = json.loads(Path("comparison/runs.json").read_text())
    assert [run["run"] for run in record["runs"]] == ["checkpoints/run", "elsewhere/run"]
    shown = data_of(Path("comparison"), "comparison")["runs"]
    assert [run["curves"]["g"]["value"] for run in shown] == [[1.0], [2.0]]
    assert [run["name"] for run in shown] == ["checkpoints/run", "elsewhere/run"]
    assert main(["compare", "run", "checkpoints/run", "out=again"]) == 2
    assert "two runs or more" in capsys.readouterr().err


def test_an_earlier_comparison_is_replaced() -> None:
    make_run("one")
    make_run("two", seed=1)
    assert main(["compare", "one", "two"]) == 0
    make_run("three", seed=2)
    assert main(["compare", "one", "two", "three"]) == 0
    assert len(json.loads(Path("comparison/runs.json").read_text())["runs"]) == 3


def test_test_images_of_real_runs_are_found(train: Callable[..., dict]) -> None:
    for seed in (1, 2):
        train(f"run{seed}", "trainer.steps=1", f"seed={seed}")
        assert main(["test", f"run=checkpoints/run{seed}", "num=2"]) == 0
    tested = read_run(Path("checkpoints/run1")).tested
    assert tested
    for made in tested.values():
        for address in made.values():
            assert (Path("checkpoints/run1") / unquote(address)).is_file()
    assert main(["compare", "run1", "run2"]) == 0


def test_compare_without_runs_prints_its_usage() -> None:
    assert main(["compare"]) == 0


def test_the_table_contains_no_formulas() -> None:
    make_run("one", **{"model.loss": "=1+1"})
    make_run("two", **{"model.loss": "logistic"})
    assert main(["compare", "checkpoints/one", "checkpoints/two"]) == 0
    rows = list(csv.DictReader(Path("comparison/runs.csv").read_text().splitlines()))
    assert {row["model.loss"] for row in rows} == {"'=1+1", "logistic"}
