"""Train with several workers of a Ray cluster, each with a GPU: python ray_job.py model=cyclegan data=horse2zebra ...

It needs `pip install ray` beside gantrain on all machines, and folders that all of them share: the one with the data
set, and checkpoints_dir=FOLDER. The status is that of the first worker that fails; the same command resumes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import ray

WORKERS, GPUS = int(os.environ.get("WORKERS", "4")), float(os.environ.get("GPUS_PER_WORKER", "1"))


@ray.remote(num_gpus=GPUS)
class Worker:
    """A process on some machine of the cluster, which is a rank of the run."""

    def address(self) -> dict[str, str]:
        """Where the ranks meet if this is rank 0."""
        with socket.socket() as free:
            free.bind(("", 0))
            return {"MASTER_ADDR": ray.util.get_node_ip_address(), "MASTER_PORT": str(free.getsockname()[1])}

    def train(self, rank: int, address: dict[str, str], overrides: list[str]) -> int:
        """Train as one of the ranks."""
        variables = {**address, "RANK": str(rank), "WORLD_SIZE": str(WORKERS)}
        command = [sys.executable, "-m", "gantrain", "train", *overrides]
        return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode


def main() -> int:
    """Start the workers and wait for them."""
    ray.init()
    workers = [Worker.remote() for _ in range(WORKERS)]
    address = ray.get(workers[0].address.remote())
    jobs = [worker.train.remote(rank, address, sys.argv[1:]) for rank, worker in enumerate(workers)]
    return max(ray.get(jobs))


if __name__ == "__main__":
    sys.exit(main())
