"""`gantrain doctor`: what is missing has a remedy, and what gantrain can't work without an exit status."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest
import torch

from gantrain import doctor
from gantrain.cli.main import main

Usage = namedtuple("Usage", "total used free")


def lines_of(capsys: pytest.CaptureFixture[str], status: int = 0) -> list[str]:
    assert main(["doctor"]) == status
    return capsys.readouterr().out.splitlines()


def after(lines: list[str], subject: str) -> str:
    """A finding and its remedy."""
    place = next(number for number, line in enumerate(lines) if line.strip().startswith(subject))
    return " ".join(lines[place : place + 2 if lines[place + 1 :][:1] and "->" in lines[place + 1] else place + 1])


def test_versions_devices_and_folders_are_listed(capsys) -> None:
    lines = lines_of(capsys)
    assert torch.__version__.partition("+")[0] in after(lines, "torch ") or "clone" in "".join(lines)
    assert "gantrain" in after(lines, "gantrain")
    assert str(Path("checkpoints").absolute()) in after(lines, "checkpoints")
    assert [line for line in lines if not line.startswith(" ")] == ["Versions", "Machine", "Files", "Extras"]


def test_missing_and_old_packages_have_the_command_that_installs_them(capsys, monkeypatch) -> None:
    wanted = ["torch>=999", "nowhere-to-be-found>=1", 'absent-too>=2; extra == "export"', 'pytest>=1; extra == "test"']
    monkeypatch.setattr(doctor, "requires", lambda name: wanted)
    lines = lines_of(capsys, status=1)
    assert ">=999 is required" in after(lines, "torch ")
    assert "pip install 'torch>=999'" in after(lines, "torch ")
    assert "missing" in after(lines, "nowhere-to-be-found")
    assert "pip install 'gantrain[export]'" in after(lines, "[export]")
    assert not any("[test]" in line for line in lines)


def test_an_extra_alone_is_not_fatal(capsys, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda name: ['absent-too>=2; extra == "export"'])
    assert "missing" in after(lines_of(capsys), "[export]")


def test_little_room_has_a_remedy(capsys, monkeypatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(1e9, 1e9, 1e6))
    monkeypatch.setattr(doctor, "free_memory", lambda: 1e9)
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda kind: (256, 256))
    monkeypatch.setattr(doctor, "SHARED_MEMORY", Path.cwd())
    lines = lines_of(capsys)
    assert "checkpoints_dir=" in after(lines, "checkpoints")
    assert "GANTRAIN_CACHE=" in after(lines, "cache")
    assert "--shm-size" in after(lines, "shared memory")
    assert "ulimit -n" in after(lines, "open files")
    assert "->" in after(lines, "free memory")


def test_weights_are_found_where_they_are(capsys, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(Path.cwd()))
    assert "put the file there" in after(lines_of(capsys), "fid, kid, is weights")
    folder = Path("hub/checkpoints")
    folder.mkdir(parents=True)
    (folder / "pt_inception-2015-12-05-6726825d.pth").touch()
    assert "->" not in after(lines_of(capsys), "fid, kid, is weights")


def test_doctor_takes_no_arguments(capsys) -> None:
    assert main(["doctor", "--help"]) == 0
    assert main(["doctor", "x"]) == 2
    assert "gantrain doctor" in capsys.readouterr().out
