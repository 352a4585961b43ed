"""An interrupted run resumes bit-identically; with other hyper-parameters or images it is refused."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import MODELS, TINY, assert_same_bits, newest, sized, stop_after
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.sets import single

STATE = ("step", "position", "origin", "plan", "model", "updates", "ranks")
EVERYTHING_ON = ["model.ema=0.9", "model.pool_size=6", "model.r1=0.1", "model.r2=0.1", "model.r1_every=2"]
EVERYTHING_ON += ["model.augment=[color,translation,cutout]"]


def state_of(checkpoint: dict) -> dict:
    return {key: checkpoint[key] for key in STATE}


def losses(name: str) -> str:
    return (Path("checkpoints") / name / "losses.jsonl").read_text()


@pytest.mark.parametrize("model", [model for model in MODELS if model != "sngan"])  # All of it is in sagan.
def test_every_model_resumes_bit_identically(model: str, train, monkeypatch) -> None:
    settings = [f"model={model}", *sized(model), *EVERYTHING_ON, "trainer.steps=5", "trainer.log_every=2"]
    whole = train("whole", *settings)
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        command = ["train", *TINY, *settings, "name=cut"]
        if model == "wgan":
            command.append("model.warmup_critic_steps=0")
        assert main(command) == 130
        assert newest("cut")["step"] == 3
    assert main(command) == 0
    assert_same_bits(state_of(newest("cut")), state_of(whole))
    assert losses("cut") == losses("whole")


def test_an_adaptively_augmented_run_resumes_bit_identically(train, monkeypatch) -> None:
    ada = ["model.augment=ada", "model.augment_every=2", "model.augment_kimg=0.02", "model.augment_target=0.0"]
    settings = ["model=cgan", *EVERYTHING_ON[:-1], *ada, "trainer.steps=7"]
    whole = train("whole", *settings)
    with monkeypatch.context() as patch:
        stop_after(5, patch)  # The signs of a step have not changed p yet.
        assert main(["train", *TINY, *settings, "name=cut"]) == 130
    stopped = newest("cut")["model"]
    assert stopped["adaptive.p"] > 0
    assert stopped["adaptive.seen"][1] == 4
    assert main(["train", *TINY, *settings, "name=cut"]) == 0
    assert_same_bits(state_of(newest("cut")), state_of(whole))
    assert losses("cut") == losses("whole")


def test_a_run_begins_to_augment_adaptively_in_a_new_segment(train) -> None:
    train("run", "trainer.steps=1")
    ada = ["model.augment=ada", "model.augment_every=1", "model.augment_kimg=0.008", "model.augment_target=0.0"]
    assert main(["train", "resume=run", *ada, "trainer.steps=5", "trainer.log_every=1"]) == 0
    assert "adaptive.p" in newest("run")["model"]
    assert "augment_p" in losses("run").splitlines()[-1]
    assert main(["train", "resume=run", "model.augment=[color]", "trainer.steps=6"]) == 0
    assert "adaptive.p" not in newest("run")["model"]


def test_a_relativistic_run_resumes_bit_identically(train, monkeypatch) -> None:
    settings = ["model=cgan", "model.loss=relativistic", *EVERYTHING_ON, "trainer.steps=5"]
    whole = train("whole", *settings)
    assert whole["position"] == 10  # A batch for each update.
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        assert main(["train", *TINY, *settings, "name=cut"]) == 130
    assert main(["train", *TINY, *settings, "name=cut"]) == 0
    assert_same_bits(state_of(newest("cut")), state_of(whole))


def test_a_run_stopped_at_any_step_resumes_bit_identically(train, monkeypatch) -> None:
    settings = ["model=cgan", *EVERYTHING_ON, "trainer.steps=6", "trainer.log_every=4", "schedule=cosine"]
    settings += ["network/generator=mlp", "network/discriminator=mlp", "network.discriminator.dropout=0.3"]
    whole = train("whole", *settings)
    for stop in (1, 2, 3, 4, 5):
        command = ["train", *TINY, *settings, f"name=cut_{stop}"]
        with monkeypatch.context() as patch:
            stop_after(stop, patch)
            assert main(command) == 130
        assert main(command) == 0
        assert_same_bits(state_of(newest(f"cut_{stop}")), state_of(whole), f"stopped after step {stop}")
        assert losses(f"cut_{stop}") == losses("whole")


def test_plateau_and_float16_state_survive_a_stop(train, monkeypatch) -> None:
    settings = ["schedule=plateau", "schedule.interval=2", "schedule.patience=0", "schedule.threshold=100"]
    settings += ["trainer.precision=float16", "trainer.steps=7"]
    whole = train("whole", *settings)
    assert whole["ranks"][0]["schedule"]["factor"] < 1
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        assert main(["train", *TINY, *settings, "name=cut"]) == 130
    assert main(["train", *TINY, *settings, "name=cut"]) == 0
    assert_same_bits(state_of(newest("cut")), state_of(whole))


def test_runs_are_bit_identical_for_any_number_of_workers(train) -> None:
    folder = Path("images")
    make_images(folder, 10)
    settings = ["data=single", f"data.root={folder}", "data.crop_size=16", "data.load_size=20", "trainer.steps=4"]
    first = train("first", *settings, "data.num_workers=0")
    assert_same_bits(state_of(first), state_of(train("second", *settings, "data.num_workers=0")))
    assert_same_bits(state_of(first), state_of(train("third", *settings, "data.num_workers=2")))
    other = train("other", *settings, "data.num_workers=0", "seed=1")
    assert not torch.equal(first["model"]["generator.layers.0.weight"], other["model"]["generator.layers.0.weight"])


def test_a_run_killed_after_a_checkpoint_resumes_bit_identically(train) -> None:
    settings = ["trainer.steps=6", "trainer.save_every=2", "trainer.log_every=1", "trainer.keep=0"]
    whole = train("whole", *settings)
    train("cut", *settings)
    # As after a kill in step 6: the newest checkpoint is of step 4, and the log ends with half a line.
    folder = Path("checkpoints/cut")
    (folder / "step_6.pt").unlink()
    (folder / "step_6.tmp").write_bytes(b"half a checkp")
    (folder / "losses.jsonl").write_text("".join(losses("cut").splitlines(True)[:5]) + '{"step": 6, "epo')
    resumed = train("cut", *settings)
    assert_same_bits(state_of(resumed), state_of(whole))
    assert losses("cut") == losses("whole")


@pytest.mark.usefixtures("warm_python")
@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_saves_and_the_same_command_resumes(workers: int) -> None:
    command = [sys.executable, "-m", "gantrain", "train", *TINY, "trainer.steps=100000", "name=long"]
    command += ["trainer.log_every=1", f"data.num_workers={workers}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log = Path("checkpoints/long/losses.jsonl")
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 3):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # A terminal sends it to the workers too.
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    step = newest("long")["step"]
    assert f"Stopped at step {step} and saved" in errors
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == list(range(1, step + 1))
    assert "stopped" in Path("checkpoints/long/index.html").read_text()


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


def make_images(folder: Path, count: int) -> None:
    """Small noisy images."""
    from PIL import Image

    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        pixels = torch.randint(256, (24, 30, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")


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
