"""Starting the ranks of a run on this machine."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from gantrain.runtime.distributed import AGAIN, LOST
from gantrain.runtime.signals import HANG_UPS, LAUNCHER, SIGNALS, signals_to

if TYPE_CHECKING:  # imported where it is used: it takes long
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


SAVING = 600  # seconds that ranks have to save and end, once they are told to stop


def launch(module: str, job: dict[str, Any], processes: int) -> int:
    """Run ``job`` on several processes of this machine with torch's elastic launcher (what ``torchrun`` runs).

    The workers read the composed configuration from a file, so that no worker parses a command line again.

    Args:
        module: Run by each with the path of a file that holds ``job`` as JSON.
        job: Plain values.
        processes: How many to start. Each leaves a file beside its job, ``<process>.rank``.

    Returns:
        The first non-zero exit status of a worker, or 0.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    told = 0

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told += 1
        for path in Path(folder).glob("*.rank") if told > 1 else ():
            with suppress(ProcessLookupError):
                os.kill(int(path.stem), KILL)
        raise SignalException(f"signal {number}", sigval=signal.Signals(number))  # torch then sends it to the ranks

    # a rank has said what went wrong, and torch's table of failures would bury its line
    log = logging.getLogger("torch.distributed.elastic")
    log.propagate = False
    log.addHandler(logging.NullHandler())
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    environment = {"OMP_NUM_THREADS": threads, **os.environ, LAUNCHER: str(os.getpid())}
    with (
        tempfile.TemporaryDirectory(prefix="gantrain-") as folder,
        _environment(environment),
        signals_to([*SIGNALS, *HANG_UPS], forward),
    ):
        # not every torch knows these two: some take signals themselves, and give ranks 30 seconds to save
        wishes: dict[str, Any] = {"signals_to_handle": "", "shutdown_timeout": SAVING}
        known = {field.name for field in dataclasses.fields(LaunchConfig)}
        launcher = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="gantrain",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            **{name: wish for name, wish in wishes.items() if name in known},
        )
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job))
        try:
            elastic_launch(launcher, sys.executable)("-m", module, str(path))
        except ChildFailedError as error:
            return _first_to_end(error.failures, "resume=auto" if job["config"]["resume"] == "never" else AGAIN)
        except SignalException as stop:
            return 128 + stop.sigval
    return 0


def _first_to_end(ends: Mapping[int, ProcessFailure], again: str) -> int:
    """The exit status of a run whose ranks have ended so; one that was killed could not say so itself.

    What starts it ``again`` is told then.

    Of those that ended in the same second, one that was told to by torch is not the first.
    """
    own = {rank: end for rank, end in ends.items() if end.exitcode != LOST} or ends
    first = min(own, key=lambda rank: (own[rank].timestamp, own[rank].exitcode == -signal.SIGTERM))
    status = own[first].exitcode
    if status > 0 and status != LOST:
        return status
    told = "the processes have lost touch with each other"
    if status < 0:
        why = ", most likely because memory ran out" if -status == signal.SIGKILL else ""
        told = f"rank {first} was killed by {signal.Signals(-status).name}{why}"
    line = "\n" if first == 0 else ""  # in the midst of which its progress bar may have been
    print(f"{line}gantrain: {told}; {again} goes on from the newest checkpoint", file=sys.stderr)
    return 128 - status if status < 0 else status


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
