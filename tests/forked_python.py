"""Replaces ``python``: lets the fork server of ``warm`` run the command, and exits with its status.

It gets the path of the server's socket, that of the executable that it is started as, and the arguments of ``python``.
"""

import json
import os
import signal
import socket
import sys
from contextlib import suppress

path, executable, *argv = sys.argv[1:]
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect(path)
files = [int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
files.remove(server.fileno())
order = {"argv": argv, "cwd": os.getcwd(), "env": dict(os.environ), "files": files}
order |= {"executable": executable, "proxy": os.getpid()}
socket.send_fds(server, [json.dumps(order).encode()], files)
pid = json.loads(server.recv(1 << 16))["pid"]


def forward(number: int, frame: object) -> None:
    """Send a signal on to the command, which may have ended already."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, forward)
status = json.loads(server.recv(1 << 16))["status"]
if status < 0:
    if status != -signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
