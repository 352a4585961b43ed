"""Files that ask for more memory than they have bytes are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch

import gantrain
from gantrain.checkpoints import file as checkpoint_file
from gantrain.checkpoints.bounded import BombError, load_bounded
from gantrain.errors import ConfigError
from gantrain.metrics.features.weights import load_weights


def compressed() -> bytes:
    """A file of torch, whose records are compressed."""
    plain, packed = io.BytesIO(), io.BytesIO()
    torch.save({"weight": torch.zeros(100_000)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return packed.getvalue()


def repeated() -> bytes:
    """One number as a tensor of 100 GB."""
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(1).expand(25_000_000_000)}, file)
    return file.getvalue()


@pytest.mark.parametrize("content", [compressed, repeated])
def test_bombs_are_refused_in_one_line(content, tmp_path: Path) -> None:
    (tmp_path / "latest_net_G.pth").write_bytes(content())
    (tmp_path / "step_1.pt").write_bytes(content())
    with pytest.raises(ConfigError, match=r"latest_net_G.pth: (its records are compressed|its tensors repeat)"):
        gantrain.load(tmp_path / "latest_net_G.pth")
    with pytest.raises(ConfigError, match=r"step_1.pt: (its records are compressed|its tensors repeat)"):
        checkpoint_file.read(tmp_path / "step_1.pt")
    with pytest.raises(ConfigError, match=r"latest_net_G.pth is no file of weights \(its (records|tensors) "):
        load_weights(tmp_path / "latest_net_G.pth")


def test_views_of_shared_storage_and_old_formats_are_read() -> None:
    whole = torch.arange(10.0)
    for new in (True, False):
        file = io.BytesIO()
        torch.save({"a": whole[2:4], "b": [whole[::2], whole.view(2, 5).t()]}, file, _use_new_zipfile_serialization=new)
        content = load_bounded(file)
        assert torch.equal(content["a"], whole[2:4])
        assert torch.equal(content["b"][0], whole[::2])


def test_records_that_overlap_are_refused(monkeypatch) -> None:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(100)}, file)
    records = zipfile.ZipFile.infolist
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda archive: 10 * records(archive))
    with pytest.raises(BombError, match="larger than the file"):
        load_bounded(file)
