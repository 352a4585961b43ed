"""Checkpoints with changed, missing or added bytes: each is detected and named."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest
from checkpoint_states import state_at
from conftest import assert_same_bits

from gantrain.checkpoints import file as checkpoint_file
from gantrain.checkpoints.file import DIGEST_BYTES, MARK, CorruptCheckpointError
from gantrain.checkpoints.store import Checkpoints
from gantrain.checkpoints.upgrades import FORMAT
from gantrain.errors import ConfigError

FORMATS = Path(__file__).parent.parent / "checkpoints"
PATH = Path("run/step_2.pt")


@pytest.fixture
def content() -> bytes:
    """The bytes of step 2; step 1 is valid."""
    Path("run").mkdir()
    for step in (1, 2):
        checkpoint_file.write(state_at(step), Path(f"run/step_{step}.pt"))
    return PATH.read_bytes()


def refused(damaged: bytes) -> None:
    PATH.write_bytes(damaged)
    with pytest.raises(CorruptCheckpointError) as error:
        checkpoint_file.read(PATH)
    assert str(error.value).startswith(f"can't read {PATH}: corrupt (")
    assert "\n" not in str(error.value)


def changed(content: bytes, place: int, change: int) -> bytes:
    return content[:place] + bytes([content[place] ^ change]) + content[place + 1 :]


def test_a_change_of_any_byte_is_detected(content: bytes) -> None:
    assert 2000 < len(content) < 8000  # headers, directory, pickle, tensors, checksum
    for place in range(len(content)):
        refused(changed(content, place, 1 << place % 8))
    for place in range(
        len(content) - len(MARK) - DIGEST_BYTES - 30, len(content)
    ):  # the archive's end, and the checksum
        for change in (0x20, 0xFF):
            refused(changed(content, place, change))


def test_every_truncation_is_detected(content: bytes) -> None:
    for length in (*range(0, len(content), 3), *range(len(content) - 150, len(content))):
        refused(content[:length])


def test_zeroed_inserted_lost_doubled_and_added_bytes_are_detected(content: bytes) -> None:
    draw = random.Random(1)
    for _ in range(100):
        start = draw.randrange(len(content))
        end = min(start + draw.choice((1, 7, 64, 512, 4096)), len(content))
        zeros = bytes(end - start)
        if content[start:end] != zeros:
            refused(content[:start] + zeros + content[end:])
        refused(content[:start] + content[end:])
        refused(content[:end] + content[start:])
        refused(content[:start] + b"\x00" + content[start:])
    for more in (b"\x00", b"\n", bytes(4096), content):
        refused(content + more)
    refused(bytes(len(content)))


def test_a_wrong_or_missing_checksum_is_detected(content: bytes) -> None:
    other = PATH.with_name("step_1.pt").read_bytes()
    assert len(other) == len(content)
    refused(content[:-DIGEST_BYTES] + other[-DIGEST_BYTES:])
    refused(content[: -len(MARK) - DIGEST_BYTES - 2] + b"\x00\x00")  # As if it had none.


def test_after_corruption_of_any_kind_the_previous_checkpoint_is_loaded(content: bytes, capsys) -> None:
    for place in random.Random(2).sample(range(len(content)), 20):
        for damaged in (content[:place], changed(content, place, 0x55)):
            PATH.write_bytes(damaged)
            assert Checkpoints(Path("run")).load()["step"] == 1
            assert str(PATH) in capsys.readouterr().err
    PATH.write_bytes(content)
    assert_same_bits(Checkpoints(Path("run")).load(), {"format": FORMAT, **state_at(2)})


@pytest.mark.parametrize("version", ["format_1", "format_2"])
def test_a_corrupt_file_of_an_old_format_is_never_misread(version: str) -> None:
    """Any zip archive has a checksum of each of its parts, if not of every byte of the headers."""
    content = (FORMATS / version / "step_2.pt").read_bytes()
    whole = checkpoint_file.read(FORMATS / version / "step_2.pt")
    Path("run").mkdir()
    seen = 0
    for place in random.Random(3).sample(range(len(content)), 60):
        PATH.write_bytes(changed(content, place, 0x80))
        try:
            found = checkpoint_file.read(PATH)
        except ConfigError:
            seen += 1
        else:
            assert_same_bits(found, whole)
    assert seen > 30
    for length in random.Random(4).sample(range(len(content)), 20):
        refused(content[:length])


def failing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have the disk fail in the midst of the newest checkpoint."""
    digest = checkpoint_file._digest

    def fail(file: Any, end: int) -> bytes:
        if file.name == str(PATH):
            raise OSError(number, os.strerror(number))
        return digest(file, end)

    monkeypatch.setattr(checkpoint_file, "_digest", fail)


def test_a_newest_checkpoint_on_a_failing_disk_is_passed_over(content: bytes, monkeypatch, capsys) -> None:
    failing(monkeypatch, errno.EIO)
    assert Checkpoints(Path("run")).load()["step"] == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(PATH) in line
    assert "previous checkpoint" in line


def test_a_checkpoint_that_may_be_readable_later_is_not_passed_over(content: bytes, monkeypatch) -> None:
    failing(monkeypatch, errno.EACCES)
    with pytest.raises(ConfigError, match=r"step_2\.pt: Permission denied; make it readable, or remove it"):
        Checkpoints(Path("run")).load()
