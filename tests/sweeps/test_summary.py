"""Run folders are read: state, metrics, images."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from run_folders import job, make_run

from gantrain.report.pages.page import write_data
from gantrain.sweeps import summary
from gantrain.sweeps.summary import Run, higher_is_better, metrics, read_run
from gantrain.sweeps.sweep import LOST, read_jobs


def test_a_run_is_read_from_its_small_files() -> None:
    run = read_run(make_run("one", **{"optimizer.lr": 1e-3}))
    assert (run.name, run.status, run.message, run.step) == ("one", "done", "", 30)
    assert run.settings["optimizer.lr"] == 1e-3
    assert run.seconds == 30.0  # 3,000 images at 100 per second
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


def test_the_latest_status_of_a_run_is_used() -> None:
    folder = make_run("one")
    crashed = job("one", status="crashed", message="a failure")
    assert (read_run(folder, crashed).status, read_run(folder, crashed).message) == ("crashed", "a failure")
    assert read_run(folder, {**crashed, "time": 99.0}).status == "done"  # It was resumed since.


def test_a_killed_run_is_distinguished_from_a_running_one() -> None:
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
        {"g": 2.0, "held_out_accuracy": 0.1},
        {"g": 1.0, "held_out_accuracy": 0.9},
        {"g": float("nan")},
        {"g": 1.5, "held_out_accuracy": 0.8},
    ]
    run = read_run(make_run("one", losses=losses))
    assert metrics(run) == {"g": {"final": 1.5}, "held_out_accuracy": {"final": 0.8, "best": 0.9}}
    run.settings |= {"objective.metric": "g", "objective.mode": "max"}  # As an objective it has a best value.
    assert metrics(run)["g"]["best"] == 2.0
    assert [higher_is_better(name) for name in ("heldout_psnr", "SSIM", "g_l1", "fid", "is_real")] == [1, 1, 0, 0, 0]


def test_the_better_direction_of_a_metric_is_looked_up_once_for_all_lines(monkeypatch) -> None:
    names = []
    monkeypatch.setattr(summary, "higher_is_better", lambda name: names.append(name) or name == "score")
    lines = [{"step": step, "score": float(step), "fid": float(step)} for step in (2, 3, 1)]
    run = Run("run", Path("run"), "done", "", measured=lines)
    assert metrics(run) == {"score": {"final": 1.0, "best": 3.0}, "fid": {"final": 1.0, "best": 1.0}}
    assert names == ["score", "fid"]
