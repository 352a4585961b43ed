"""Steps of SLURM, whose variables are enough to start the ranks of a run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, newest

from gantrain.cli.main import main
from gantrain.errors import ConfigError
from gantrain.runtime.cluster.slurm import adopt_slurm_step, first_host, tasks_of_nodes

# As srun sets them for the fourth of five tasks, on the second of two nodes.
STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
    "SLURM_STEP_TASKS_PER_NODE": "2,3",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


def test_a_task_is_a_rank() -> None:
    environ = dict(STEP)
    adopt_slurm_step(environ)
    own = {key: value for key, value in environ.items() if key not in STEP}
    assert own == {
        "MASTER_ADDR": "gpu03",
        "MASTER_PORT": "24713",
        "RANK": "3",
        "WORLD_SIZE": "5",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "3",
    }


@pytest.mark.parametrize(
    "environ",
    [
        {},
        STEP | {"WORLD_SIZE": "2"},  # Of another launcher, such as torchrun on each node.
        STEP | {"SLURM_STEP_NUM_TASKS": "1"},
        {key: value for key, value in STEP.items() if "STEP" not in key},  # A batch script, without srun.
    ],
)
def test_nothing_changes_where_tasks_are_no_ranks(environ: dict[str, str]) -> None:
    before = dict(environ)
    adopt_slurm_step(environ)
    assert environ == before


def test_a_step_that_lacks_variables_is_refused() -> None:
    environ = {key: value for key, value in STEP.items() if key != "SLURM_PROCID"}
    with pytest.raises(ConfigError, match="SLURM_STEP_NUM_TASKS=5 is set, but not SLURM_PROCID"):
        adopt_slurm_step(environ)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu7", "gpu7"),
        ("login,gpu[03-05]", "login"),
        ("gpu[03-05,7],cpu1", "gpu03"),
        ("r[1-2]n[08,10]-ib", "r1n08-ib"),
    ],
)
def test_ranks_meet_on_the_first_node(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_tasks_are_counted_for_each_node() -> None:
    assert tasks_of_nodes("2(x3),1") == [2, 2, 2, 1]


@pytest.mark.usefixtures("warm_python")
def test_two_tasks_train_together() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    step = STEP | {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    }
    command = [sys.executable, "-m", "gantrain", "train", *TINY, "name=step", "trainer.steps=1"]
    processes = [
        subprocess.Popen(
            command,
            env={
                **os.environ,
                **step,
                "SLURM_PROCID": rank,
                "SLURM_NODEID": rank,
                "SLURM_LOCALID": "0",
                "MASTER_PORT": port,
            }
            | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
        )
        for rank in ("0", "1")
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert len(newest("step")["ranks"]) == 2


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "0"}, ["WORLD_SIZE=2", "not MASTER_ADDR and MASTER_PORT"]),
        ({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "RANK": "2"}, ["RANK=2", "from 0 to", "1"]),
    ],
)
def test_incomplete_variables_are_refused_in_one_line(
    variables: dict[str, str], words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value in {"WORLD_SIZE": "2", **variables}.items():
        monkeypatch.setenv(key, value)
    assert main(["train", *TINY, "trainer.steps=1"]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    for word in words:
        assert word in printed
