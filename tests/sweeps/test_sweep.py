"""Many runs by one command: the result of each is recorded, and finished runs are skipped."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from conftest import TINY, newest
from needs import needs
from pages import data_of
from warm import Child, Warm

import gantrain.train
from gantrain.cli import compose as cli_hydra
from gantrain.cli.main import main
from gantrain.config.naming import name_of_sweep
from gantrain.errors import ConfigError
from gantrain.runtime.gpus import CLAIM, claim_gpu, visible_gpus
from gantrain.training.context import RunContext
from gantrain.training.objective import best_logged

SHORT = [*TINY, "trainer.steps=2", "trainer.log_every=1"]


def jobs(key: str = "seed") -> dict[str, dict[str, Any]]:
    """The records of the only sweep, by the value that each has of a key: ``seed-3``."""
    (folder,) = Path("checkpoints/sweeps").iterdir()
    records = [json.loads(path.read_text()) for path in (folder / "jobs").glob("*.json")]
    last = key.rpartition(".")[2]
    return {
        f"{last}-{next(word.partition('=')[2] for word in record['overrides'] if word.startswith(f'{key}='))}": record
        for record in records
    }


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that are trained in this process, in order."""
    names: list[str] = []
    train = gantrain.train.train

    def noted(config: dict[str, Any], *others: Any) -> int:
        names.append(config["name"])
        return train(config, *others)

    monkeypatch.setattr(gantrain.train, "train", noted)
    return names


def test_of_four_runs_one_crashes_and_the_same_command_repeats_it_alone(trained, capsys) -> None:
    typed = ["train", "-m", *SHORT, "seed=range(4)"]
    train_here = gantrain.train._train_here

    def crashes(context: RunContext, *others: Any) -> int:
        if context.settings.seed == 2:
            raise RuntimeError("a fuse has blown")
        return train_here(context, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gantrain.train, "_train_here", crashes)
        assert main(typed) == 1
    message = capsys.readouterr().err
    assert "3 of 4 runs are done" in message
    assert "seed-2 crashed: RuntimeError: a fuse has blown" in message
    assert "Page: checkpoints/sweeps/seed" in message
    states = {name: (record["status"], record["message"], record["exit"]) for name, record in jobs().items()}
    assert states.pop("seed-2") == ("crashed", "RuntimeError: a fuse has blown", 1)
    assert set(states.values()) == {("done", "", 0)}
    assert len(states) == 3
    (page,) = Path("checkpoints/sweeps").glob("*/index.html")
    assert "a fuse has blown" in {
        run["message"].partition(": ")[2] for run in data_of(page.parent, "comparison")["runs"]
    }
    links = re.findall(r'href="(sweeps/[^"]+)"', Path("checkpoints/index.html").read_text())
    assert [Path("checkpoints", unquote(link)) for link in links] == [page]

    trained.clear()
    assert main(typed) == 0
    assert [name.rpartition("_")[2] for name in trained] == ["seed-2"]
    assert "4 of 4 runs are done" in capsys.readouterr().err
    assert jobs()["seed-2"]["status"] == "done"
    assert {run["message"] for run in data_of(page.parent, "comparison")["runs"]} == {""}


def test_a_grown_sweep_keeps_its_folder_and_its_runs(trained) -> None:
    assert main(["train", "-m", *SHORT, "seed=1,2"]) == 0
    assert main(["train", "-m", *SHORT, "seed=1,2,3"]) == 0
    assert [name.rpartition("_")[2] for name in trained] == ["seed-1", "seed-2", "seed-3"]
    assert sorted(jobs()) == ["seed-1", "seed-2", "seed-3"]


def test_unfinished_runs_and_runs_made_longer_are_resumed(trained) -> None:
    assert main(["train", "-m", *SHORT, "seed=1,2"]) == 0
    trained.clear()
    assert main(["train", "-m", *SHORT, "seed=1,2", "trainer.steps=4"]) == 0
    assert len(trained) == 2
    assert {newest(name)["step"] for name in trained} == {4}
    for path in Path(f"checkpoints/{trained[1]}").glob("step_*.pt"):
        path.unlink()
    trained.clear()
    assert main(["train", "-m", *SHORT, "seed=1,2", "trainer.steps=4"]) == 0
    assert [name.rpartition("_")[2] for name in trained] == ["seed-2"]


def test_skip_done_can_be_switched_off_and_yields_to_resume_never(trained, capsys) -> None:
    typed = ["train", "-m", *SHORT, "seed=1,2"]
    assert main(typed) == 0
    trained.clear()
    assert main([*typed, "sweep.skip_done=false"]) == 0
    assert len(trained) == 2
    assert "finished at step 2" in capsys.readouterr().err
    trained.clear()
    assert main([*typed, "resume=never"]) == 0
    assert len(trained) == 2
    assert "overwriting" in capsys.readouterr().err


def test_a_refused_run_is_reported_among_the_others(capsys) -> None:
    assert main(["train", "-m", *SHORT, "model.latent_dim=8,0"]) == 2
    message = capsys.readouterr().err
    assert message.count("model.latent_dim: expected") == 2  # when it happens, and in the summary
    assert "1 of 2 runs are done:" in message
    record = jobs("model.latent_dim")["latent_dim-0"]
    assert record["status"] == "crashed"
    assert "model.latent_dim" in record["message"]


def test_a_run_whose_configuration_is_invalid_is_reported_too(capsys) -> None:
    assert main(["train", "-m", *SHORT, "seed=0,'${oops}'"]) == 2
    assert "1 of 2 runs are done:" in capsys.readouterr().err
    assert any("oops" in record["message"] for record in jobs().values())


def test_an_interrupted_sweep_stops_and_is_resumed_later(trained, monkeypatch, capsys) -> None:
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
    trained.clear()
    assert main(["train", "-m", *SHORT, "seed=1,2,3"]) == 0
    assert [name.rpartition("_")[2] for name in trained] == ["seed-2", "seed-3"]


def test_the_best_run_is_named_by_its_objective(capsys) -> None:
    typed = ["train", "-m", *SHORT, "seed=1,2", "objective.metric=g"]
    assert main([*typed, "objective.mode=max"]) == 0
    values = {name: record["objective"] for name, record in jobs().items()}
    for name, record in jobs().items():
        text = Path(f"checkpoints/{record['run']}/losses.jsonl").read_text()
        logged = [json.loads(line)["g"] for line in text.splitlines()]
        assert values[name] == max(logged)
    assert f"{max(values, key=values.__getitem__)} (g={max(values.values()):.4g})" in capsys.readouterr().err
    assert main(typed) == 0  # skipped, but compared
    values = {name: record["objective"] for name, record in jobs().items()}
    assert f"{min(values, key=values.__getitem__)} (g={min(values.values()):.4g})" in capsys.readouterr().err


def test_the_best_of_what_was_logged() -> None:
    Path("losses.jsonl").write_text('{"step": 1, "a": 2.0}\n{"step": 2, "a": NaN}\n{"step": 3, "a": 1.0, "b": 7.0}\n')
    assert best_logged(Path(), "a", "min") == 1
    assert best_logged(Path(), "a", "max") == 2
    assert best_logged(Path(), "c", "min") is None
    assert best_logged(Path("nowhere"), "a", "min") is None


# ---- names


def test_a_sweep_is_named_by_what_varies_and_by_what_is_fixed() -> None:
    assert name_of_sweep([], ["seed", "model"]) == "model+seed"
    assert (
        name_of_sweep(["model=wgan", "trainer.steps=5", "optimizer.lr=1e-4"], ["seed"])
        == "wgan_seed_optimizer.lr-0.0001"
    )
    assert name_of_sweep(["experiment=gan_mnist"], ["network/generator"]) == "gan_mnist_network_generator"
    assert name_of_sweep([], []) == "sweep"


@pytest.mark.parametrize(
    ("fixed", "swept", "wanted"),
    [
        (["name=x"], ["seed"], "name='x_${seed}'"),
        ([], ["trainer.steps"], "name='x_${trainer.steps}'"),
        ([], ["logger"], "name='x_${hydra:runtime.choices.logger}'"),
        ([], ["seed", "logger.visdom.port"], "name='x_${logger.visdom.port}'"),
    ],
)
def test_runs_that_would_share_a_folder_are_refused(fixed: list[str], swept: list[str], wanted: str) -> None:
    with pytest.raises(ConfigError) as refused:
        name_of_sweep(fixed, swept)
    assert wanted in str(refused.value)
    name_of_sweep([wanted], swept)
    name_of_sweep(fixed, [*swept, "name"])


def test_a_sweep_that_is_refused_leaves_nothing(capsys) -> None:
    assert main(["train", "-m", *SHORT, "seed=1,2", "name=x"]) == 2
    assert main(["train", "-m", *SHORT, "model.latent_dim=0,-1"]) == 2
    capsys.readouterr()
    assert main(["train", "-m", *SHORT, "sed=1,2"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_a_name_may_be_composed(capsys) -> None:
    assert main(["train", "-m", *SHORT, "trainer.steps=1,2", "name='x_${trainer.steps}'"]) == 0
    assert {newest(f"x_{steps}")["step"] for steps in (1, 2)} == {1, 2}


@pytest.mark.parametrize(
    "typed", [["logger=none,csv"], ["name=x", "network/generator=dcgan,mlp"]], ids=["unnamed", "named"]
)
def test_the_name_that_is_proposed_for_a_group_works(typed: list[str], capsys) -> None:
    assert main(["train", "-m", *SHORT, *typed]) == 2
    (proposed,) = re.findall("name='([^']+)'", capsys.readouterr().err)
    typed = [word for word in typed if not word.startswith("name=")]
    assert main(["train", "-m", *SHORT, *typed, f"name='{proposed}'"]) == 0
    values = typed[0].partition("=")[2].split(",")
    assert {path.name for path in Path("checkpoints").glob("x_*")} == {f"x_{value}" for value in values}


def test_the_folder_can_be_chosen() -> None:
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


# ---- launchers and sweepers


@pytest.mark.parametrize(
    ("word", "extra"),
    [
        ("launcher=joblib", "joblib"),
        ("launcher=submitit_slurm", "submitit"),
        ("launcher=ray", "ray"),
        ("sweeper=optuna", "optuna"),
    ],
)
def test_a_missing_package_is_refused_with_the_command_that_installs_it(
    word: str, extra: str, capsys, monkeypatch
) -> None:
    def find_spec(package: str) -> None:
        if extra != "ray":
            raise ModuleNotFoundError("No module named 'hydra_plugins'")

    monkeypatch.setattr(cli_hydra, "find_spec", find_spec)
    assert main(["train", "-m", *SHORT, "seed=1,2", word]) == 2
    message = capsys.readouterr().err
    assert f"pip install 'gantrain[{extra}]'" in message
    assert message.count("\n") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("warm_python")
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_runs_in_other_processes_are_reported_and_skipped_as_in_this_one(launcher: str, capfd) -> None:
    needs(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    key = "model.latent_dim"
    typed = ["train", "-m", f"launcher={launcher}", *SHORT, f"{key}=8,0"]
    assert main(typed) == 2
    assert {name: record["status"] for name, record in jobs(key).items()} == {
        "latent_dim-8": "done",
        "latent_dim-0": "crashed",
    }
    assert "1 of 2 runs are done:" in capfd.readouterr().err
    assert newest(jobs(key)["latent_dim-8"]["run"])["step"] == 2
    times = jobs(key)["latent_dim-8"]["time"]
    checkpoint = Path(f"checkpoints/{jobs(key)['latent_dim-8']['run']}/step_2.pt")
    written = checkpoint.stat().st_mtime_ns
    assert main(typed) == 2
    assert jobs(key)["latent_dim-8"]["time"] > times
    assert checkpoint.stat().st_mtime_ns == written
    assert [path.name for path in Path().iterdir()] == ["checkpoints"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["hydra.launcher.n_jobs=4"], "launcher=joblib"),
        (["launcher=joblib", "hydra.launcher.n_job=4"], "did you mean 'hydra.launcher.n_jobs'?"),
    ],
)
def test_a_key_of_a_launcher_is_known(typed: list[str], message: str, capsys) -> None:
    needs("hydra_plugins.hydra_joblib_launcher")
    assert main(["train", "-m", *SHORT, "seed=1,2", *typed]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def start_two_at_once(warm: Warm) -> Child:
    """A sweep of three long runs, when two of them have begun."""
    needs("hydra_plugins.hydra_joblib_launcher")
    typed = [*SHORT, "trainer.steps=1000000", "trainer.log_every=1", "seed=1,2,3"]
    command = ["-m", "gantrain", "train", "-m", "launcher=joblib", "hydra.launcher.n_jobs=2", *typed]
    process = warm.popen(command, executable=warm.python)
    while len(list(Path("checkpoints").glob("*/losses.jsonl"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    return process


def test_ctrl_c_waits_until_all_runs_are_saved_and_starts_no_more(warm: Warm) -> None:
    process = start_two_at_once(warm)
    os.killpg(process.pid, signal.SIGINT)
    message = process.communicate(timeout=100)[1]
    assert process.returncode == 130
    assert {name: record["status"] for name, record in jobs().items()} == {"seed-1": "stopped", "seed-2": "stopped"}
    for record in jobs().values():
        assert re.search(rf"step {newest(record['run'])['step']}\b.*\(SIGINT\)", message)


def test_runs_stop_and_save_where_the_process_that_launched_them_is_killed(warm: Warm) -> None:
    process = start_two_at_once(warm)
    process.kill()
    end = time.monotonic() + 60
    while {record["status"] for record in jobs().values()} != {"stopped"}:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert set(jobs()) == {"seed-1", "seed-2"}
    for record in jobs().values():
        assert newest(record["run"])["step"] > 0
    os.killpg(process.pid, signal.SIGKILL)  # Workers would wait for more jobs for some minutes.


@pytest.mark.usefixtures("warm_python")
def test_a_process_that_dies_is_reported(capfd) -> None:
    needs("hydra_plugins.hydra_joblib_launcher")
    Path("deadly.py").write_text(
        "import os\n"
        "from gantrain.registry import LOGGERS\n"
        "from gantrain.report.loggers import Logger\n"
        "if 'deadly' not in LOGGERS:\n"
        "    @LOGGERS.register('deadly')\n"
        "    class Deadly(Logger):\n"
        "        'Kills.'\n"
        "        def scalars(self, step, values):\n"
        "            os._exit(9)\n"
    )
    typed = [*SHORT, "seed=1,2", "plugins=[deadly]", "+logger.deadly={name: deadly}", "trainer.steps=2000"]
    # With one GPU, and so one run at a time, joblib would run it in this process.
    assert main(["train", "-m", "launcher=joblib", "hydra.launcher.n_jobs=2", *typed]) == 2
    message = capfd.readouterr().err
    assert "the sweep has ended early" in message
    assert "Traceback" not in message
    assert {record["status"] for record in jobs().values()} == {"crashed"}
    assert all("process" in record["message"] for record in jobs().values())


def test_optuna_searches_by_the_objective_reproducibly(trained, capsys) -> None:
    needs("hydra_plugins.hydra_optuna_sweeper")
    typed = ["sweeper=optuna", *SHORT, "optimizer.lr=tag(log,interval(1e-5,1e-2))", "objective.metric=g"]
    assert main(["train", "-m", *typed, "hydra.sweeper.n_trials=2"]) == 0
    assert "2 of 2 runs are done" in capsys.readouterr().err
    first = list(trained)
    (results,) = Path("checkpoints/sweeps").glob("*/optimization_results.yaml")
    best = min(json.loads(path.read_text())["objective"] for path in results.parent.glob("jobs/*"))
    assert f"best_value: {best}" in results.read_text()
    trained.clear()
    assert main(["train", "-m", *typed, "hydra.sweeper.n_trials=3"]) == 0
    assert len(trained) == 1
    assert not set(trained) & set(first)
    assert main(["train", "-m", *typed, "hydra.sweeper.n_trials=2", "objective.mode=max"]) == 0
    best = max(
        json.loads(path.read_text())["objective"] for path in results.parent.glob("jobs/*") if path.stem in first
    )
    assert f"best_value: {best}" in results.read_text()


def test_optuna_without_an_objective_is_refused(capsys) -> None:
    needs("hydra_plugins.hydra_optuna_sweeper")
    typed = ["train", "-m", "sweeper=optuna", *SHORT, "seed=1,2", "hydra.sweeper.n_trials=1"]
    assert main(typed) == 2
    assert "objective.metric=NAME" in capsys.readouterr().err
    assert list(Path().iterdir()) == []
    assert main([*typed, "objective.metric=gg"]) == 2
    assert "objective.metric=gg was never logged" in capsys.readouterr().err


# ---- GPUs


def claimed(gpus: list[str], number: int, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The value of ``CUDA_VISIBLE_DEVICES`` that another process would get."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.environ.pop(CLAIM, None)
        claim_gpu(gpus, number)
        os.write(writing, os.environ.get("CUDA_VISIBLE_DEVICES", "all").encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    return os.read(reading, 100).decode()


def test_each_process_gets_another_gpu_while_one_is_free(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for variable in ("CUDA_VISIBLE_DEVICES", CLAIM):
        monkeypatch.setenv(variable, "")  # Restores it after the test, whatever this process claims.
        monkeypatch.delenv(variable)
    gpus = ["GPU-1", "GPU-2"]
    assert claimed(["GPU-1"], 0, monkeypatch) == "all"
    claim_gpu(gpus, 7)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert claimed(gpus, 0, monkeypatch) == "GPU-2"
    assert claimed(gpus, 0, monkeypatch) == "GPU-2"  # That process has ended.
    assert claimed(["GPU-1", "GPU-1"], 1, monkeypatch) == "GPU-1"  # None is free, so it is shared.


def test_gpus_are_those_in_cuda_visible_devices(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert visible_gpus() == ["3", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
