"""What may change when a run resumes, and what is refused."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from checkpoint_states import state_of
from conftest import TINY, assert_same_bits, newest
from image_folders import make_images
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.sets import single


def test_a_finished_run_is_extended_under_a_constant_schedule(train, capsys) -> None:
    whole = train("whole", "schedule=constant", "trainer.steps=5")
    train("short", "schedule=constant", "trainer.steps=3")
    longer = train("short", "schedule=constant", "trainer.steps=5")
    assert_same_bits(state_of(longer)["model"], state_of(whole)["model"])
    capsys.readouterr()
    train("short", "schedule=constant", "trainer.steps=5")
    assert "is finished at step 5" in capsys.readouterr().err


def test_another_length_under_a_decaying_schedule_must_be_meant(train, capsys) -> None:
    train("decayed", "schedule=linear", "trainer.steps=3")
    capsys.readouterr()
    assert main(["train", *TINY, "name=decayed", "schedule=linear", "trainer.steps=5"]) == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert "trainer.steps=3" in first
    assert first.endswith("gantrain train resume=checkpoints/decayed trainer.steps=5")
    commands = [line[line.index("gantrain ") :] for line in (first, *others)]
    assert len(commands) == 4
    for command in reversed(commands):
        assert main(shlex.split(command)[1:]) == 0
    assert newest("decayed_2")["step"] == newest("decayed")["step"] == 5


def test_other_hyper_parameters_are_refused_with_working_commands(train, capsys) -> None:
    train("run", "trainer.steps=2", "optimizer.lr=1e-3", "model.ema=0")
    capsys.readouterr()
    typed = ["train", *TINY, "name=run", "trainer.steps=2", "optimizer.lr=2e-3", "model.ema=0.5"]
    assert main(typed) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("gantrain resume checkpoints/run")
    assert lines[-1].strip() == "optimizer.lr: 0.001 in the checkpoint, 0.002 now"
    assert lines[-2].strip() == "model.ema: 0 in the checkpoint, 0.5 now"
    commands = [line[line.index("gantrain ") :] for line in lines[:-2]]
    assert len(commands) == 4
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, command
    assert newest("run_2")["config"]["optimizer"]["lr"] == 2e-3
    assert newest("run")["config"]["optimizer"]["lr"] == 2e-3  # This was the last command.
    assert len(newest("run")["segments"]) == 1


def test_at_most_five_differences_are_listed(train, capsys) -> None:
    train("run", "trainer.steps=1")
    capsys.readouterr()
    assert main(["train", *TINY, "name=run", "model=wgan", "trainer.steps=1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("gantrain resume checkpoints/run")
    assert sum(" in the checkpoint, " in line for line in lines) == 5
    assert re.fullmatch(r"  and \d+ more", lines[-1])


def test_keys_that_do_not_affect_the_result_may_change(train) -> None:
    whole = train("whole", "schedule=constant", "trainer.steps=4")
    train("moved", "schedule=constant", "trainer.steps=2")
    resumed = train(
        "moved", "schedule=constant", "trainer.steps=4", "trainer.log_every=1", "data.num_workers=1", "trainer.keep=5"
    )
    assert_same_bits(resumed["model"], whole["model"])


def test_a_run_with_other_images_is_refused(train, capsys) -> None:
    make_images(Path("few"), 5)
    make_images(Path("many"), 6)
    make_images(Path("others"), 5)
    Path("others/4.png").rename("others/x.png")
    settings = ["data=single", "trainer.steps=2"]
    train("run", *settings, "data.root=few")
    assert main(["train", *TINY, "name=run", *settings, "data.root=many"]) == 2
    assert "training images: 5 in the checkpoint, 6 now" in capsys.readouterr().err
    assert main(["train", *TINY, "name=run", *settings, "data.root=others"]) == 2
    assert "training images: 5 in the checkpoint, 5 of other names now" in capsys.readouterr().err
    Path("few").rename("moved")
    train("run", "data=single", "trainer.steps=3", "data.root=moved")


def test_resume_never_restarts_and_reports_what_it_overwrites(train, capsys) -> None:
    first = train("run", "trainer.steps=4", "trainer.save_every=1", "trainer.keep=0")
    again = train("run", "trainer.steps=2", "resume=never")
    assert "overwriting checkpoints/run, which was at step 4" in capsys.readouterr().err
    assert again["step"] == 2
    assert sorted(path.name for path in Path("checkpoints/run").glob("step_*")) == ["step_2.pt"]
    assert first["step"] == 4


def test_a_refusal_after_resume_never_leaves_the_old_run_unchanged(train, capsys) -> None:
    before = train("run", "trainer.steps=2")
    assert main(["train", *TINY, "name=run", "resume=never", "init_from=checkpoints/nothing"]) == 2
    assert "overwriting" not in capsys.readouterr().err
    assert_same_bits(newest("run")["model"], before["model"])
    # A run may also restart from its own networks.
    again = train("run", "resume=never", "init_from=checkpoints/run", "optimizer.lr=0", "trainer.steps=1")
    key = "generator.layers.0.weight"
    assert torch.equal(again["model"][key], before["model"][key])


def test_an_error_in_the_first_step_leaves_no_files(capsys) -> None:
    assert main(["train", *TINY, "name=run", "schedule=plateau", "schedule.metric=nonsense"]) == 2
    assert "schedule.metric" in capsys.readouterr().err
    assert not Path("checkpoints").exists()


def test_only_the_newest_checkpoints_are_stored(train) -> None:
    train("run", "trainer.steps=5", "trainer.save_every=1", "trainer.keep=2")
    assert sorted(path.name for path in Path("checkpoints/run").glob("step_*")) == ["step_4.pt", "step_5.pt"]


@pytest.mark.parametrize("more", [[], ["data.labelled=12"], ["data.max_size=20"]])
def test_a_run_keeps_its_numbers_of_classes(more: list[str], train, monkeypatch, capsys) -> None:
    """Earlier versions numbered folders by the order of their characters: 0, 1, 10, 11, 2 ..."""
    for number in range(24):
        path = Path(f"set/{number % 12}/{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), number * 10).save(path)
    settings = [f"model={'sgan' if more == ['data.labelled=12'] else 'cgan'}", "data=single", "data.root=set", *more]
    settings += ["data.channels=1", "data.num_workers=0", "metrics=fid", "metrics.features=digits"]
    settings += ["metrics.samples=64", "metrics.seed=1"]
    with monkeypatch.context() as older:
        older.setattr(single, "in_order", lambda names: sorted(set(names)))
        whole = train("whole", *settings, "trainer.steps=4")
        train("cut", *settings, "trainer.steps=2")
    train("cut", *settings, "trainer.steps=4")
    assert_same_bits(state_of(newest("cut")), state_of(whole))
    assert newest("cut")["spec"] == whole["spec"]
    one, other = (Path(f"checkpoints/{name}/metrics.jsonl").read_text().splitlines()[-1] for name in ("whole", "cut"))
    assert one == other  # Those of each class, too.
    assert "fid_class_1" in one
    assert whole["spec"]["class_names"][2] == "10"
    assert main(["test", "run=cut", "num=1", "labels=[2]", "out=two"]) == 0
    assert list(Path("two/samples").iterdir())[0].stem.endswith("_10")
    assert main(["test", "run=cut", "num=1", "labels=['2']", "out=two"]) == 0
    assert list(Path("two/samples").iterdir())[0].stem.endswith("_2")
    begun = train("begun", *settings, "trainer.steps=1", "init_from=checkpoints/whole")
    assert begun["spec"]["class_names"] == whole["spec"]["class_names"]
    assert train("new", *settings, "trainer.steps=1")["spec"]["class_names"][2] == "2"
