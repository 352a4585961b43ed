"""Loggers beside the run folder, none of which can stop a run."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from conftest import TINY

from gantrain.cli import main


def test_visdom_asked_for_without_the_package_names_the_extra(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "visdom", None)
    assert main(["train", *TINY, "logger=visdom"]) == 2
    message = capsys.readouterr().err
    assert "pip install 'gantrain[visdom]'" in message
    assert message.count("\n") == 1
    assert list(Path().iterdir()) == []


class Server:
    """Stands in for visdom's client: remembers what it was sent, and may die."""

    sent: list[tuple[str, dict]]

    def __init__(self, *, env: str, raise_exceptions: bool, **address: object) -> None:
        self.sent.append(("connect", {"env": env, **address}))

    def line(self, **options: object) -> None:
        self.sent.append(("line", options))

    def image(self, pixels: object, **options: object) -> None:
        self.sent.append(("image", {"shape": pixels.shape, **options}))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> type[Server]:
    Server.sent = []
    monkeypatch.setitem(sys.modules, "visdom", types.SimpleNamespace(Visdom=Server))
    return Server


def test_visdom_gets_curves_and_pictures_under_the_runs_name(server, train) -> None:
    train("run", "logger=visdom", "logger.port=99", "trainer.steps=4", "trainer.log_every=2")
    assert server.sent[0] == ("connect", {"env": "run", "server": "http://localhost", "port": 99})
    curve = [options for kind, options in server.sent if kind == "line" and options["win"] == "g"]
    assert [options["X"] for options in curve] == [[2], [4]]
    (picture,) = [options for kind, options in server.sent if kind == "image"]
    assert picture["shape"][0] == 3


def test_a_visdom_that_dies_costs_one_warning(server, train, capsys, monkeypatch) -> None:
    def die(self: Server, **options: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(Server, "line", die)
    state = train("run", "logger=visdom", "trainer.steps=4", "trainer.log_every=1")
    assert state["step"] == 4
    assert capsys.readouterr().err.count("warning: no visdom at http://localhost:8097 (gone)") == 1
