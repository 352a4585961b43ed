"""What a run prints before its first step and after its last."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TINY, stop_after

from gantrain.cli.main import main


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("settings", [["name=run"], ["name=run", "model=cgan"], ["name=run", "model=pix2pix"]])
def test_a_run_introduces_itself_in_a_few_lines(settings: list[str], capsys) -> None:
    small = ["data.load_size=32"] if "model=pix2pix" in settings else []
    assert main(["train", *TINY, *small, *settings, "trainer.steps=1"]) == 0
    before, _, after = capsys.readouterr().err.partition("0%|")
    lines = before.splitlines()
    assert len(lines) <= 6
    assert any(line.startswith("Device: cpu, ") and "thread" in line for line in lines)
    (data,) = (line for line in lines if line.startswith("Data: "))
    assert ("20 images" if small else "4,500 images") in data
    assert ("10 classes" in data) == (not small)
    assert "Run folder: checkpoints/run" in lines
    assert "Page: checkpoints/run/index.html" in lines
    assert after.strip().endswith("Page: checkpoints/run/index.html")


def test_the_page_is_printed_again_after_an_interruption(monkeypatch, capsys) -> None:
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        assert main(["train", *TINY, "trainer.steps=3", "name=run"]) == 130
    assert capsys.readouterr().err.strip().endswith("Page: checkpoints/run/index.html")
    capsys.readouterr()
    assert main(["resume", "run"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "Resuming checkpoints/run at step 1" in lines[0]
    assert "Page: checkpoints/run/index.html" in lines
    assert Path("checkpoints/run/index.html").exists()
