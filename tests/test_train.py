"""What a run prints before its first step and after its last."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TINY, stop_after

from gantrain.cli.main import main
from gantrain.runtime import distributed


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


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("images", lambda own: {**own, "images": 3}),
        ("trainer.steps", lambda own: {**own, "config": {**own["config"], "trainer": {"steps": 7}}}),
        ("seed", lambda own: {**own, "config": {**own["config"], "seed": 9}}),
    ],
)
def test_ranks_with_other_data_or_settings_are_refused(key: str, change, monkeypatch, capsys) -> None:
    gather = distributed.all_gather_object
    unlike = lambda own: [own, change(own)] if isinstance(own, dict) and "config" in own else gather(own)  # noqa: E731
    monkeypatch.setattr(distributed, "all_gather_object", unlike)
    assert main(["train", *TINY, "trainer.steps=1", "name=run"]) == 2
    message = capsys.readouterr().err
    assert f"{key} is " in message
    assert "on rank 1: start all ranks with the same command and data" in message
