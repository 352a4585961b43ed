"""Commands in new processes that are forked by a server, without the seconds that importing torch takes."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

HERE = Path(__file__).parent
LONGEST = 1 << 17  # bytes of a message: arguments and environment


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
        proxy = shlex.join([sys.executable, "-IS", str(HERE / "forked_python.py"), self._path])
        # Submitit's controller, which imports little, must have the process ID that it was started with.
        real = f'[ "$2" = submitit.local._local ] && exec {shlex.quote(sys.executable)} "$@"'
        Path(self.python).write_text(f'#!/bin/sh\n{real}\nexec {proxy} "$0" "$@"\n')
        os.chmod(self.python, 0o755)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fork_server.py"), self._path],
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
        # The end of its input is not enough: processes that tests have forked may hold the other end of that pipe.
        os.killpg(self._process.pid, signal.SIGTERM)
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
