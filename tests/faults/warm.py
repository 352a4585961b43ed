"""Starts the command again and again without the seconds that importing takes, and kills it where it is told to.

A process that has imported everything, has one thread and has computed nothing is safe to fork. It reads one JSON
object a line (see ``Warm.start``), and answers with a line that has the new process's ``pid``, and, once
that has ended, another that is an ``Ended``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Kill:
    """When to send SIGKILL.

    Attributes:
        operation: Counts what changes the run folder, from 1: files opened for writing, renamed, linked and removed,
            folders made and removed.
        delay: Seconds after that operation's beginning; 0 for at once, before anything is done.
        group: Whether the processes that read images are killed too, as by a machine that goes down.
    """

    operation: int
    delay: float = 0.0
    group: bool = False


@dataclass(frozen=True)
class Ended:
    """How a process has ended.

    Attributes:
        status: The exit status, or minus a signal's number.
        operations: What it did to the run folder, with # for numbers, if it was to be killed; of the last one, only
            that it was about to.
    """

    status: int
    operations: list[str]


class Warm:
    """The forking process, as a context manager."""

    def __enter__(self) -> Warm:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, argv: Sequence[str], folder: Path, *, kill: Kill | None = None, first: str = "") -> int:
        """Start ``gantrain`` with ``argv`` in ``folder``, where ``log.txt`` takes what it prints; ``wait`` is next.

        Args:
            argv: As typed.
            folder: Where.
            kill: When to kill it.
            first: Python that it runs before.

        Returns:
            The process's number, which is its session's too.
        """
        order = {"argv": list(argv), "folder": str(folder), "kill": kill and asdict(kill), "first": first}
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return int(self._answer()["pid"])

    def wait(self) -> Ended:
        """Until the process has ended."""
        return Ended(**self._answer())

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


CHANGES = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"}


def tell_operations(folder: str, kill: Kill, pipe: int) -> None:
    """From now on write a line for each operation, and end this process before the one that is to be its last."""
    this, count = os.getpid(), 0

    def seen(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in CHANGES or not isinstance(arguments[0], (str, os.PathLike)) or os.getpid() != this:
            return
        path = os.path.abspath(arguments[0])
        if f"{folder}/checkpoints" not in path or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        count += 1
        name = re.sub(r"\d+", "#", os.path.basename(path))
        os.write(pipe, f"{event.removeprefix('os.')} {name}\n".encode())
        if count == kill.operation and not kill.delay:
            os.kill(0 if kill.group else this, signal.SIGKILL)

    sys.addaudithook(seen)


def become(order: dict[str, Any], pipe: int) -> None:
    """The command, in a session of its own, as if a shell had started it."""
    from gantrain.cli.main import main

    os.setsid()
    os.chdir(order["folder"])
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(log, number)
    exec(order["first"], {"__name__": "first"})
    if order["kill"]:
        tell_operations(order["folder"], Kill(**order["kill"]), pipe)
    status = main(order["argv"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # to take torch apart costs a second; and whatever were left to be done then would be missed


def attend(pid: int, kill: Kill | None, pipe: int) -> Ended:
    """Kill a process when it is time, and say how it has ended."""
    operations: list[str] = []
    with os.fdopen(pipe) as lines:
        while kill and len(operations) < kill.operation and (line := lines.readline()):
            operations.append(line.strip())
        if kill and len(operations) == kill.operation and kill.delay:
            time.sleep(kill.delay)
            # not waited for yet, so that the number is still its own
            os.kill(-pid if kill.group else pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Ended(status, operations)


def serve() -> int:
    os.environ["OMP_NUM_THREADS"] = "1"

    import hydra  # noqa: F401 - what the command would import
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)  # imports much more
    assert len(os.listdir("/proc/self/task")) == 1, "a process of several threads must not be forked"
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    print(json.dumps("ready"), file=replies)
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            replies.close()
            os.close(reading)
            sys.stdin = open(os.devnull)  # noqa: SIM115
            become(order, writing)
        os.close(writing)
        print(json.dumps({"pid": pid}), file=replies)
        kill = Kill(**order["kill"]) if order["kill"] else None
        print(json.dumps(asdict(attend(pid, kill, reading))), file=replies)
    return 0


if __name__ == "__main__":
    sys.exit(serve())
