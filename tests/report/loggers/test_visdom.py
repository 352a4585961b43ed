"""The visdom logger with a real server on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import needs

from gantrain.report import Report
from gantrain.report.loggers import visdom as visdom_logger
from gantrain.report.loggers.visdom import VisdomLogger

# What `python -m visdom.server -bind_local` does once it has downloaded its page's scripts, in a process that dies with
# this one; a server that was killed is restarted quickly.
SERVE = """
import os, signal, sys
from visdom.server.run_server import start_server
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        sys.stdout = open(os.devnull, "w")
        start_server(port=int(sys.argv[1]), env_path=sys.argv[2], base_url="", bind_local=True)
    print(child, flush=True)
"""


class Server:
    """A visdom server that can be killed and restarted without its state."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        command = [sys.executable, "-c", SERVE, str(self.port), str(folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.starter = subprocess.Popen(command, text=True, **pipes)
        self.process = 0

    def start(self) -> None:
        """Start it, unless it runs."""
        if not self.process:
            print("start", file=self.starter.stdin, flush=True)
            self.process = int(self.starter.stdout.readline())
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                os.kill(self.process, 0)
                time.sleep(0.02)

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self.process:
            os.kill(self.process, signal.SIGKILL)
        self.process = 0

    def close(self) -> None:
        self.kill()
        self.starter.communicate()

    def windows(self, run: str) -> dict[str, Any]:
        """The contents of the environment of a run, by window."""
        import requests

        request = {"win": None, "eid": run}
        answer = requests.post(f"http://127.0.0.1:{self.port}/win_data", data=json.dumps(request), timeout=10)
        return json.loads(answer.text)

    def curve(self, run: str, name: str) -> list[tuple[float, float]]:
        (trace,) = self.windows(run)[name]["content"]["data"]
        return list(zip(trace["x"], trace["y"], strict=True))


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    needs("visdom")
    server = Server(tmp_path_factory.mktemp("visdom"))
    yield server
    server.close()


@pytest.fixture
def server(one_server: Server) -> Server:
    """A running server."""
    one_server.start()
    return one_server


def options(server: Server) -> list[str]:
    address = [f"logger.visdom.port={server.port}", "logger.visdom.server=http://127.0.0.1"]
    return ["logger=visdom", *address, "logger.visdom.retry_seconds=0", "trainer.log_every=1"]


def logged(name: str, what: str) -> list[tuple[int, float]]:
    lines = [json.loads(text) for text in Path(f"checkpoints/{name}/losses.jsonl").read_text().splitlines()]
    return [(line["step"], pytest.approx(line[what])) for line in lines]


def test_curves_and_images_are_in_an_environment_of_the_run(server, train) -> None:
    train("first.run", *options(server), "trainer.steps=4", "trainer.image_every=2")
    shown = server.windows("first.run")
    for name in ("g", "d_real"):
        assert server.curve("first.run", name) == logged("first.run", name)
        assert shown[name]["title"] == name
    images = [window for window in shown.values() if window["type"] == "image"]
    assert [window["title"].rpartition(", ")[2] for window in images] == ["step 4"]
    assert server.windows("main") == {}


def test_a_resumed_or_restarted_run_has_no_point_twice(server, train) -> None:
    train("again", *options(server), "trainer.steps=6", "trainer.save_every=4", "trainer.keep=0")
    Path("checkpoints/again/step_6.pt").unlink()  # As after a kill before it was written.
    train("again", *options(server), "trainer.steps=8")
    assert server.curve("again", "g") == logged("again", "g")
    assert len(logged("again", "g")) == 8
    train("again", *options(server), "trainer.steps=2", "resume=never")
    assert server.curve("again", "g") == logged("again", "g")
    assert len(logged("again", "g")) == 2


def at_step(step: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something in the middle of a run."""
    log = Report.log

    def acting(self: Report, **line: Any) -> None:
        if line["step"] == step:
            act()
        log(self, **line)

    monkeypatch.setattr(Report, "log", acting)


def test_a_server_that_dies_costs_one_warning(server, train, monkeypatch, capfd) -> None:
    at_step(3, server.kill, monkeypatch)
    state = train("dies", *options(server), "trainer.steps=20", "trainer.image_every=5")
    assert state["step"] == 20
    output = capfd.readouterr()
    assert output.err.count("warning") == 1
    assert f"warning: logger visdom: http://127.0.0.1:{server.port} can't be reached; training continues" in output.err
    for noise in ("Traceback", "Error connecting", "Exception", "Setting up"):
        assert noise not in output.out + output.err


def test_a_restarted_server_gets_what_it_has_missed(server, train, monkeypatch, capfd) -> None:
    at_step(3, server.kill, monkeypatch)
    at_step(8, server.start, monkeypatch)
    train("back", *options(server), "trainer.steps=12", "trainer.image_every=6")
    assert server.curve("back", "g") == logged("back", "g")
    assert [window["type"] for window in server.windows("back").values()].count("image") == 1
    assert capfd.readouterr().err.count("warning") == 1


def test_a_closed_window_is_drawn_again(server, train, monkeypatch) -> None:
    import requests

    scalars = VisdomLogger.scalars

    def closing(self: VisdomLogger, step: int, values: Any) -> None:
        if step == 4:
            address = f"http://127.0.0.1:{server.port}/close"
            requests.post(address, data=json.dumps({"win": "g", "eid": "closed"}), timeout=10)
        scalars(self, step, values)

    monkeypatch.setattr(VisdomLogger, "scalars", closing)
    train("closed", *options(server), "trainer.steps=8")
    assert server.curve("closed", "g") == logged("closed", "g")


def test_a_server_that_never_runs_costs_one_warning(server, train, capfd) -> None:
    server.kill()
    train("never", *options(server), "trainer.steps=6")
    assert capfd.readouterr().err.count("warning") == 1


def test_a_server_that_does_not_answer_does_not_delay_the_run(train, capfd, monkeypatch) -> None:
    needs("visdom")
    monkeypatch.setattr("gantrain.report.loggers.async_logger.END_TIMEOUT", 0.2)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        typed = [f"logger.visdom.port={deaf.getsockname()[1]}", "logger.visdom.server=http://127.0.0.1"]
        assert train("deaf", "logger=visdom", *typed, "trainer.steps=6", "trainer.log_every=1")["step"] == 6
    assert capfd.readouterr().err.count("warning: logger visdom: has not received everything") == 1


class Forgetful:
    """A server that draws what it receives, but whose answers are lost."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []
        self.answers = True

    def win_exists(self, name: str) -> bool:
        return True

    def line(self, *, X: Any, Y: Any, update: str | None, **options: Any) -> None:  # noqa: N803 - visdom's names
        sent = list(zip(X.tolist(), Y.tolist(), strict=True))
        self.points = self.points + sent if update == "append" else sent
        if not self.answers:
            raise visdom_logger.ServerUnavailableError("does not answer")


def test_a_point_whose_arrival_is_unknown_is_not_doubled(monkeypatch) -> None:
    needs("visdom")
    server = Forgetful()
    monkeypatch.setattr(visdom_logger, "connect", lambda address: server)
    logger = VisdomLogger(server="http://127.0.0.1", port=1, retry_seconds=0, run="run")
    logger.begin(0, {}, [])
    logger.scalars(1, {"g": 0.1})
    server.answers = False
    with pytest.raises(OSError, match="does not answer"):
        logger.scalars(2, {"g": 0.2})
    server.answers = True
    logger.scalars(3, {"g": 0.3})
    assert server.points == [(1, 0.1), (2, 0.2), (3, 0.3)]
