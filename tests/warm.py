"""A fork server: runs Python commands in new processes without the seconds that importing torch takes.

The server has imported everything, has one thread and has computed nothing, so it is safe to fork. For each command it
forks a supervisor, which forks the command, reports its process ID, waits for it, and reports how it ended. Where the
process that asked for a command is gone, the supervisor kills the command.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import re
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import IO, Any

LONGEST = 1 << 17  # bytes of a message: arguments and environment
HIGH = 250  # file descriptors from here on are the server's own; no more than that can be sent at once
CHANGES = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"}


@dataclass(frozen=True)
class Kill:
    """When to send SIGKILL.

    Attributes:
        operation: Counts the operations that change the run folder, from 1: files opened for writing, renamed, linked
            and removed, folders created and removed.
        delay: Seconds after that operation begins; 0 kills before it takes effect.
        group: Whether the data workers are killed too, as by a machine that goes down.
    """

    operation: int
    delay: float = 0.0
    group: bool = False


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: The exit status, or minus the number of a signal.
        operations: The operations on the run folder, with # for numbers, if the process was to be killed. The last
            one may not have taken effect.
    """

    status: int
    operations: list[str]


class Child:
    """A running command, used like ``subprocess.Popen`` in text mode; it leads a session of its own.

    Attributes:
        pid: Its process ID.
        stdin: Open for writing, if that is a pipe.
        stdout: Open for reading, if that is a pipe.
        returncode: ``None`` while it runs.
    """

    def __init__(self, server: socket.socket, stderr: IO[str], stdin: int | None = None, stdout: int | None = None):
        self._server, self._stderr = server, stderr
        self.stdin = None if stdin is None else os.fdopen(stdin, "w")
        self.stdout = None if stdout is None else os.fdopen(stdout)
        self.ended: Ended | None = None
        self.pid = int(self._receive()["pid"])

    @property
    def returncode(self) -> int | None:
        return self.ended.status if self.ended else None

    def poll(self) -> int | None:
        """The return code, or ``None`` while it runs."""
        with suppress(TimeoutError):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its return code.

        Raises:
            TimeoutError: It runs for longer than ``timeout`` seconds.
        """
        if self.ended is None:
            if not select.select([self._server], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
            self.ended = Ended(**self._receive())
            self._server.close()
        return self.ended.status

    def communicate(self, text: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Write to its stdin and close that, wait for its end, and return what it has written since to its outputs."""
        assert self.stdin is not None
        assert self.stdout is not None
        with suppress(BrokenPipeError), self.stdin:
            self.stdin.write(text)
        if timeout is not None:
            self.wait(timeout)
        with self.stdout:
            out = self.stdout.read()
        self.wait()
        self._stderr.seek(0)
        return out, self._stderr.read()

    def send_signal(self, number: int) -> None:
        """Send a signal to it alone; ``os.killpg(child.pid, ...)`` reaches those that it has started too."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL to it alone."""
        self.send_signal(signal.SIGKILL)

    def _receive(self) -> Any:
        return json.loads(self._server.recv(LONGEST))


class Warm:
    """The fork server, as a context manager.

    Attributes:
        python: An executable that behaves like ``python`` and has the server fork instead of importing anything. Set
            ``sys.executable`` to it where libraries start processes of their own.
    """

    def __enter__(self) -> Warm:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        self._path = f"{self._folder.name}/socket"
        self.python = f"{self._folder.name}/python"
        proxy = shlex.join([sys.executable, "-IS", str(Path(__file__).with_name("forked_python.py")), self._path])
        # Submitit's controller, which imports little, must have the process ID that it was started with.
        real = f'[ "$2" = submitit.local._local ] && exec {shlex.quote(sys.executable)} "$@"'
        Path(self.python).write_text(f'#!/bin/sh\n{real}\nexec {proxy} "$0" "$@"\n')
        os.chmod(self.python, 0o755)
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for pytest alone
        )
        assert self._process.stdout is not None
        assert self._process.stdout.read() == b"ready"  # It closes that, too.
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        self._folder.cleanup()

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        executable: str = sys.executable,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """``subprocess.run([sys.executable, *argv], capture_output=True, text=True)``, in a forked process.

        Args:
            argv: ``-c CODE``, ``-m MODULE`` or a script, and its arguments.
            cwd: Its working directory; this process's by default.
            env: Its environment; this process's by default.
            executable: Its ``sys.executable``.
            timeout: Seconds after which it is killed.

        Raises:
            TimeoutError: It was.
        """
        with (
            tempfile.TemporaryFile() as empty,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
        ):
            order = {"argv": list(argv), "cwd": cwd, "env": env, "executable": executable}
            child = Child(self._send(order, [empty, out, err]), err)
            try:
                status = child.wait(timeout)
            except TimeoutError:
                os.killpg(child.pid, signal.SIGKILL)
                raise
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(argv), status, out.read(), err.read())

    def popen(
        self,
        argv: Sequence[str],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        executable: str = sys.executable,
    ) -> Child:
        """As ``run``, but return while it runs, with pipes for stdin and stdout; stderr goes to a file."""
        err = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the child
        stdin, to_stdin = os.pipe()
        from_stdout, stdout = os.pipe()
        with open(stdin) as stdin_file, open(stdout, "w") as stdout_file:
            order = {"argv": list(argv), "cwd": cwd, "env": env, "executable": executable}
            server = self._send(order, [stdin_file, stdout_file, err])
        return Child(server, err, to_stdin, from_stdout)

    def start(
        self,
        argv: Sequence[str],
        folder: Path,
        *,
        kill: Kill | None = None,
        first: str = "",
        executable: str = sys.executable,
    ) -> int:
        """Start ``gantrain`` with ``argv`` in ``folder``, where it prints to ``log.txt``; ``wait`` is next.

        Args:
            argv: What follows ``gantrain`` on the command line.
            folder: Its working directory.
            kill: When to kill it.
            first: Python code that it runs before.
            executable: Its ``sys.executable``.

        Returns:
            Its process ID, which is also its session's.
        """
        order = {"argv": ["-m", "gantrain", *argv], "cwd": folder, "executable": executable, "first": first}
        order["kill"] = kill and asdict(kill)
        with open(os.devnull) as empty, (folder / "log.txt").open("a") as log:
            self._started = Child(self._send(order, [empty, log, log]), log)
        return self._started.pid

    def wait(self) -> Ended:
        """Wait for the end of what ``start`` started."""
        self._started.wait()
        assert self._started.ended is not None
        return self._started.ended

    def _send(self, order: dict[str, Any], files: Sequence[IO[Any]]) -> socket.socket:
        """Order a command with these for stdin, stdout and stderr; the connection, on which its end is reported."""
        order["cwd"] = os.path.abspath(order["cwd"] or os.getcwd())
        order["env"] = dict(order.get("env") or os.environ)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.connect(self._path)
        message = json.dumps({**order, "files": [0, 1, 2]}).encode()
        socket.send_fds(server, [message], [file.fileno() for file in files])
        return server


# ---- in the server


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
    """``os.getppid`` for this process: the parent of the one that stands in for it."""
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
    """What commands import, without starting a thread."""
    import hydra  # noqa: F401
    import torch
    import torch.distributed.launcher.api
    from hydra.core.plugins import Plugins

    import gantrain.test
    import gantrain.train  # noqa: F401

    Plugins.instance()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)  # imports much more


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
