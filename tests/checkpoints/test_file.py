"""Checkpoint files: written with a checksum, verified when read, never trusted."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_states import state_at
from conftest import assert_same_bits

from gantrain.checkpoints import file as checkpoint_file
from gantrain.checkpoints.file import MARK, CorruptCheckpointError
from gantrain.checkpoints.store import Checkpoints
from gantrain.checkpoints.upgrades import FORMAT
from gantrain.errors import ConfigError


def test_a_checkpoint_is_read_as_it_was_written(run_folder: Path) -> None:
    checkpoint_file.write(state_at(4), run_folder / "step_4.pt")
    assert_same_bits(checkpoint_file.read(run_folder / "step_4.pt"), {"format": FORMAT, **state_at(4)})
    assert [path.name for path in run_folder.iterdir()] == ["step_4.pt"]
    # torch.load can read it too.
    assert torch.load(run_folder / "step_4.pt", weights_only=True)["step"] == 4


def test_a_file_is_on_the_disk_before_it_is_renamed(run_folder: Path, monkeypatch) -> None:
    done = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(number: int) -> None:
        path = os.readlink(f"/proc/self/fd/{number}")
        whole = Path(path).is_dir() or Path(path).read_bytes()[-32 - len(MARK) : -32] == MARK
        done.append((Path(path).name, whole))
        fsync(number)

    def noted_replace(self: Path, target: Path) -> Path:
        done.append((self.name, target.name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    checkpoint_file.write(state_at(1), run_folder / "step_1.pt")
    assert done == [("step_1.tmp", True), ("step_1.tmp", "step_1.pt"), ("run", True)]


def test_the_logs_are_on_the_disk_before_a_checkpoint_is(run_folder: Path, monkeypatch) -> None:
    fsync, done = os.fsync, []

    def noted(number: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{number}")).name)
        fsync(number)

    (run_folder / "losses.jsonl").touch()
    monkeypatch.setattr(os, "fsync", noted)
    with closing(Checkpoints(run_folder)) as checkpoints:
        checkpoints.save(state_at(1))
    assert done.index("losses.jsonl") < done.index("step_1.tmp") < done.index("run")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failed_write_reports_path_and_size_and_leaves_the_old_file(
    run_folder: Path, number: int, monkeypatch
) -> None:
    checkpoint_file.write(state_at(1), run_folder / "step_1.pt")
    before = (run_folder / "step_1.pt").read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    wanted = rf"can't write run/step_1.pt: {os.strerror(number)}; {len(before) / 1000:.1f} kB needed, .* free"
    with pytest.raises(ConfigError, match=wanted):
        checkpoint_file.write(state_at(2), run_folder / "step_1.pt")
    assert (run_folder / "step_1.pt").read_bytes() == before
    assert [path.name for path in run_folder.iterdir()] == ["step_1.pt"]


def with_checksum(content: Any, path: Path) -> None:
    """Any content with a matching checksum, as an attacker could create it."""
    torch.save(content, path)
    archive = path.read_bytes()[:-2] + (len(MARK) + 32).to_bytes(2, "little") + MARK
    path.write_bytes(archive + hashlib.blake2b(archive, digest_size=32).digest())


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("owned"),))


@pytest.mark.parametrize("write", [torch.save, with_checksum])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": FORMAT, "evil": Evil()}, "contains pickled code, which is never run"),
        ([1, 2], "is not a checkpoint of gantrain"),
        ({"weight": torch.ones(2)}, "is not a checkpoint of gantrain"),
        ({"format": "3"}, "is not a checkpoint of gantrain"),
        ({"format": 1}, "is not a checkpoint of gantrain"),
        ({"format": 2, "config": 5}, "is not a checkpoint of gantrain"),
        ({"format": FORMAT + 1}, rf"newer gantrain \(format {FORMAT + 1}, this one reads {FORMAT}\): upgrade gantrain"),
    ],
)
def test_a_foreign_file_is_refused_and_not_skipped(run_folder: Path, write: Any, content: Any, message: str) -> None:
    checkpoint_file.write(state_at(1), run_folder / "step_1.pt")
    write(content, run_folder / "step_9.pt")
    with pytest.raises(ConfigError, match=message) as refused:
        Checkpoints(run_folder).load()
    assert "run/step_9.pt" in str(refused.value)
    assert not isinstance(refused.value, CorruptCheckpointError)
    assert not Path("owned").exists()


@pytest.mark.parametrize("key", state_at(1))
def test_a_valid_file_that_lacks_a_key_is_refused(run_folder: Path, key: str) -> None:
    state = {"format": FORMAT, **state_at(1)}
    with_checksum(state, run_folder / "step_1.pt")
    assert checkpoint_file.read(run_folder / "step_1.pt")["step"] == 1
    del state[key]
    with_checksum(state, run_folder / "step_1.pt")
    with pytest.raises(ConfigError, match=f"is not a checkpoint of gantrain: it has no {key}"):
        checkpoint_file.read(run_folder / "step_1.pt")


def test_running_out_of_memory_while_reading_is_not_reported_as_corruption(run_folder: Path, monkeypatch) -> None:
    for step in (1, 2):
        checkpoint_file.write(state_at(step), run_folder / f"step_{step}.pt")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(ConfigError, match="step_2.pt: DefaultCPUAllocator: can't allocate memory") as refused:
        Checkpoints(run_folder).load()
    assert not isinstance(refused.value, CorruptCheckpointError)
