"""A cluster on this machine: its commands run small jobs here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

GANTRAIN = """#!/bin/sh
set -f
[ "$1" = benchmark ] && SMALL="$SMALL steps=1 warmup=2"
exec PYTHON -m gantrain "$@" $SMALL
"""
TORCHRUN = """#!/bin/sh
set -f
exec PYTHON -m torch.distributed.run "$@" $SMALL
"""
# Starts the tasks of a step with the variables that SLURM sets, each as if on a node of its own.
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do
    [[ $1 == --output || $1 == --error ]] && shift
    shift
done
export SLURM_JOB_ID=${SLURM_JOB_ID:-4711} SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=$TASKS SLURM_STEP_NODELIST=127.0.0.1
export SLURM_STEP_TASKS_PER_NODE="1(x$TASKS)" SLURM_LOCALID=0
for ((task = 0; task < TASKS; task++)); do
    SLURM_PROCID=$task SLURM_NODEID=$task "$@" &
    tasks+=($!)
done
for task in "${tasks[@]}"; do
    wait $task || status=$?
done
exit ${status:-0}
"""
# Says that it has queued the jobs of an array, and runs one after another.
SBATCH = """#!/bin/bash
script=$(<"$1")
jobs=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
for ((job = 0; job <= jobs; job++)); do
    SLURM_JOB_ID=$((4711 + job)) SLURM_ARRAY_JOB_ID=4711 SLURM_ARRAY_TASK_ID=$job bash -c "$script"
done >>sbatch.txt 2>&1 &
echo "Submitted batch job 4711"
"""
SACCT = """#!/bin/sh
printf 'JobID|State|NodeList\\n4711_[0-99]|COMPLETED|here\\n'
"""


class Cluster:
    """A login node whose shell knows ``gantrain``, ``torchrun``, ``srun`` and ``sbatch``.

    Args:
        folder: Where its commands are written.
        python: The interpreter that they run.
        small: Overrides that are added to every training and benchmark.
    """

    def __init__(self, folder: Path, python: str, small: list[str]) -> None:
        folder.mkdir()
        commands = {"gantrain": GANTRAIN, "torchrun": TORCHRUN, "srun": SRUN, "sbatch": SBATCH, "sacct": SACCT}
        for name, text in commands.items():
            (folder / name).write_text(text.replace("PYTHON", python))
            (folder / name).chmod(0o755)
        self.variables = {
            **os.environ,
            "PATH": os.pathsep.join([str(folder.absolute()), os.environ["PATH"]]),
            "PYTHONPATH": str(Path.cwd()),
            "OMP_NUM_THREADS": "1",
            "SMALL": " ".join(small),
            "TASKS": "1",
        }

    def run(self, script: str, *nodes: dict[str, str]) -> None:
        """Run a script in a shell on each node at once; ``nodes`` are the variables that differ.

        Raises:
            AssertionError: A command in it failed.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        script = script.replace("29500", port)
        shells = []
        for number, own in enumerate(nodes):
            variables = {**self.variables, "MASTER_PORT": port, "PET_MASTER_PORT": port, **own}
            with Path(f"printed_{number}.txt").open("w") as printed:
                command = ["bash", "-e", "-c", script]
                process = subprocess.Popen(
                    command, env=variables, stdout=printed, stderr=printed, start_new_session=True
                )
                shells.append(process)
        try:
            statuses = [shell.wait(120) for shell in shells]
        except subprocess.TimeoutExpired:
            for shell in shells:
                os.killpg(shell.pid, signal.SIGKILL)
            raise
        printed = "\n".join(Path(f"printed_{number}.txt").read_text() for number in range(len(nodes)))
        assert not any(statuses), f"{script}\n{printed}"
