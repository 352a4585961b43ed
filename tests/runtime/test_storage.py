"""Every error of a disk says in one line what was being done, where, and what would help."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.sets.lsun import open_source
from gantrain.errors import ConfigError
from gantrain.runtime.storage import REMEDIES, explain, storage_errors

COMMANDS = {
    "lmdb": "data lmdb set out",
    "export": "data export db out",
    "pairs": "data prepare pairs set/a set/b out",
    "split_pairs": "data prepare split_pairs set out",
    "split": "data prepare split set out train=0.5 val=0 test=0.5",
    "resize": "data prepare resize set out size=32",
    "check": "data check data=single data.root=set data.load_size=8 out=out",
    "test": "test run=checkpoints/gan out=out num=4",
    "test in the run": "test run=checkpoints/gan num=4",
}


@pytest.fixture
def ready(trained: Callable[[str], Path]) -> None:
    """What the commands read."""
    for name in ("a/1", "a/2", "b/1", "b/2"):
        path = Path(f"set/{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((32, 16), ord(name[0]) % 90 + int(name[-1])).save(path)
    assert main(["data", "lmdb", "set", "db"]) == 0
    open_source(Path("db"))  # It is indexed.
    trained("gan")


def rename_fails(number: int) -> Callable[..., object]:
    """Renaming folders and files to other names, as all writers do in the end, fails."""

    def fail(source: str | Path, target: str | Path, **_: object) -> None:
        raise OSError(number, os.strerror(number), str(source), None, str(target))

    @contextmanager
    def installed(patch: pytest.MonkeyPatch) -> Iterator[None]:
        patch.setattr(os, "rename", fail)
        patch.setattr(os, "replace", fail)
        yield

    return installed


@contextmanager
def small_files(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file may be larger than some bytes, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


FAULTS = {name: rename_fails(getattr(errno, name)) for name in ("EXDEV", "EBUSY", "EACCES", "ESTALE")}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_storage_error_is_explained_and_the_rerun_succeeds(
    ready: None, command: str, monkeypatch, capsys
) -> None:
    failed = []
    for name, fault in {**FAULTS, "EFBIG": small_files}.items():
        capsys.readouterr()
        with monkeypatch.context() as patch, fault(patch):
            status = main(COMMANDS[command].split())
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gantrain: ")]
        assert (status != 0) == bool(lines)
        if status:
            failed.append(name)
            assert len(lines) == 1
            number = getattr(errno, name)
            assert lines[0].startswith("gantrain: can't ")
            assert os.strerror(number) in lines[0]
            assert REMEDIES[number] in lines[0]
            place = "checkpoints/gan/results" if command == "test in the run" else "out"
            assert place in lines[0].partition(os.strerror(number))[0]
    assert failed
    assert main(COMMANDS[command].split()) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_disks_without_locks_are_used(ready: None, command: str, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    monkeypatch.setattr(fcntl, "lockf", fail)
    assert main(COMMANDS[command].split()) == 0


def test_what_was_renamed_before_a_kill_is_complete(ready: None, capsys) -> None:
    command = COMMANDS["resize"].split()
    assert main(command) == 0
    signature = f"{[str(Path('set').resolve())]} {{'kind': 'resize', 'size': [32, 32]}}\n"
    for text, status in ((signature, 0), ("of another command\n", 2)):
        Path(".out-unfinished").mkdir()
        Path(".out-unfinished/made_by").write_text(text)
        assert main(command) == status
        assert Path(".out-unfinished").exists() == (status == 2)
    assert len(list(Path("out").rglob("*.png"))) == 4


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space"), "can't write x: No space; free some space"),
        (OSError(errno.EBUSY, "Busy", "a", None, "b"), "can't write x: a to b: Busy; another program"),
        (OSError(errno.EACCES, "Denied", "x"), "can't write x: Denied; check the owner"),
        (OSError("1024 requested and 0 written"), "can't write x: 1024 requested and 0 written; free some space"),
        (OSError("no number"), "can't write x: no number"),
        (OSError(), "can't write x: OSError"),
    ],
)
def test_an_error_names_the_action_the_paths_and_the_remedy(error: OSError, expected: str) -> None:
    assert explain(error, "write x").startswith(expected)
    with pytest.raises(ConfigError), storage_errors("write x"):
        raise error


def test_a_closed_pipe_is_no_fault_of_a_disk() -> None:
    with pytest.raises(BrokenPipeError), storage_errors("write x"):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
