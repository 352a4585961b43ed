"""Disks that fill up, become read-only or disappear during a run: one line, and the run resumes from its checkpoint."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import INTRODUCTION, TINY, assert_mentions, assert_same_bits, newest

from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.main import main
from gantrain.report import Report

RUN = Path("checkpoints/run")
EVERY = ["trainer.log_every=1", "trainer.image_every=2", "trainer.save_every=2", "trainer.keep=0"]
COMMAND = ["train", *TINY, *EVERY, "name=run", "trainer.steps=6"]


def mount(*arguments: object) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here ({done.stderr.strip().splitlines()[-1]})")


@contextmanager
def mounted(*arguments: object) -> Iterator[None]:
    mount(*arguments)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(arguments[-1])], check=True)


@pytest.fixture
def disk(workplace: Path) -> Iterator[Path]:
    """A file system of 64 MiB for the runs."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    folder = workplace / "checkpoints"
    folder.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=64m", "none", folder):
        yield folder


def fill(disk: Path, *, free: int) -> Path:
    """A file that leaves so many bytes of the disk free."""
    ballast = disk / "ballast"
    with ballast.open("ab") as file:
        file.write(bytes(shutil.disk_usage(disk).free - free))
    return ballast


def saved(step: int) -> None:
    """Wait until a checkpoint exists."""
    patience = 6000
    while not (RUN / f"step_{step}.pt").exists():
        time.sleep(0.01)
        patience -= 1
        assert patience, f"step {step} has not been saved"


def during(acts: dict[int, Callable[[], object]], patch: pytest.MonkeyPatch) -> None:
    """Make the next run call these after these steps, before it logs or saves."""
    advance = Report.advance

    def acting(self: Report, done: int) -> None:
        acts.get(done, lambda: None)()
        advance(self, done)

    patch.setattr(Report, "advance", acting)


@pytest.fixture
def whole(train) -> dict:
    """The newest checkpoint of an uninterrupted run, its losses, its size, and that of all other files (bytes)."""
    state = train("whole", *EVERY, "trainer.steps=6")
    folder = Path("checkpoints/whole")
    size = (folder / "step_6.pt").stat().st_size
    others = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.suffix != ".pt")
    found = {"state": state, "lines": (folder / "losses.jsonl").read_text(), "size": size, "others": others}
    shutil.rmtree(folder)
    return found


def messages_of(errors: str) -> tuple[list[str], list[str]]:
    """The warnings, and the other lines without the introduction, the progress bar and the page."""
    lines = [line for line in errors.replace("\r", "\n").splitlines() if line.strip() and "step/s" not in line]
    lines = [line for line in lines if not line.startswith(INTRODUCTION)]
    warnings = [line for line in lines if line.startswith("warning")]
    return warnings, [line for line in lines if line not in warnings]


def assert_resumes(whole: dict) -> None:
    """The same command resumes, and the run ends like an uninterrupted one."""
    assert main(COMMAND) == 0
    for key, value in newest("run").items():
        if key not in ("config", "overrides", "segments"):  # These contain the name.
            assert_same_bits(value, whole["state"][key])
    assert (RUN / "losses.jsonl").read_text() == whole["lines"]
    assert sorted(path.name for path in RUN.iterdir() if path.suffix in (".tmp", ".pt") or path.name == ".lock") == [
        "step_2.pt",
        "step_4.pt",
        "step_6.pt",
    ]


@pytest.mark.usefixtures("warm_python")
def test_a_full_disk_stops_the_run_and_the_same_command_resumes(disk: Path, whole: dict) -> None:
    ballast = fill(disk, free=5 * whole["size"] // 2 + whole["others"])  # Two checkpoints and all other files.
    process = subprocess.run([sys.executable, "-m", "gantrain", *COMMAND], capture_output=True, text=True, check=False)
    assert process.returncode == 2
    warnings, lines = messages_of(process.stderr)
    assert len(warnings) <= 1
    assert len(lines) == 1
    found = re.fullmatch(
        r"gantrain: can't write checkpoints/run/step_6.pt: No space left on device; "
        r"([\d.]+) kB needed, ([\d.]+) kB free",
        lines[0],
    )
    assert float(found[1]) * 1000 == pytest.approx(whole["size"], rel=1e-3)
    assert 0 < float(found[2]) < float(found[1])
    assert sorted(path.name for path in RUN.glob("*.pt")) == ["step_2.pt", "step_4.pt"]
    assert not [path for path in RUN.rglob("*") if path.suffix == ".tmp" or path.name == ".lock"]
    assert Checkpoints(RUN).load()["step"] == 4
    ballast.unlink()
    assert_resumes(whole)


def test_logs_and_pages_are_written_when_there_is_space_after_one_warning(
    disk: Path, whole: dict, monkeypatch, capsys
) -> None:
    during({2: lambda: fill(disk, free=0), 5: (disk / "ballast").unlink}, monkeypatch)
    save_once = [word for word in COMMAND if "save_every" not in word]
    assert main([*save_once, "trainer.save_every=6"]) == 0
    warnings, lines = messages_of(capsys.readouterr().err)
    (warning,) = warnings
    assert_mentions(warning, f"can't write {RUN}", "No space left on device", "training continues")
    assert lines == []
    assert (RUN / "losses.jsonl").read_text() == whole["lines"]
    assert len((RUN / "speed.jsonl").read_text().splitlines()) >= 5
    assert (RUN / "images/step_6_samples.png").exists()
    assert "done" in (RUN / "index.html").read_text()
    assert_same_bits(newest("run")["model"], whole["state"]["model"])


def test_a_closed_stderr_does_not_stop_a_run(whole: dict, monkeypatch) -> None:
    """As after the terminal is closed, or when the disk of a redirected stderr is full."""
    reading, writing = os.pipe()
    stderr = open(writing, "w", buffering=1)  # noqa: SIM115 - it can't be closed without an error
    monkeypatch.setattr(sys, "stderr", stderr)
    during({3: lambda: os.close(reading)}, monkeypatch)
    assert main(COMMAND) == 0
    with pytest.raises(BrokenPipeError):
        stderr.close()
    assert_same_bits(newest("run")["model"], whole["state"]["model"])
    assert (RUN / "losses.jsonl").read_text() == whole["lines"]


def test_a_log_that_was_not_written_is_completed_when_the_run_stops(disk: Path, whole: dict, monkeypatch) -> None:
    """A failed checkpoint stops it; its temporary file is removed, which leaves space for the last lines."""
    with monkeypatch.context() as patch:
        during({1: lambda: fill(disk, free=0), 2: lambda: fill_again(disk)}, patch)
        assert main(COMMAND) == 2
    log = (RUN / "losses.jsonl").read_text()
    assert whole["lines"].startswith(log)
    assert log.count("\n") >= 2
    (disk / "ballast").unlink()
    assert_resumes(whole)


def fill_again(disk: Path) -> None:
    (disk / "ballast").unlink()
    fill(disk, free=20_000)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_on_file_sizes_is_handled_like_a_full_disk(whole: dict, monkeypatch, capsys) -> None:
    with monkeypatch.context() as patch:
        limit = (whole["size"] // 2, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        during({3: lambda: (saved(2), resource.setrlimit(resource.RLIMIT_FSIZE, limit))}, patch)
        with no_file_larger_than(resource.RLIM_INFINITY):
            assert main(COMMAND) == 2
    _, lines = messages_of(capsys.readouterr().err)
    assert len(lines) == 1
    assert lines[0].startswith(f"gantrain: can't write {RUN}/step_4.pt: {os.strerror(errno.EFBIG)}; ")
    assert Checkpoints(RUN).steps() == [2]
    assert_resumes(whole)


def test_a_folder_that_becomes_read_only_stops_the_run(disk: Path, whole: dict, monkeypatch, capsys) -> None:
    def freeze() -> None:
        saved(2)
        mount("--bind", RUN, RUN)
        mount("-o", "remount,bind,ro", RUN)

    with monkeypatch.context() as patch:
        during({3: freeze}, patch)
        try:
            assert main(COMMAND) == 2
        finally:
            subprocess.run(["umount", "--lazy", str(RUN)], check=True)
    warnings, lines = messages_of(capsys.readouterr().err)
    (warning,) = warnings
    assert_mentions(warning, f"can't write {RUN}/losses.jsonl", "Read-only file system", "training continues")
    assert len(lines) == 1
    assert lines[0].startswith(f"gantrain: can't write {RUN}/step_4.pt: Read-only file system; ")
    assert Checkpoints(RUN).steps() == [2]
    assert (RUN / ".lock").exists()  # It could not be removed, and does no harm.
    assert_resumes(whole)


def test_nothing_starts_in_a_read_only_folder(disk: Path, capsys) -> None:
    mount("-o", "remount,ro", disk)
    assert main(COMMAND) == 2
    assert_mentions(capsys.readouterr().err, f"gantrain: can't write to {RUN}: ", "Read-only file system")
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize("folder", [RUN, RUN.parent])
def test_a_folder_that_is_deleted_stops_the_run_and_stays_deleted(folder: Path, monkeypatch, capsys) -> None:
    during({3: lambda: (saved(2), shutil.rmtree(folder))}, monkeypatch)
    assert main(COMMAND) == 2
    warnings, lines = messages_of(capsys.readouterr().err)
    assert warnings == []  # In particular not that training continues.
    assert len(lines) == 1
    assert re.fullmatch(rf"gantrain: can't write {RUN}/step_3.pt: No such file or directory.*", lines[0])
    assert not RUN.exists()
