"""Weights in the folder of torch.hub, downloaded from a server on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import assert_mentions

from gantrain.errors import ConfigError
from gantrain.metrics.features import inception
from gantrain.metrics.features.inception import InceptionFeatures
from gantrain.metrics.features.weights import hub_file, load_weights


class Touched:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, ("touched", "w")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of weights of torch.hub."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "hub/checkpoints"


@pytest.fixture
def served(serve, tmp_path: Path) -> tuple[str, Path]:
    """The address of a file of weights whose name has its hash, and the file."""
    folder = tmp_path / "server"
    folder.mkdir()
    torch.save({"weight": torch.arange(3)}, folder / "net.pth")
    digest = hashlib.sha256((folder / "net.pth").read_bytes()).hexdigest()[:8]
    file = (folder / "net.pth").rename(folder / f"net-{digest}.pth")
    return f"{serve(folder)}/{file.name}", file


def test_a_file_is_downloaded_once(hub: Path, served: tuple[str, Path], capsys) -> None:
    address, file = served
    found = hub_file(address, needed_by="a test", remedy="nothing")
    assert found == hub / file.name
    assert found.read_bytes() == file.read_bytes()
    assert list(hub.iterdir()) == [found]
    file.unlink()
    assert hub_file(address, needed_by="a test", remedy="nothing") == found
    assert capsys.readouterr() == ("", "")  # Progress bars are only for terminals.
    state, digest = load_weights(found)
    assert state["weight"].tolist() == [0, 1, 2]
    assert digest in file.name


def test_a_file_under_another_of_its_names_is_not_downloaded(hub: Path) -> None:
    hub.mkdir(parents=True)
    (hub / "pt_net.pth").touch()
    found = hub_file("http://127.0.0.1:9/net.pth", also=["pt_net.pth"], needed_by="a test", remedy="nothing")
    assert found == hub / "pt_net.pth"


def test_another_file_than_its_name_says_is_not_kept(hub: Path, served: tuple[str, Path]) -> None:
    address, file = served
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ConfigError) as refusal:
        hub_file(address, needed_by="a test", remedy="give metrics.weights=FILE")
    assert_mentions(str(refusal.value), "a test", address, "SHA-256", hub / file.name, "metrics.weights=FILE")
    assert not list(hub.iterdir())
    with pytest.raises(ConfigError) as refusal:
        load_weights(file)
    assert_mentions(str(refusal.value), file, "SHA-256", "remove")


def test_without_a_network_the_place_for_the_weights_is_named(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "WEIGHTS", "http://127.0.0.1:9/weights-inception-2015-12-05-6726825d.pth")
    with pytest.raises(ConfigError) as refusal:
        InceptionFeatures(weights=None, resize="clean")
    name = "weights-inception-2015-12-05-6726825d.pth"
    assert_mentions(str(refusal.value), "metrics.features=inception", hub / name, "metrics.weights=FILE")


@pytest.mark.parametrize("content", [b"", b"no weights", [1, 2], Touched()])
def test_files_of_anything_else_are_refused_and_run_no_code(content: object, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ConfigError) as refusal:
        load_weights(path)
    assert_mentions(str(refusal.value), path)
    assert not Path("touched").exists()


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError) as refusal:
        InceptionFeatures(weights="missing.pth", resize="clean")
    assert_mentions(str(refusal.value), "missing.pth", "No such file")
