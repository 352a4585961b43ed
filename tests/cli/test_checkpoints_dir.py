"""``checkpoints_dir=`` is the folder of all runs in every command, of sweeps and of the page of all runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TINY

from gantrain.cli.main import main

HERE = [*TINY, "checkpoints_dir=there/runs", "trainer.steps=1"]


@pytest.fixture
def runs() -> Path:
    assert main(["train", *HERE, "name=one"]) == 0
    assert main(["train", *HERE, "name=two", "seed=1"]) == 0
    assert not Path("checkpoints").exists()
    return Path("there/runs")


def test_runs_and_the_page_of_all_runs_are_in_the_folder(runs: Path) -> None:
    assert (runs / "one" / "step_1.pt").is_file()
    data = "".join(path.read_text() for path in (runs / "index_files" / "data").glob("*.js"))
    assert '"one"' in data
    assert '"two"' in data


def test_the_same_command_resumes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *HERE[:-1], "trainer.steps=2", "name=one"]) == 0
    assert f"Resuming {runs / 'one'} at step 1" in capsys.readouterr().err
    assert (runs / "one" / "step_2.pt").is_file()


def test_other_settings_are_refused_with_commands_for_the_folder(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *HERE, "name=one", "optimizer.lr=1"]) == 2
    error = capsys.readouterr().err
    assert f"{runs / 'one'} was trained with other settings" in error
    commands = [line for line in error.splitlines() if "gantrain " in line[8:]]
    assert len(commands) == 4
    assert all("there/runs" in command for command in commands)


def test_moved_runs_resume(runs: Path) -> None:
    runs.rename("moved")
    assert main(["train", *TINY, "checkpoints_dir=moved", "trainer.steps=2", "name=one"]) == 0
    assert Path("moved/one/step_2.pt").is_file()


def test_a_test_takes_the_name_of_a_run(runs: Path) -> None:
    assert main(["test", "run=one", "checkpoints_dir=there/runs", "num=2", "accelerator=cpu"]) == 0
    assert (runs / "one" / "results" / "test_1" / "index.html").is_file()


def test_a_missing_run_is_refused_with_the_existing_ones(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "checkpoints_dir=there/runs"]) == 2
    error = capsys.readouterr().err
    assert "run is missing" in error
    assert str(runs / "one") in error


def test_a_comparison_finds_runs_by_name(runs: Path) -> None:
    assert main(["compare", "one", "two", "checkpoints_dir=there/runs", "out=both"]) == 0
    assert (Path("both") / "index.html").is_file()


def test_a_sweep_is_stored_in_the_folder_and_can_be_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", *HERE, "seed=0,1"]) == 0
    (folder,) = Path("there/runs/sweeps").iterdir()
    assert (folder / "index.html").is_file()
    assert len(list((folder / "jobs").glob("*.json"))) == 2
    assert not Path("checkpoints").exists()
    assert f"sweeps/{folder.name}/index.html" in Path("there/runs/index.html").read_text()
    assert main(["train", "-m", *HERE, "seed=0,1"]) == 0
    assert "is done" in capsys.readouterr().err
    (folder / "index.html").unlink()
    assert main(["compare", str(folder)]) == 0
    assert (folder / "index.html").is_file()


def test_an_empty_folder_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY, "checkpoints_dir="]) == 2
    assert "checkpoints_dir" in capsys.readouterr().err
