"""Many runs by one command: the result of each is recorded, and finished runs are skipped."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from conftest import TINY, newest, run_folder
from needs import needs
from pages import data_of
from sweep_records import SHORT, jobs

import gantrain.train
from gantrain.cli.main import main
from gantrain.training.context import RunContext
from gantrain.training.objective import best_logged


def seeds(names: list[str]) -> list[str]:
    """The part of the names of runs that a sweep over ``seed`` tells apart."""
    return [re.findall("seed-[0-9]+", name)[0] for name in names]


def test_the_same_command_repeats_only_a_crashed_run(runs, capsys) -> None:
    typed = ["train", "-m", *SHORT, "seed=range(4)"]
    train_here = gantrain.train._train_here

    def crashes(context: RunContext, *others: Any) -> int:
        if context.settings.seed == 2:
            raise RuntimeError("out of order")
        return train_here(context, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gantrain.train, "_train_here", crashes)
        assert main(typed) == 1
    message = capsys.readouterr().err
    assert "3 of 4 runs are done" in message
    assert re.search("seed-2.* crashed: RuntimeError: out of order", message)
    assert "Page: checkpoints/sweeps/seed" in message
    states = {name: (record["status"], record["message"], record["exit"]) for name, record in jobs().items()}
    assert states.pop("seed-2") == ("crashed", "RuntimeError: out of order", 1)
    assert set(states.values()) == {("done", "", 0)}
    assert len(states) == 3
    (page,) = Path("checkpoints/sweeps").glob("*/index.html")
    assert "out of order" in {run["message"].partition(": ")[2] for run in data_of(page.parent, "comparison")["runs"]}
    links = re.findall(r'href="(sweeps/[^"]+)"', Path("checkpoints/index.html").read_text())
    assert [Path("checkpoints", unquote(link)) for link in links] == [page]

    runs.clear()
    assert main(typed) == 0
    assert seeds(runs) == ["seed-2"]
    assert "4 of 4 runs are done" in capsys.readouterr().err
    assert jobs()["seed-2"]["status"] == "done"
    assert {run["message"] for run in data_of(page.parent, "comparison")["runs"]} == {""}


def test_more_values_extend_a_sweep_in_its_folder(runs) -> None:
    assert main(["train", "-m", *SHORT, "seed=1,2"]) == 0
    assert main(["train", "-m", *SHORT, "seed=1,2,3"]) == 0
    assert seeds(runs) == ["seed-1", "seed-2", "seed-3"]
    assert sorted(jobs()) == ["seed-1", "seed-2", "seed-3"]


def test_unfinished_and_extended_runs_are_resumed(runs) -> None:
    assert main(["train", "-m", *SHORT, "seed=1,2"]) == 0
    runs.clear()
    assert main(["train", "-m", *SHORT, "seed=1,2", "trainer.steps=4"]) == 0
    assert len(runs) == 2
    assert {newest(name)["step"] for name in runs} == {4}
    for path in run_folder(runs[1]).glob("step_*.pt"):
        path.unlink()
    runs.clear()
    assert main(["train", "-m", *SHORT, "seed=1,2", "trainer.steps=4"]) == 0
    assert seeds(runs) == ["seed-2"]


def test_finished_runs_repeat_without_skip_done_or_with_resume_never(runs, capsys) -> None:
    typed = ["train", "-m", *SHORT, "seed=1,2"]
    assert main(typed) == 0
    runs.clear()
    assert main([*typed, "sweep.skip_done=false"]) == 0
    assert len(runs) == 2
    assert "finished at step 2" in capsys.readouterr().err
    runs.clear()
    assert main([*typed, "resume=never"]) == 0
    assert len(runs) == 2
    assert "overwriting" in capsys.readouterr().err


def test_a_refused_run_is_reported_among_the_others(capsys) -> None:
    assert main(["train", "-m", *SHORT, "model.latent_dim=8,0"]) == 2
    message = capsys.readouterr().err
    assert message.count("model.latent_dim: expected") == 2  # When it fails, and in the summary.
    assert "1 of 2 runs are done:" in message
    record = jobs("model.latent_dim")["latent_dim-0"]
    assert record["status"] == "crashed"
    assert "model.latent_dim" in record["message"]


def test_a_run_with_an_invalid_configuration_is_reported(capsys) -> None:
    assert main(["train", "-m", *SHORT, "seed=0,'${oops}'"]) == 2
    assert "1 of 2 runs are done:" in capsys.readouterr().err
    assert any("oops" in record["message"] for record in jobs().values())


def test_an_interrupted_sweep_stops_and_is_resumed_later(runs, monkeypatch, capsys) -> None:
    train = gantrain.train.train
    monkeypatch.setattr(
        gantrain.train, "train", lambda config, *others: 130 if config["seed"] == 2 else train(config, *others)
    )
    assert main(["train", "-m", *SHORT, "seed=1,2,3"]) == 130
    assert {name: record["status"] for name, record in jobs().items()} == {"seed-1": "done", "seed-2": "stopped"}
    message = capsys.readouterr().err
    assert "1 of 2 runs are done" in message
    assert f"gantrain train -m {shlex.join(SHORT)} seed=1,2,3" in message
    monkeypatch.setattr(gantrain.train, "train", train)
    runs.clear()
    assert main(["train", "-m", *SHORT, "seed=1,2,3"]) == 0
    assert seeds(runs) == ["seed-2", "seed-3"]


def test_the_best_run_is_named_by_its_objective(capsys) -> None:
    typed = ["train", "-m", *SHORT, "seed=1,2", "objective.metric=g"]
    assert main([*typed, "objective.mode=max"]) == 0
    values = {name: record["objective"] for name, record in jobs().items()}
    for name, record in jobs().items():
        text = (run_folder(record["run"]) / "losses.jsonl").read_text()
        logged = [json.loads(line)["g"] for line in text.splitlines()]
        assert values[name] == max(logged)
    best = max(values, key=values.__getitem__)
    assert re.search(rf"Best: \S*{best}\S* \(g={values[best]:.4g}\)", capsys.readouterr().err)
    assert main(typed) == 0  # Skipped runs are compared.
    values = {name: record["objective"] for name, record in jobs().items()}
    best = min(values, key=values.__getitem__)
    assert re.search(rf"Best: \S*{best}\S* \(g={values[best]:.4g}\)", capsys.readouterr().err)


def test_the_best_logged_value_ignores_nan_and_missing_files() -> None:
    Path("losses.jsonl").write_text('{"step": 1, "a": 2.0}\n{"step": 2, "a": NaN}\n{"step": 3, "a": 1.0, "b": 7.0}\n')
    assert best_logged(Path(), "a", "min") == 1
    assert best_logged(Path(), "a", "max") == 2
    assert best_logged(Path(), "c", "min") is None
    assert best_logged(Path("nowhere"), "a", "min") is None


def test_a_refused_sweep_leaves_no_files(capsys) -> None:
    assert main(["train", "-m", *SHORT, "seed=1,2", "name=x"]) == 2
    assert main(["train", "-m", *SHORT, "model.latent_dim=0,-1"]) == 2
    capsys.readouterr()
    assert main(["train", "-m", *SHORT, "sed=1,2"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_a_name_may_contain_interpolations(capsys) -> None:
    assert main(["train", "-m", *SHORT, "trainer.steps=1,2", "name='x_${trainer.steps}'"]) == 0
    assert {newest(f"x_{steps}")["step"] for steps in (1, 2)} == {1, 2}


@pytest.mark.parametrize(
    "typed", [["logger=none,csv"], ["name=x", "network/generator=dcgan,mlp"]], ids=["unnamed", "named"]
)
def test_the_proposed_name_works(typed: list[str], capsys) -> None:
    assert main(["train", "-m", *SHORT, *typed]) == 2
    (proposed,) = re.findall("name='([^']+)'", capsys.readouterr().err)
    typed = [word for word in typed if not word.startswith("name=")]
    assert main(["train", "-m", *SHORT, *typed, f"name='{proposed}'"]) == 0
    values = typed[0].partition("=")[2].split(",")
    assert {path.name for path in Path("checkpoints").glob("sweeps/*/x_*")} == {f"x_{value}" for value in values}


def test_the_folder_of_a_sweep_can_be_set() -> None:
    assert main(["train", "-m", *SHORT, "seed=1,2", "hydra.sweep.dir='my sweep'"]) == 0
    assert Path("my sweep/index.html").exists()
    assert not Path("checkpoints/sweeps").exists()


FOLDERS = [
    ["hydra.job.chdir=true"],
    ["hydra.job.chdir=true", "hydra.sweep.subdir='${hydra:job.num}'"],
    ["hydra.job.chdir=true", "hydra.sweep.dir=out", "hydra.output_subdir=.hydra"],
    ["hydra.run.dir=out", "hydra.output_subdir=checkpoints"],
    ["hydra.sweep.dir=out", "checkpoints_dir=out/runs"],
    ["hydra.sweep.dir=out", "checkpoints_dir=out/one,out/other"],
    ["hydra.sweep.dir=out", "checkpoints_dir='${hydra:runtime.output_dir}/runs'"],
]


def check_that_runs_are_where_records_say(count: int) -> None:
    records = list(Path().rglob("jobs/*.json"))
    assert len(records) == count
    for path in records:
        record = json.loads(path.read_text())
        assert record["status"] == "done"
        assert (path.parent.parent / record["folder"] / "step_1.pt").is_file(), record


@pytest.mark.parametrize("typed", FOLDERS, ids=" ".join)
def test_nothing_that_was_trained_is_deleted(typed: list[str]) -> None:
    values = ["seed=0", "name='x_${now:%f}'"] if "," in " ".join(typed) else ["seed=0,1"]
    assert main(["train", "-m", *TINY, "trainer.steps=1", *values, *typed]) == 0
    check_that_runs_are_where_records_say(2)


@pytest.mark.parametrize("typed", [[], ["hydra.job.chdir=true"]], ids=["defaults", "chdir"])
def test_nothing_that_worker_processes_trained_is_deleted(typed: list[str], warm_python: None) -> None:
    needs("hydra_plugins.hydra_joblib_launcher")
    chosen = ["hydra.sweep.dir=out", "checkpoints_dir=out/one,out/other", "name='x_${now:%f}'", *typed]
    assert main(["train", "-m", "launcher=joblib", *TINY, "trainer.steps=1", *chosen]) == 0
    check_that_runs_are_where_records_say(2)


@pytest.mark.parametrize("key", ["checkpoints_dir", "init_from"])
def test_a_folder_that_is_about_to_be_deleted_is_refused(key: str, capsys) -> None:
    assert main(["train", "-m", *SHORT, "seed=0", f"{key}='${{oc.env:GANTRAIN_SCRATCH}}/x'"]) == 2
    assert f"{key}=" in (message := capsys.readouterr().err)
    assert "folder of your own" in message


def test_runs_live_in_the_folder_of_the_sweep_and_are_found(capsys) -> None:
    assert main(["train", *SHORT, "seed=1"]) == 0  # As in the layout of older versions.
    (alone,) = Path("checkpoints").glob("*/config.yaml")
    assert main(["train", "-m", *SHORT, "seed=1,2"]) == 0
    (sweep,) = Path("checkpoints/sweeps").iterdir()
    (run,) = (path.parent for path in sweep.glob("*/config.yaml"))
    assert "seed-2" in run.name
    assert [path.parent for path in Path("checkpoints").glob("*/config.yaml")] == [alone.parent]
    assert {record["folder"] for record in jobs().values()} == {run.name, f"../../{alone.parent.name}"}
    cards = data_of("checkpoints", "runs")
    assert {card["folder"] for card in cards} == {alone.parent.name, run.relative_to("checkpoints").as_posix()}
    page = (run / "index.html").read_text()
    assert 'href="../index.html"' in page  # The page of the sweep, and that of all runs.
    assert 'href="../../../index.html"' in page
    capsys.readouterr()
    assert main(["resume", run.name, "trainer.steps=3"]) == 0
    assert main(["compare", "checkpoints", "out=all"]) == 0
    assert len(json.loads(Path("all/runs.json").read_text())["runs"]) == 2
    assert main(["compare", run.name, str(alone.parent), "out=two"]) == 0
    assert "<h1>seed" in (sweep / "index.html").read_text()  # Runs do not overwrite the page of their sweep.


@pytest.mark.usefixtures("few_digits")
def test_each_model_of_a_sweep_has_its_own_demonstration_data() -> None:
    small = [
        "network.width=2",
        "metrics=none",
        "data.load_size=32",
        "data.batch_size=2",
        "trainer.steps=1",
        "trainer.accelerator=cpu",
    ]
    assert main(["train", "-m", *small, "model=pix2pix,cgan,cyclegan"]) == 0
    runs = [record["run"] for record in jobs("model").values()]
    modes = {name.split("_")[0]: newest(name)["config"]["data"]["mode"] for name in runs}
    assert modes == {"pix2pix": "edges2digits", "cgan": "digits", "cyclegan": "digits2stripes"}
