"""Starting the ranks of a run on this machine."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from gantrain.runtime import console
from gantrain.runtime.distributed import LOST
from gantrain.runtime.scratch import scratch_folder
from gantrain.runtime.signals import HANG_UPS, LAUNCHER, SIGNALS, STOP, environment, signals_to

if TYPE_CHECKING:  # Slow to import.
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
# Python would print a stack trace if Ctrl-C came before its first statement, so it starts with the signal ignored.
QUIETLY = ["/bin/sh", "-c", 'trap "" INT; exec "$0" "$@"'] if os.name == "posix" else []
# A rank imports from where this process does, and not from the current folder, as it would by ``-m``.
RANK = """import sys
sys.path[:] = {path!r}
from gantrain.runtime.signals import begin_rank
begin_rank(sys.argv[1])
from {module} import end_as_rank
end_as_rank(sys.argv[1])
"""


def launch(module: str, job: dict[str, Any], processes: int) -> int:
    """Run ``job`` in several processes on this machine with torch's elastic launcher, which ``torchrun`` uses too.

    The first signal is forwarded to the ranks, so that they save, or end if they have not begun; a second one kills
    them.

    Args:
        module: Each process calls its ``end_as_rank`` with the path of a file that contains ``job`` as JSON.
        job: Plain values, with the composed configuration under ``config``.
        processes: The number of ranks.

    Returns:
        The exit status of the rank that failed first, or 0.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        (folder / STOP).touch()
        for rank in folder.glob("*.rank"):  # Here, too, in case that the exception is lost in a library.
            with suppress(ProcessLookupError):
                os.kill(int(rank.stem), number if len(received) == 1 else KILL)
        raise SignalException(f"signal {number}", sigval=signal.Signals(number))  # torch then sends it to the ranks.

    # The rank that failed has printed its error; torch's table of failures would bury that line.
    log = logging.getLogger("torch.distributed.elastic")
    log.propagate = False
    log.addHandler(logging.NullHandler())
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    command = [*QUIETLY, sys.executable, "-c", RANK.format(path=sys.path, module=module)]
    try:
        with (
            scratch_folder() as folder,
            environment({"OMP_NUM_THREADS": threads, **os.environ, LAUNCHER: str(os.getpid())}),
            signals_to([*SIGNALS, *HANG_UPS], forward),
        ):
            path = folder / "job.json"
            path.write_text(json.dumps(job))
            elastic_launch(_launch_config(processes, folder), command[0])(*command[1:], str(path))
    except Exception as error:
        if not received:
            if not isinstance(error, ChildFailedError):
                raise
            same_command = job["config"]["resume"] != "never"
            return _first_failure(error.failures, "run the same command" if same_command else "give resume=auto")
    return 128 + received[0] if received else 0


def _launch_config(processes: int, folder: Path) -> LaunchConfig:
    """The settings of torch's launcher, with its files in ``folder``, for processes here that are not restarted."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    # Some versions of torch lack these options: they may handle signals themselves or wait only 30 seconds.
    optional: dict[str, Any] = {"signals_to_handle": "", "shutdown_timeout": 600}  # Seconds for ranks to save.
    known = {field.name for field in dataclasses.fields(LaunchConfig)}
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="gantrain",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
        **{name: value for name, value in optional.items() if name in known},
    )


def _first_failure(failures: Mapping[int, ProcessFailure], remedy: str) -> int:
    """The exit status of the rank that failed first; if it was killed, this prints the reason."""
    # Times are whole seconds of when torch looked, after it had terminated the ranks that were left.
    causes = {rank: failure for rank, failure in failures.items() if failure.exitcode != LOST} or failures
    first = min(causes, key=lambda rank: (causes[rank].exitcode == -signal.SIGTERM, causes[rank].timestamp))
    status = causes[first].exitcode
    if status > 0 and status != LOST:
        return status
    reason = "lost connection between the ranks"
    if status < 0:
        cause = ", most likely because memory ran out" if -status == signal.SIGKILL else ""
        reason = f"rank {first} was killed by {signal.Signals(-status).name}{cause}"
    before = [""] if first == 0 else []  # Rank 0 may have left an unfinished progress bar.
    console.err(*before, f"gantrain: {reason}; {remedy} to resume from the newest checkpoint")
    return 128 - status if status < 0 else status
