"""An interrupted run resumes bit-identically."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from checkpoint_states import state_of
from conftest import MODELS, TINY, assert_same_bits, newest, sized, stop_after
from image_folders import make_images

from gantrain.cli.main import main

EVERYTHING_ON = ["model.ema=0.9", "model.pool_size=6", "model.r1=0.1", "model.r2=0.1", "model.r1_every=2"]
EVERYTHING_ON += ["model.augment=[color,translation,cutout]"]


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
