"""Malicious files and names: their code never runs, nothing is written outside the run, and one line says why."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY

import gantrain
from gantrain.checkpoints import file as checkpoint_file
from gantrain.cli.main import main
from gantrain.errors import ConfigError

SENTINEL = Path("PWNED")


class Evil:
    """Creates a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return os.mkdir, (str(SENTINEL.absolute()),)


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def saved_as_before(content: Any) -> bytes:
    """The format of torch before 1.6: a sequence of pickles without an archive."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


PICKLES: dict[str, Callable[[Any], bytes]] = {
    "archive": saved,
    "legacy": saved_as_before,
    "bare": pickle.dumps,
    "old": partial(pickle.dumps, protocol=0),
}


def files() -> dict[Path, str]:
    """The hashes of all files, by path."""
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in Path().rglob("*")}


def refusal(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a refused command, which runs no code and changes no file."""
    capsys.readouterr()
    before = files()
    assert main(argv) in (1, 2)
    message = capsys.readouterr().err
    assert not SENTINEL.exists()
    assert files() == before
    lines = [line for line in message.splitlines() if line.startswith("gantrain: ")]
    assert len(lines) == 1, message
    assert "Traceback" not in message
    return message


# ---- pickles
@pytest.mark.parametrize("kind", PICKLES)
def test_the_pickles_of_these_tests_run_code_when_they_are_trusted(kind: str) -> None:
    content = io.BytesIO(PICKLES[kind](Evil()))
    if kind in ("bare", "old"):
        pickle.load(content)
    else:
        torch.load(content, weights_only=False)
    assert SENTINEL.is_dir()


@pytest.mark.parametrize("kind", PICKLES)
def test_a_checkpoint_with_code_is_refused_by_every_command(kind: str, capsys) -> None:
    run = Path("checkpoints/run")
    run.mkdir(parents=True)
    (run / "step_1.pt").write_bytes(PICKLES[kind]({"format": 3, "step": 1, "model": Evil()}))
    for argv in (
        ["test", "run=checkpoints/run"],
        ["test", "run=checkpoints/run", "step=1", "trust_plugins=true"],
        ["train", *TINY, "trainer.steps=1", "name=run"],
        ["train", *TINY, "trainer.steps=1", "name=other", "init_from=checkpoints/run"],
    ):
        assert "step_1.pt" in refusal(argv, capsys)
    with pytest.raises(ConfigError, match="checkpoints/run"):
        gantrain.load("checkpoints/run", trust_plugins=True)
    assert not SENTINEL.exists()


@pytest.mark.usefixtures("few_digits")
@pytest.mark.filterwarnings("error")  # Each is reported in one line.
@pytest.mark.parametrize("kind", PICKLES)
def test_weights_with_code_are_refused_by_every_command(kind: str, capsys) -> None:
    for name in ("latest_net_G.pth", "latest_net_D.pth"):
        Path(name).write_bytes(PICKLES[kind]({"model.model.0.weight": torch.zeros(1), "extra": Evil()}))
    for argv in (
        ["test", "weights=latest_net_G.pth", "data=single", "data.root=."],
        ["train", "model=pix2pix", *TINY[2:], "trainer.steps=1", "init_from=latest_net_G.pth"],
    ):
        assert "latest_net_G.pth" in refusal(argv, capsys)
    with pytest.raises(ConfigError, match="latest_net_G"):
        gantrain.load("latest_net_G.pth")
    assert not SENTINEL.exists()


def test_a_checkpoint_that_lacks_parts_of_a_run_is_refused(train, capsys) -> None:
    state = train("run", "trainer.steps=1")
    path = Path("checkpoints/run/step_1.pt")
    for key in ("config", "model", "spec", "updates"):
        checkpoint_file.write({**state, key: "another value"}, path)
        assert f"it has no {key}" in refusal(["test", "run=checkpoints/run"], capsys)
        checkpoint_file.write({part: value for part, value in state.items() if part != key}, path)
        assert "checkpoints/run" in refusal(["test", "run=checkpoints/run"], capsys)
    for key in ("model", "network", "trainer", "data"):
        config = {part: value for part, value in state["config"].items() if part != key}
        checkpoint_file.write({**state, "config": config}, path)
        assert "checkpoints/run" in refusal(["test", "run=checkpoints/run"], capsys)
        checkpoint_file.write({**state, "config": {**config, key: [1]}}, path)
        assert f"its configuration has no {key}" in refusal(["test", "run=checkpoints/run"], capsys)
    for plugins in ("noted", [1], None):
        checkpoint_file.write({**state, "config": {**state["config"], "plugins": plugins}}, path)
        assert "plugins are no list of names" in refusal(["test", "run=checkpoints/run"], capsys)


def test_a_checkpoint_with_a_negative_count_is_refused(train, capsys) -> None:
    state = train("run", "trainer.steps=1")
    for key in ("step", "rollbacks", "images"):
        checkpoint_file.write({**state, key: -3}, Path("checkpoints/run/step_1.pt"))
        message = refusal(["train", *TINY, "trainer.steps=2", "name=run"], capsys)
        assert f"its {key} is -3" in message


def test_a_checkpoint_that_contradicts_itself_is_refused(train, capsys) -> None:
    state = train("run", "trainer.steps=1")
    for change in ({"model": {}}, {"spec": {"height": "x"}}, {"config": {**state["config"], "trainer": {}}}):
        checkpoint_file.write({**state, **change}, Path("checkpoints/run/step_1.pt"))
        message = refusal(["test", "run=checkpoints/run", "num=1", "accelerator=cpu"], capsys)
        assert "checkpoints/run: its checkpoint can't be rebuilt" in message


# ---- plugins that a checkpoint names
@pytest.fixture
def with_plugin(train, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run whose checkpoint names a plug-in that creates a file when it is imported."""
    Path("noted.py").write_text("from pathlib import Path\nPath('PWNED').touch()\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    train("run", "trainer.steps=1", "plugins=[noted]")
    assert SENTINEL.exists()
    SENTINEL.unlink()
    del sys.modules["noted"]
    yield Path("checkpoints/run")
    sys.modules.pop("noted", None)


def test_plugins_of_a_checkpoint_are_reported_and_not_imported(with_plugin: Path, capsys) -> None:
    message = refusal(["test", f"run={with_plugin}", "num=1"], capsys)
    assert "plugins=[noted]" in message
    assert "trust_plugins=true" in message
    with pytest.raises(ConfigError, match=r"plugins=\[noted\] again, or trust_plugins=true"):
        gantrain.load(with_plugin)
    with pytest.raises(ConfigError, match=r"plugins=\[noted\]"):
        gantrain.load(with_plugin, plugins=["json"])
    assert not SENTINEL.exists()


@pytest.mark.parametrize("typed", ["plugins=[noted]", "trust_plugins=true"])
def test_plugins_that_the_user_names_or_trusts_are_imported(typed: str, with_plugin: Path) -> None:
    assert main(["test", f"run={with_plugin}", "num=1", "accelerator=cpu", typed]) == 0
    assert SENTINEL.exists()


@pytest.mark.parametrize("keys", [{"plugins": ["noted"]}, {"trust_plugins": True}])
def test_plugins_that_load_names_or_trusts_are_imported(keys: dict[str, Any], with_plugin: Path) -> None:
    gantrain.load(with_plugin, **keys)
    assert SENTINEL.exists()


def test_init_from_does_not_import_the_plugins_of_the_run(with_plugin: Path, train) -> None:
    train("other", f"init_from={with_plugin}", "trainer.steps=1")
    assert not SENTINEL.exists()


# ---- names
@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/abs",
        "..",
        ".",
        "a/b",
        "a\\\\b",
        "a\x00b",
        "a\nb",
        "",
        " ",
        "x" * 201,
        "x" * 300,
        "ä" * 101,
        ".hidden",
        "a;b",
        "<b>",
    ],
)
def test_a_name_outside_the_checkpoints_folder_is_refused(name: str, capsys) -> None:
    refusal(["train", *TINY, "trainer.steps=1", f"name='{name}'"], capsys)
    assert list(Path().parent.glob("x*")) == []


@pytest.mark.parametrize("name", ["-x", "--help", "+x", "x" * 200, "ä"])
def test_other_unusual_names_are_folders_in_checkpoints(name: str) -> None:
    assert main(["train", *TINY, "trainer.steps=1", f"name='{name}'"]) == 0
    assert {path.name for path in Path("checkpoints").iterdir()} == {name, "index.html", "index_files"}
    assert [path.name for path in Path().iterdir()] == ["checkpoints"]


# ---- visdom
def test_visdom_is_off_by_default_and_never_started(train, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: Any, **_: Any) -> None:
        if arguments[0][:1] == ["git"]:  # It would print the commit.
            raise FileNotFoundError
        raise AssertionError(f"no process and no connection: {arguments}")

    monkeypatch.setitem(sys.modules, "visdom", None)  # Importing it fails.
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket.socket, "bind", forbidden)
    state = train("run", "trainer.steps=1")
    assert state["config"]["logger"] == {}
