"""Which checkpoint of a run is loaded: the newest that is not corrupt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from checkpoint_states import corrupt, saved
from conftest import assert_same_bits

import gantrain
from gantrain.checkpoints.file import CorruptCheckpointError
from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.main import main
from gantrain.errors import ConfigError


def test_a_corrupt_checkpoint_is_named_and_the_newest_valid_one_loaded(run_folder: Path, capsys) -> None:
    checkpoints = saved(Checkpoints(run_folder), 1, 2, 3, 4)
    corrupt(run_folder / "step_3.pt")
    (run_folder / "step_4.pt").write_bytes(b"")
    assert checkpoints.load()["step"] == 2
    warnings = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in warnings] == [" can't read run/step_4.pt", " can't read run/step_3.pt"]
    assert all(line.endswith("; trying the previous checkpoint") for line in warnings)
    with pytest.raises(CorruptCheckpointError, match=r"step_3.pt: corrupt \(checksum mismatch\)"):
        checkpoints.load(3)
    # The next save deletes those of later steps.
    saved(checkpoints, 3)
    assert checkpoints.steps() == [1, 2, 3]
    assert checkpoints.load()["step"] == 3


def test_the_best_checkpoint_is_loaded_if_all_others_are_corrupt(run_folder: Path) -> None:
    checkpoints = saved(Checkpoints(run_folder, keep=1), 1, 2, best=1)
    corrupt(run_folder / "step_2.pt")
    assert checkpoints.load()["step"] == 1
    (run_folder / "step_2.pt").unlink()
    assert checkpoints.load()["step"] == 1
    corrupt(run_folder / "best.pt")
    with pytest.raises(ConfigError, match="all checkpoints in run are corrupt or unreadable; give resume=never"):
        checkpoints.load()


@pytest.mark.parametrize("fault", ["pipe", "folder", "loop"])
def test_an_unreadable_checkpoint_is_passed_over(run_folder: Path, fault: str, capsys) -> None:
    checkpoints = saved(Checkpoints(run_folder), 1, 2)
    path = run_folder / "step_2.pt"
    path.unlink()
    {"pipe": os.mkfifo, "folder": Path.mkdir, "loop": lambda path: path.symlink_to(path)}[fault](path)
    assert checkpoints.load()["step"] == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: can't read {path}: ")
    assert line.endswith("; trying the previous checkpoint")


def test_a_missing_checkpoint_is_reported_with_those_that_exist(run_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no checkpoint in run \(found: none\)"):
        Checkpoints(run_folder).load()
    for name in ("step_007.pt", "step_x.pt", "step_٣.pt", "step_-1.pt", "step_1.pt.bak"):
        (run_folder / name).write_text("x")
    assert Checkpoints(run_folder).steps() == []
    checkpoints = saved(Checkpoints(run_folder), 2, 10)
    with pytest.raises(ConfigError, match=r"no step 3 in run \(found: step_2, step_10\)"):
        checkpoints.load(3)
    with pytest.raises(ConfigError, match=r"no best.pt in run \(found: step_2, step_10\)"):
        checkpoints.load("best")


def test_every_command_skips_a_corrupt_newest_checkpoint(train, capsys) -> None:
    run = Path("checkpoints/run")
    settings = ["trainer.steps=4", "trainer.save_every=2", "trainer.keep=0", "trainer.log_every=1"]
    whole = train("run", *settings)
    lines = (run / "losses.jsonl").read_text()
    corrupt(run / "step_4.pt")
    capsys.readouterr()
    assert gantrain.load(run) is not None
    assert "step_4.pt: corrupt" in capsys.readouterr().err
    assert main(["test", f"run={run}", "num=2"]) == 0
    assert "step_4.pt: corrupt" in capsys.readouterr().err
    assert (run / "results/test_2").is_dir()
    assert train("next", f"init_from={run}", "trainer.steps=1")["step"] == 1
    assert "step_4.pt: corrupt" in capsys.readouterr().err
    again = train("run", *settings)
    assert "step_4.pt: corrupt" in capsys.readouterr().err
    assert_same_bits(again, whole)
    assert (run / "losses.jsonl").read_text() == lines


def test_a_run_with_only_its_best_checkpoint_left_resumes_from_it(train) -> None:
    run = Path("checkpoints/run")
    settings = ["trainer.steps=3", "trainer.log_every=1", "trainer.save_every=1", "trainer.keep=0"]
    whole = train("run", *settings, "objective.metric=d_real", "objective.mode=max")
    step = Checkpoints(run).load("best")["step"]
    for path in run.glob("step_*.pt"):
        path.unlink()
    again = train("run", *settings, "trainer.steps=4", "objective.metric=d_real", "objective.mode=max")
    assert Checkpoints(run).steps() == list(range(step + 1, 5))
    assert again["step"] == 4
    assert whole["step"] == 3
