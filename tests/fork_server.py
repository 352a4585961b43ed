"""A process that has imported everything and forks for every command, so that none has to import torch.

It has one thread and has computed nothing, so it is safe to fork. For each command it forks a supervisor, which forks
the command, reports its process ID, waits for it, and reports how it ended. Where the process that ordered a command
is gone, the supervisor kills the command. ``warm`` and ``forked_python`` order commands.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import re
import runpy
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from warm import LONGEST, Ended, Kill

HIGH = 250  # file descriptors from here on are the server's own; no more than that can be sent at once
CHANGES = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"}


def report_operations(folder: str, kill: Kill, pipe: int) -> None:
    """From now on write a line for each operation, and end this process before the one that is to be its last."""
    this, count = os.getpid(), 0

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
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

    sys.addaudithook(audit)


def run_python(argv: list[str]) -> int:
    """Do what ``python`` does with these arguments, to the end of the process, and return its exit status."""
    status: object = 0
    while argv[0] in ("-u", "-B"):
        if argv[0] == "-u":
            sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
        sys.dont_write_bytecode |= argv[0] == "-B"
        argv = argv[1:]
    try:
        if argv[0] == "-c":
            sys.argv = ["-c", *argv[2:]]
            exec(compile(argv[1], "<string>", "exec"), vars(sys.modules["__main__"]))
        elif argv[0] == "-m":
            sys.argv = argv[1:]
            sys.modules.pop(argv[1], None)
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = argv
            sys.path[0] = os.path.dirname(os.path.abspath(argv[0]))
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as stop:
        status = stop.code
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        status = 1
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    return status or 0


def parent_through(proxy: int) -> Callable[[], int]:
    """``os.getppid`` for this process: the parent of the process that it replaces."""
    this, getppid, status = os.getpid(), os.getppid, Path(f"/proc/{proxy}/status")

    def parent() -> int:
        if os.getpid() != this:
            return getppid()
        return int(re.findall(r"^PPid:\s+(\d+)", status.read_text(), re.MULTILINE)[0])

    return parent


def become(order: dict[str, Any], files: list[int], pipe: int) -> None:
    """Turn this process into the command, in a session of its own, as if a shell had started it."""
    os.setsid()
    pipe, *files = (fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, HIGH) for file in (pipe, *files))
    os.closerange(3, HIGH)
    for file, number in zip(files, order["files"], strict=True):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.path[:1] = [order["cwd"], *filter(None, order["env"].get("PYTHONPATH", "").split(os.pathsep))]
    sys.executable = order.get("executable", sys.executable)
    if "proxy" in order:
        os.getppid = parent_through(order["proxy"])
    sys.modules["__main__"] = ModuleType("__main__")
    exec(order.get("first", ""), {"__name__": "first"})
    if order.get("kill"):
        report_operations(order["cwd"], Kill(**order["kill"]), pipe)
    status = 1
    try:
        status = run_python(order["argv"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)  # without the second that it takes to destroy torch


def supervise(client: socket.socket) -> None:
    """Start the command, report its process ID, kill it when it is time, and report how it ended."""
    message, files, *_ = socket.recv_fds(client, LONGEST, HIGH)
    order = json.loads(message)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        become(order, files, writing)
    for file in (writing, *files):
        os.close(file)
    client.send(json.dumps({"pid": pid}).encode())
    kill = Kill(**order["kill"]) if order.get("kill") else None
    operations: list[str] = []
    with os.fdopen(reading) as lines:
        while kill and len(operations) < kill.operation and (line := lines.readline()):
            operations.append(line.strip())
        if kill and len(operations) == kill.operation and kill.delay:
            time.sleep(kill.delay)
            # It has not been waited for, so the process ID is still its own.
            os.kill(-pid if kill.group else pid, signal.SIGKILL)
        if client in select.select([os.pidfd_open(pid), client], [], [])[0]:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(BrokenPipeError):
        client.send(json.dumps(asdict(Ended(status, operations))).encode())


def import_everything() -> None:
    """What commands import and read, without starting a thread, and the most frequent compositions."""
    import pytest
    import torch
    import torch.distributed.launcher.api
    from shortcuts import collect_garbage_less, remember_compositions, remember_what_is_read

    import gantrain.cli.main
    import gantrain.test
    import gantrain.train  # noqa: F401
    from gantrain.cli.compose import compose_training
    from gantrain.data.sets import digits
    from gantrain.report.provenance import provenance

    for shortcut in (remember_compositions, remember_what_is_read):
        shortcut(pytest.MonkeyPatch())
    torch.set_num_threads(1)
    for words in ([], ["model=dcgan"], ["model=cyclegan"]):
        *_, defaults = compose_training([], [*words, "trainer.steps=1", "data.batch_size=4"])
        defaults()
    provenance(torch.device("cpu"))
    for phase in ("train", "test"):
        digits._read(16, phase)
    torch.use_deterministic_algorithms(False)  # imports much more
    collect_garbage_less()  # The first collection in a command would copy all memory of this process.


def serve(path: str) -> None:
    """Fork for every order that comes in through a socket at ``path``, until stdin is closed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import_everything()
    assert len(os.listdir("/proc/self/task")) == 1, "a process with several threads must not be forked"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    os.write(1, b"ready")
    os.dup2(2, 1)
    while listener in select.select([0, listener], [], [])[0]:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        client, _ = listener.accept()
        with client:
            if os.fork() == 0:
                listener.close()
                supervise(client)
                os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
