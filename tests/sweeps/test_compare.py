"""Comparing runs: the settings that differ, the metrics, and the page, the table and the record."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from omegaconf import OmegaConf
from PIL import Image

from gantrain.cli.main import main
from gantrain.report.pages.page import read_data, write_data
from gantrain.sweeps.compare import differing
from gantrain.sweeps.summary import Run, higher_is_better, metrics, read_run
from gantrain.sweeps.sweep import LOST, read_jobs

CONFIG = {
    "name": "one",
    "seed": 0,
    "objective": {"metric": None, "mode": "min"},
    "logger": {},
    "model": {"name": "dcgan", "loss": "logistic"},
    "optimizer": {"name": "adam", "lr": 2e-4},
}


def make_run(name: str, *, state: str = "done", losses: list[dict[str, float]] | None = None, **changes: Any) -> Path:
    """The small files of a run folder, without training."""
    folder = Path("checkpoints") / name
    (folder / "images").mkdir(parents=True)
    config = OmegaConf.merge(CONFIG, {"name": name}, OmegaConf.from_dotlist([f"{k}={v}" for k, v in changes.items()]))
    OmegaConf.save(config, folder / "config.yaml")
    losses = [{"g": 2.0}, {"g": 1.0}, {"g": 1.5}] if losses is None else losses
    clock = [{"step": 10 * n + 10, "epoch": n + 1.0, "kimg": n + 1.0} for n in range(len(losses))]
    lines = [{**now, **values, "lr_generator": 1e-4} for now, values in zip(clock, losses, strict=True)]
    (folder / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    speeds = [{**now, "images_per_second": 100.0, "time": 9.0} for now in clock[1:]]
    (folder / "speed.jsonl").write_text("".join(json.dumps(line) + "\n" for line in speeds))
    images = []
    for now in clock:
        Image.new("L", (20, 20), now["step"]).save(folder / "images" / f"step_{now['step']}_samples.png")
        url = f"images/step_{now['step']}_samples.png"
        images.append({"step": now["step"], "what": "samples", "url": url, "width": 8, "height": 8, "columns": 2})
    (folder / "images.jsonl").write_text("".join(json.dumps(line) + "\n" for line in images))
    write_data(folder, "status", {"state": state, "reason": None, "time": 100.0})
    (folder / "index.html").write_text("a page")
    return folder


def job(run: str, *overrides: str, **changes: Any) -> dict[str, Any]:
    """Write the record of a run in a sweep."""
    record = {"run": run, "folder": f"../../{run}", "overrides": list(overrides), "status": "done", "message": ""}
    record |= {"time": 101.0, "command": "gantrain train -m ...", "session": "s", "exit": 0, **changes}
    folder = Path("checkpoints/sweeps/mine/jobs")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{run}.json").write_text(json.dumps(record))
    return record


# ---- one run


def test_a_run_is_read_from_its_small_files() -> None:
    run = read_run(make_run("one", **{"optimizer.lr": 1e-3}))
    assert (run.name, run.status, run.message, run.step) == ("one", "done", "", 30)
    assert run.settings["optimizer.lr"] == 1e-3
    assert run.seconds == 30.0  # 3,000 images, 100 a second
    assert [image["step"] for image in run.images] == [10, 20, 30]
    assert run.typed is None


def test_a_run_of_one_log_line_is_read_from_its_status() -> None:
    folder = make_run("one", losses=[{"g": 1.0}])
    write_data(folder, "status", {"state": "stopped", "reason": None, "opened": 80.0, "time": 100.0, "step": 17})
    run = read_run(folder)
    assert (run.step, run.seconds) == (17, 20.0)


def test_test_images_of_both_directions_are_read() -> None:
    folder = make_run("one")
    tables = [
        {"kinds": kinds, "metrics": [], "rows": [["1.png", [f"{kind}/1.png" for kind in kinds], [8, 8], [], None]]}
        for kinds in (["real_a", "fake_b"], ["real_b", "fake_a"])
    ]
    (folder / "results/test_30").mkdir(parents=True)
    (folder / "results/test_30/index.html").touch()
    write_data(folder / "results/test_30", "results", {"tables": tables})
    kinds = ["real_a", "fake_b", "real_b", "fake_a"]
    assert read_run(folder).tested == {"1.png": {kind: f"results/test_30/{kind}/1.png" for kind in kinds}}


def test_runs_of_a_sweep_are_in_natural_order() -> None:
    names = [f"seed-{seed}" for seed in (0, 1, 2, 10)] + ["seed-x", "seed-x_lr-1e-05", "seed-x_lr-0.0002"]
    for name in reversed(names):
        job(name)
    assert [record["run"] for record in read_jobs(Path("checkpoints/sweeps/mine"))] == names


def test_the_later_status_of_a_run_counts() -> None:
    folder = make_run("one")
    crashed = job("one", status="crashed", message="a fuse")
    assert (read_run(folder, crashed).status, read_run(folder, crashed).message) == ("crashed", "a fuse")
    assert read_run(folder, {**crashed, "time": 99.0}).status == "done"  # It was resumed since.


def test_a_killed_run_is_told_from_a_running_one() -> None:
    folder = make_run("one", state="running")
    assert (read_run(folder).status, read_run(folder).message) == (LOST["status"], LOST["message"])
    code = (
        "import sys; from pathlib import Path; from gantrain.runtime.run_lock import RunLock\n"
        "with RunLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], **pipes) as trains:
        assert trains.stdout.readline() == b"held\n"
        assert read_run(folder).status == "running"
        trains.stdin.close()


def test_missing_and_broken_files_are_ignored() -> None:
    assert read_run(Path("nowhere")) == Run("nowhere", Path("nowhere"), "unknown", "")
    folder = make_run("one")
    for name in ("config.yaml", "losses.jsonl", "speed.jsonl", "index_files/data/status.js"):
        (folder / name).write_text("{: nonsense [")
    assert replace(read_run(folder), images=[]) == Run("one", folder, "unknown", "")


def test_the_final_and_the_best_value_of_each_metric() -> None:
    losses = [
        {"g": 2.0, "accuracy": 0.1},
        {"g": 1.0, "accuracy": 0.9},
        {"g": float("nan")},
        {"g": 1.5, "accuracy": 0.8},
    ]
    run = read_run(make_run("one", losses=losses))
    assert metrics(run) == {"g": {"final": 1.5, "best": 1.0}, "accuracy": {"final": 0.8, "best": 0.9}}
    run.settings |= {"objective.metric": "g", "objective.mode": "max"}
    assert metrics(run)["g"]["best"] == 2.0
    assert [higher_is_better(name) for name in ("heldout_psnr", "SSIM", "g_l1", "fid", "is_real")] == [1, 1, 0, 0, 0]


# ---- what differs


def runs(*settings: dict[str, Any], typed: list[dict[str, str]] | None = None) -> list[Run]:
    return [
        Run(f"r{n}", Path(f"r{n}"), "done", "", settings={"name": f"r{n}", **each}, typed=typed[n] if typed else None)
        for n, each in enumerate(settings)
    ]


def test_settings_that_follow_from_a_choice_are_listed_apart() -> None:
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


def test_settings_typed_for_some_runs_are_looked_up_for_others() -> None:
    some = runs(
        {"seed": 0, "model.name": "dcgan"},
        {"seed": 1, "model.name": "wgan"},
        typed=[{}, {"seed": "1", "model": "wgan"}],
    )
    assert differing(some)[0] == {"seed": [0, 1], "model": ["dcgan", "wgan"]}


# ---- what is written


def test_the_table_the_record_and_the_page_agree(capsys) -> None:
    make_run("one")
    make_run("two", **{"optimizer.lr": 1e-3}, losses=[{"g": 4.0, "fid": 30.0}])
    assert main(["compare", "checkpoints/one", "two", "out=side"]) == 0
    assert "Page: side/index.html" in capsys.readouterr().err
    with Path("side/runs.csv").open(newline="") as file:
        one, two = csv.DictReader(file)
    assert (one["run"], one["optimizer.lr"], one["final g"], one["best g"], one["final fid"]) == (
        "one",
        "0.0002",
        "1.5",
        "1.0",
        "",
    )
    assert (two["run"], two["optimizer.lr"], two["final g"], two["best fid"]) == ("two", "0.001", "4.0", "30.0")
    record = json.loads(Path("side/runs.json").read_text())
    assert record["differ"] == ["optimizer.lr"]
    assert [run["metrics"]["g"]["best"] for run in record["runs"]] == [1.0, 4.0]
    assert "gantrain compare checkpoints/one two out=side" in Path("side/index.html").read_text()
    shown = read_data(Path("side"), "comparison")
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
    gone, one = read_data(Path("checkpoints/sweeps/mine"), "comparison")["runs"]
    assert (gone["message"], gone["has_page"]) == ("no <b>data</b> & no hope", False)
    assert (one["folder"], one["has_page"]) == ("../../one", True)
    record = json.loads(Path("checkpoints/sweeps/mine/runs.json").read_text())
    assert [(run["run"], run["status"]) for run in record["runs"]] == [("gone", "crashed"), ("one", "done")]
    assert main(["compare", "mine", "one", "out=more"]) == 0
    assert len(json.loads(Path("more/runs.json").read_text())["runs"]) == 2  # "one" is in the sweep


def test_names_are_text_and_their_links_work() -> None:
    names = ["a b", "a#b%20", "<script>alert(1)</script>", "ü'\"&", "l\nn"]
    for name in names:
        if "/" not in name:
            make_run(name)
    assert main(["compare", *(f"checkpoints/{name}" for name in names if "/" not in name)]) == 0
    shown = read_data(Path("comparison"), "comparison")["runs"]
    assert {run["name"] for run in shown} == {name for name in names if "/" not in name}
    for run in shown:
        assert (Path("comparison") / unquote(run["folder"]) / "index.html").exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["nowhere"], ["nowhere", "no run and no sweep", "checkpoints/one"]),
        (["checkpoints/on"], ["did you mean 'checkpoints/one'?"]),
        (["checkpoints/one"], ["two runs or more"]),
        (["one", "two", "name=x"], ["name=x", "out=FOLDER"]),
        (["--fast"], ["--fast"]),
        (["one", "two", "out=full"], ["out=full", "other files"]),
    ],
)
def test_a_mistake_is_an_error_of_one_line(typed: list[str], said: list[str], capsys) -> None:
    make_run("one")
    make_run("two")
    Path("full").mkdir()
    Path("full/thesis.tex").touch()
    assert main(["compare", *typed]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for words in said:
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
    shown = read_data(Path("comparison"), "comparison")["runs"]
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
