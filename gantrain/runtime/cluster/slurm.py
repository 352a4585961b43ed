"""The ranks of a SLURM step, which need no other launcher than ``srun``."""

from __future__ import annotations

import re
from collections.abc import MutableMapping

from gantrain.errors import ConfigError

VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_NODEID",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)
FIRST_PORT, PORTS = 20_000, 10_000


def adopt_slurm_step(environ: MutableMapping[str, str]) -> None:
    """Set the variables that torch reads from those of a SLURM step of several tasks, each of which is a rank.

    ``MASTER_ADDR`` and ``MASTER_PORT`` stay as they are if they are set. Nothing changes where another launcher has set
    ``WORLD_SIZE``, in a step of one task, and in a batch script outside of ``srun``.

    Raises:
        ConfigError: Some variables of SLURM are missing, as in a container that passes on others alone.
    """
    tasks = environ.get("SLURM_STEP_NUM_TASKS", "1")
    if "WORLD_SIZE" in environ or tasks == "1":
        return
    missing = [name for name in VARIABLES if name not in environ]
    if missing:
        raise ConfigError(
            f"SLURM_STEP_NUM_TASKS={tasks} is set, but not {' and '.join(missing)}: set or unset them all"
        )
    job, step = int(environ["SLURM_JOB_ID"]), int(environ["SLURM_STEP_ID"])
    environ.setdefault("MASTER_ADDR", first_host(environ["SLURM_STEP_NODELIST"]))
    environ.setdefault("MASTER_PORT", str(FIRST_PORT + (job + step) % PORTS))
    environ["WORLD_SIZE"] = tasks
    environ["RANK"] = environ["SLURM_PROCID"]
    environ["LOCAL_RANK"] = environ["SLURM_LOCALID"]
    counts = tasks_of_nodes(environ["SLURM_STEP_TASKS_PER_NODE"])
    environ["LOCAL_WORLD_SIZE"] = str(counts[int(environ["SLURM_NODEID"])])


def first_host(nodes: str) -> str:
    """The first host of a list such as ``login,gpu[03-05,7]``."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    assert first is not None
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first.group())


def tasks_of_nodes(counts: str) -> list[int]:
    """The number of tasks of each node, of a list such as ``2(x3),1``."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", counts)
    return [int(count) for count, times in found for _ in range(int(times or 1))]
