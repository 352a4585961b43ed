"""Files and names made to do harm: no code of theirs runs, nothing is written outside, and a line says why."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import zipfile
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
from gantrain.data.tools import download as downloading
from gantrain.errors import ConfigError

SENTINEL = Path("PWNED")


class Evil:
    """Makes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return os.mkdir, (str(SENTINEL.absolute()),)


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def saved_as_before(content: Any) -> bytes:
    """As torch wrote before 1.6: pickles one after the other, in no archive."""
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
    """All that there is, by what is in it."""
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in Path().rglob("*")}


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of a refused command, which runs nothing and leaves every file as it was."""
    capsys.readouterr()
    before = files()
    assert main(argv) in (1, 2)
    said = capsys.readouterr().err
    assert not SENTINEL.exists()
    assert files() == before
    lines = [line for line in said.splitlines() if line.startswith("gantrain: ")]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    return said


# ---- pickles


@pytest.mark.parametrize("kind", PICKLES)
def test_the_pickles_of_these_tests_do_run_where_they_are_trusted(kind: str) -> None:
    content = io.BytesIO(PICKLES[kind](Evil()))
    if kind in ("bare", "old"):
        pickle.load(content)
    else:
        torch.load(content, weights_only=False)
    assert SENTINEL.is_dir()


@pytest.mark.parametrize("kind", PICKLES)
def test_a_checkpoint_with_code_is_refused_by_whatever_reads_one(kind: str, capsys) -> None:
    run = Path("checkpoints/run")
    run.mkdir(parents=True)
    (run / "step_1.pt").write_bytes(PICKLES[kind]({"format": 3, "step": 1, "model": Evil()}))
    for argv in (
        ["test", "run=checkpoints/run"],
        ["test", "run=checkpoints/run", "step=1", "trust_plugins=true"],
        ["train", *TINY, "trainer.steps=1", "name=run"],
        ["train", *TINY, "trainer.steps=1", "name=other", "init_from=checkpoints/run"],
    ):
        assert "step_1.pt" in refused(argv, capsys)
    with pytest.raises(ConfigError, match="checkpoints/run"):
        gantrain.load("checkpoints/run", trust_plugins=True)
    assert not SENTINEL.exists()


@pytest.mark.filterwarnings("error")  # each is told in one line
@pytest.mark.parametrize("kind", PICKLES)
def test_weights_with_code_are_refused_by_whatever_reads_them(kind: str, capsys) -> None:
    for name in ("latest_net_G.pth", "latest_net_D.pth"):
        Path(name).write_bytes(PICKLES[kind]({"model.model.0.weight": torch.zeros(1), "extra": Evil()}))
    for argv in (
        ["test", "weights=latest_net_G.pth", "data=single", "data.root=."],
        ["train", "model=pix2pix", *TINY[2:], "trainer.steps=1", "init_from=latest_net_G.pth"],
    ):
        assert "latest_net_G.pth" in refused(argv, capsys)
    with pytest.raises(ConfigError, match="latest_net_G"):
        gantrain.load("latest_net_G.pth")
    assert not SENTINEL.exists()


def test_a_checkpoint_that_holds_no_run_is_refused(train, capsys) -> None:
    state = train("run", "trainer.steps=1")
    path = Path("checkpoints/run/step_1.pt")
    for key in ("config", "model", "spec", "updates"):
        checkpoint_file.write({**state, key: "something else"}, path)
        assert f"it has no {key}" in refused(["test", "run=checkpoints/run"], capsys)
        checkpoint_file.write({part: value for part, value in state.items() if part != key}, path)
        assert "checkpoints/run" in refused(["test", "run=checkpoints/run"], capsys)
    for key in ("model", "network", "trainer", "data"):
        config = {part: value for part, value in state["config"].items() if part != key}
        checkpoint_file.write({**state, "config": config}, path)
        assert "checkpoints/run" in refused(["test", "run=checkpoints/run"], capsys)
        checkpoint_file.write({**state, "config": {**config, key: [1]}}, path)
        assert f"its configuration has no {key}" in refused(["test", "run=checkpoints/run"], capsys)
    for plugins in ("noted", [1], None):
        checkpoint_file.write({**state, "config": {**state["config"], "plugins": plugins}}, path)
        assert "plugins are no list of names" in refused(["test", "run=checkpoints/run"], capsys)


def test_a_checkpoint_that_contradicts_itself_is_refused(train, capsys) -> None:
    state = train("run", "trainer.steps=1")
    for change in ({"model": {}}, {"spec": {"height": "x"}}, {"config": {**state["config"], "trainer": {}}}):
        checkpoint_file.write({**state, **change}, Path("checkpoints/run/step_1.pt"))
        told = refused(["test", "run=checkpoints/run", "num=1", "accelerator=cpu"], capsys)
        assert "checkpoints/run: its checkpoint can't be rebuilt" in told


# ---- plugins that a checkpoint names


@pytest.fixture
def with_plugin(train, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run whose checkpoint names a module, which notes that it is imported, and isn't any more."""
    Path("noted.py").write_text("from pathlib import Path\nPath('PWNED').touch()\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    train("run", "trainer.steps=1", "plugins=[noted]")
    assert SENTINEL.exists()
    SENTINEL.unlink()
    del sys.modules["noted"]
    yield Path("checkpoints/run")
    sys.modules.pop("noted", None)


def test_plugins_of_a_checkpoint_are_named_and_not_imported(with_plugin: Path, capsys) -> None:
    told = refused(["test", f"run={with_plugin}", "num=1"], capsys)
    assert "plugins=[noted]" in told
    assert "trust_plugins=true" in told
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
def test_the_same_holds_from_python(keys: dict[str, Any], with_plugin: Path) -> None:
    gantrain.load(with_plugin, **keys)
    assert SENTINEL.exists()


def test_networks_are_taken_from_a_run_without_its_plugins(with_plugin: Path, train) -> None:
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
def test_a_name_that_would_lead_elsewhere_is_refused(name: str, capsys) -> None:
    refused(["train", *TINY, "trainer.steps=1", f"name='{name}'"], capsys)
    assert list(Path().parent.glob("x*")) == []


@pytest.mark.parametrize("name", ["-x", "--help", "+x", "x" * 200, "ä"])
def test_other_odd_names_stay_below_checkpoints(name: str) -> None:
    assert main(["train", *TINY, "trainer.steps=1", f"name='{name}'"]) == 0
    assert {path.name for path in Path("checkpoints").iterdir()} == {name, "index.html", "index_files"}
    assert [path.name for path in Path().iterdir()] == ["checkpoints"]


# ---- archives

OUTSIDE = Path("outside")


def tarred(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made, content


LINKS = {
    "symbolic link": [member("in", tarfile.SYMTYPE, "../outside"), member("in/evil", content=b"x")],
    "absolute link": [member("in", tarfile.SYMTYPE, "{outside}"), member("in/evil", content=b"x")],
    "link within": [member("a", content=b"x"), member("b", tarfile.SYMTYPE, "a")],
    "hard link": [member("in", tarfile.LNKTYPE, "../outside/secret"), member("in", content=b"overwritten")],
    "absolute hard link": [member("in", tarfile.LNKTYPE, "{outside}/secret")],
    "link through a link": [
        *(member("a", tarfile.SYMTYPE, "."), member("a/b", tarfile.SYMTYPE, "../..")),
        *(member("b/outside/evil", content=b"x"), member("a/b/outside/evil", content=b"x")),
    ],
    "device": [member("in", tarfile.CHRTYPE)],
    "pipe": [member("in", tarfile.FIFOTYPE)],
    "parent": [member("../outside/evil", content=b"x")],
    "parent within": [member("a/../../outside/evil", content=b"x")],
}


@pytest.fixture
def outside() -> Path:
    OUTSIDE.mkdir()
    (OUTSIDE / "secret").write_text("secret")
    return OUTSIDE.absolute()


@pytest.mark.parametrize("kind", LINKS)
def test_a_tar_writes_nothing_outside_of_its_folder(kind: str, outside: Path) -> None:
    for info, _ in LINKS[kind]:
        info.linkname = info.linkname.format(outside=outside)
    archive = tarred(Path("archive.tar.gz"), *LINKS[kind])
    with pytest.raises(ConfigError, match="the archive is corrupt"):
        downloading._unpack(archive, Path("unpacked"), "address/archive.tar.gz")
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"secret": "secret"}


def test_an_absolute_name_in_a_tar_stays_below(outside: Path) -> None:
    archive = tarred(Path("archive.tar.gz"), member(f"{outside}/evil", content=b"x"))
    downloading._unpack_tar(archive, Path("unpacked"))
    assert [path.name for path in outside.iterdir()] == ["secret"]


@pytest.mark.parametrize(
    "name", ["../outside/evil", "a/../../outside/evil", "{outside}/evil", "..\\outside\\evil", "C:/evil"]
)
def test_a_zip_writes_nothing_outside_of_its_folder(name: str, outside: Path) -> None:
    with zipfile.ZipFile("archive.zip", "w") as archive:
        archive.writestr(name.format(outside=outside), b"x")
    with pytest.raises(ConfigError, match="outside its folder"):
        downloading._unpack(Path("archive.zip"), Path("unpacked"), "address/archive.zip")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert not Path("unpacked").exists()


def test_a_link_in_a_zip_is_no_way_out(outside: Path) -> None:
    link = zipfile.ZipInfo("in")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile("archive.zip", "w") as archive:
        archive.writestr(link, str(outside))
        archive.writestr("in/evil", b"x")
    with pytest.raises(ConfigError, match="outside its folder"):
        downloading._unpack(Path("archive.zip"), Path("unpacked"), "address/archive.zip")
    assert [path.name for path in outside.iterdir()] == ["secret"]


# ---- visdom


def test_visdom_is_off_unless_asked_for_and_never_started(train, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: Any, **_: Any) -> None:
        if arguments[0][:1] == ["git"]:  # which would tell the commit
            raise FileNotFoundError
        raise AssertionError(f"no process and no connection: {arguments}")

    monkeypatch.setitem(sys.modules, "visdom", None)  # an import of it fails
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket.socket, "bind", forbidden)
    state = train("run", "trainer.steps=1")
    assert state["config"]["logger"] == {}
