"""Whatever a command prints, names in it send nothing to the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TINY
from PIL import Image

from gantrain.cli.main import main

HOSTILE = "x\x1b[31m\u202e\u2066\u200by\x9b"
SIZES = [*TINY, "data.crop_size=16", "data.channels=1", "trainer.steps=1", "name=x"]


@pytest.fixture
def place() -> None:
    """Images with hostile names in a hostile folder."""
    Path(HOSTILE).mkdir()
    for number in range(4):
        Image.new("L", (16, 16), 50 * number).save(f"{HOSTILE}/{HOSTILE}{number}.png")


def check(arguments: list[str], capsys: pytest.CaptureFixture[str], statuses: tuple[int, ...] = (0,)) -> None:
    """Run a command, and look at all that it prints."""
    assert main(arguments) in statuses
    shown = capsys.readouterr()
    printed = shown.out + shown.err.replace("\r", "")  # Of progress bars.
    assert printed
    raw = sorted({character for character in printed.replace("\n", "") if not character.isprintable()})
    assert not raw, (arguments, raw)


@pytest.mark.usefixtures("place")
def test_no_command_prints_them_raw(capsys) -> None:
    data = ["data=single", f"data.root={HOSTILE}"]
    runs = f"checkpoints_dir={HOSTILE}_runs"
    run = f"{HOSTILE}_runs/x"
    check(["train", *SIZES, *data, runs], capsys)
    check(["train", *SIZES, *data, runs], capsys)  # It is finished.
    check(["train", *SIZES, *data, runs, "resume=never"], capsys)
    check(["train", *SIZES, *data, runs, "model=lsgan"], capsys, (2,))
    check(["train", *SIZES, *data, runs, "name=z", f"init_from={run}"], capsys)
    check(["train", *SIZES, *data, runs, "dry_run=true"], capsys)
    check(["train", "--cfg", "job", *data, runs], capsys)
    check(["train", "--help", *data, runs], capsys)
    check(["train", "-m", *SIZES[:-1], *data, runs, "seed=0,1"], capsys)
    check(["test", f"run={run}", "num=2", f"out={HOSTILE}_made"], capsys)
    check(["test", f"run={run}", "num=3", f"out={HOSTILE}_made"], capsys)  # It replaces the results of the other.
    check(["compare", run, f"{HOSTILE}_runs/z", f"out={HOSTILE}_compared"], capsys)
    check(["data", "check", *data, f"out={HOSTILE}_checked"], capsys)
    check(["data", "prepare", "resize", HOSTILE, f"{HOSTILE}_resized", "size=8"], capsys)
    Path(f"{HOSTILE}/{HOSTILE}3.png").write_bytes(b"torn")
    check(["train", *SIZES, *data, runs, "name=w", "data.on_error=skip", "trainer.steps=4"], capsys, (0, 2))
    check(["data", "check", *data, f"out={HOSTILE}_checked"], capsys, (1,))


@pytest.mark.parametrize(
    "arguments",
    [
        [HOSTILE],
        ["train", HOSTILE],
        ["train", f"--{HOSTILE}"],
        ["train", f"{HOSTILE}=1"],
        ["train", f"model={HOSTILE}"],
        ["train", f"model.loss={HOSTILE}"],
        ["train", f"name={HOSTILE}"],
        ["train", "--config-dir", HOSTILE],
        ["train", f"init_from={HOSTILE}"],
        ["train", f"plugins=['{HOSTILE}']"],
        ["test", HOSTILE],
        ["test", f"run={HOSTILE}"],
        ["test", f"weights={HOSTILE}.pth"],
        ["compare", HOSTILE],
        ["list", HOSTILE],
        ["data", HOSTILE],
        ["data", "lmdb", HOSTILE, f"{HOSTILE}2"],
        ["data", "download", HOSTILE],
    ],
    ids=ascii,
)
def test_no_refusal_prints_them_raw(arguments: list[str], capsys) -> None:
    check(arguments, capsys, (1, 2))
