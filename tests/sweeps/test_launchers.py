"""Launchers run the runs of a sweep in other processes; the sweeper of Optuna chooses their settings."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from conftest import newest, run_folder
from needs import needs
from sweep_records import SHORT, jobs
from warm import Child, Warm

from gantrain.cli import compose as cli_hydra
from gantrain.cli.main import main
from gantrain.cli.sweep import finish
from gantrain.sweeps.sweep import Sweep


@pytest.mark.parametrize(
    ("word", "extra"),
    [
        ("launcher=joblib", "joblib"),
        ("launcher=submitit_slurm", "submitit"),
        ("launcher=ray", "ray"),
        ("sweeper=optuna", "optuna"),
    ],
)
def test_a_missing_package_is_refused_with_its_installation_command(word: str, extra: str, capsys, monkeypatch) -> None:
    def find_spec(package: str) -> None:
        if extra != "ray":
            raise ModuleNotFoundError("No module named 'hydra_plugins'")

    monkeypatch.setattr(cli_hydra, "find_spec", find_spec)
    for words in (["-m", *SHORT, "seed=1,2"], ["--cfg", "hydra"], ["--help"]):
        assert main(["train", *words, word]) == 2
        message = capsys.readouterr().err
        assert f"pip install 'gantrain[{extra}]'" in message
        assert message.count("\n") == 1
        assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("warm_python")
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_runs_in_other_processes_are_reported_and_skipped(launcher: str, capfd) -> None:
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
    checkpoint = run_folder(jobs(key)["latent_dim-8"]["run"]) / "step_2.pt"
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
        (["launcher=joblib", "hydra.launcher.timeout=4"], "hydra.launcher.timeout=4.0: give trainer.max_minutes"),
    ],
)
def test_unknown_keys_of_launchers_are_refused_with_the_remedy(typed: list[str], message: str, capsys) -> None:
    needs("hydra_plugins.hydra_joblib_launcher")
    assert main(["train", "-m", *SHORT, "seed=1,2", *typed]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def start_two_at_once(warm: Warm) -> Child:
    """A sweep of three long runs, of which two have started."""
    needs("hydra_plugins.hydra_joblib_launcher")
    typed = [*SHORT, "trainer.steps=1000000", "trainer.log_every=1", "seed=1,2,3"]
    command = ["-m", "gantrain", "train", "-m", "launcher=joblib", "hydra.launcher.n_jobs=2", *typed]
    process = warm.popen(command, executable=warm.python)
    while len(list(Path("checkpoints").glob("sweeps/*/*/losses.jsonl"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    return process


def test_ctrl_c_saves_all_runs_and_starts_no_more(warm: Warm) -> None:
    process = start_two_at_once(warm)
    os.killpg(process.pid, signal.SIGINT)
    message = process.communicate(timeout=100)[1]
    assert process.returncode == 130
    assert {name: record["status"] for name, record in jobs().items()} == {"seed-1": "stopped", "seed-2": "stopped"}
    for record in jobs().values():
        assert re.search(rf"step {newest(record['run'])['step']}\b.*\(SIGINT\)", message)


def test_runs_stop_and_save_if_their_launcher_is_killed(warm: Warm) -> None:
    process = start_two_at_once(warm)
    process.kill()
    end = time.monotonic() + 60
    while {record["status"] for record in jobs().values()} != {"stopped"}:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert set(jobs()) == {"seed-1", "seed-2"}
    for record in jobs().values():
        assert newest(record["run"])["step"] > 0
    os.killpg(process.pid, signal.SIGKILL)  # Idle workers would wait for jobs for minutes.


def test_a_killed_process_ends_only_its_own_run(warm: Warm) -> None:
    needs("hydra_plugins.hydra_joblib_launcher")
    Path("deadly.py").write_text(
        "import os, signal\n"
        "from pathlib import Path\n"
        "from gantrain.registry import LOGGERS\n"
        "from gantrain.report.loggers import Logger\n"
        "if 'deadly' not in LOGGERS:\n"
        "    @LOGGERS.register('deadly')\n"
        "    class Deadly(Logger):\n"
        "        'Kills the first process with seed 1 while another one trains with seed 2.'\n"
        "        def __init__(self, folder: Path):\n"
        "            self.seed = int(folder.name.partition('seed-')[2][0])\n"
        "        def scalars(self, step, values):\n"
        "            Path(f'marks/{self.seed}').touch()\n"
        "            awaited = {1: '2', 2: 'killed', 3: '3'}[self.seed]\n"
        "            while not Path('marks', awaited).exists():\n"
        "                pass\n"
        "            if self.seed == 1 and not Path('marks/killed').exists():\n"
        "                Path('marks/killed').touch()\n"
        "                os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    Path("marks").mkdir()
    typed = [*SHORT, "seed=1,2,3", "plugins=[deadly]", "+logger.deadly={name: deadly}"]
    command = ["-m", "gantrain", "train", "-m", "launcher=joblib", "hydra.launcher.n_jobs=2", *typed]
    result = warm.run(command, executable=warm.python)
    assert result.returncode == 1
    assert "2 of 3 runs are done" in result.stderr
    assert "Traceback" not in result.stderr
    statuses = {"seed-1": "crashed", "seed-2": "done", "seed-3": "done"}
    assert {name: record["status"] for name, record in jobs().items()} == statuses
    assert "process" in jobs()["seed-1"]["message"]
    written = {path: path.stat().st_mtime_ns for path in Path("checkpoints").glob("sweeps/*/*seed-[23]*/step_*.pt")}
    assert len(written) == 2
    assert warm.run(command, executable=warm.python).returncode == 0
    assert {record["status"] for record in jobs().values()} == {"done"}
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_a_process_killed_before_its_run_is_recorded_is_counted(tmp_path: Path, capsys) -> None:
    sweep = Sweep(tmp_path / "sweep", runs_folder=tmp_path, command="", gpus=())
    assert finish(sweep, stopped=False) == 0
    sweep.count_death()
    assert finish(sweep, stopped=False) == 1
    assert "killed before their run started: 1" in capsys.readouterr().err


def test_optuna_searches_by_the_objective_reproducibly(runs, capsys) -> None:
    needs("hydra_plugins.hydra_optuna_sweeper")
    typed = ["sweeper=optuna", *SHORT, "optimizer.lr=tag(log,interval(1e-5,1e-2))", "objective.metric=g"]
    assert main(["train", "-m", *typed, "hydra.sweeper.n_trials=2"]) == 0
    assert "2 of 2 runs are done" in capsys.readouterr().err
    first = list(runs)
    (results,) = Path("checkpoints/sweeps").glob("*/optimization_results.yaml")
    best = min(json.loads(path.read_text())["objective"] for path in results.parent.glob("jobs/*"))
    assert f"best_value: {best}" in results.read_text()
    runs.clear()
    assert main(["train", "-m", *typed, "hydra.sweeper.n_trials=3"]) == 0
    assert len(runs) == 1
    assert not set(runs) & set(first)
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
    assert "objective.metric=gg is not logged" in capsys.readouterr().err
