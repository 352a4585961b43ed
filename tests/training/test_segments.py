"""Runs that continue with other settings: each change is a segment, and the run stays as repeatable as any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import assert_same_bits, newest, stop_after
from torch import Tensor

from gantrain.cli.main import main
from gantrain.optim.updates import Updates
from gantrain.report.pages.page import read_status
from gantrain.training.segments import IMAGES, Plan, next_plan

STATE = ("step", "position", "origin", "plan", "model", "updates", "ranks", "segments")
PLATEAU = ["schedule=plateau", "schedule.interval=2", "schedule.patience=0", "schedule.threshold=100"]


def lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (Path("checkpoints") / name / "losses.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        (["schedule=linear"], []),
        (["schedule=linear"], ["schedule.extend=true"]),
        (["schedule=cosine"], ["optimizer.lr=1e-3", "model.ema=0.9"]),
        (["schedule=constant"], ["data.batch_size=6"]),
        (["schedule=constant", "trainer.epochs=0.0025"], ["data.max_size=40", "trainer.epochs=0.4"]),
        (["schedule=constant"], ["optimizer=sgd", *PLATEAU]),
        (PLATEAU, ["schedule=step", "trainer.precision=float16"]),
        (
            ["schedule=constant", "model.pool_size=6"],
            ["model.pool_size=3", "optimizer.betas=[0.1,0.2]", "model.label_smoothing=0.1"],
        ),
    ],
    ids=["longer", "decays anew", "rate", "batches", "fewer images", "optimizer", "precision", "model"],
)
def test_a_segment_is_bit_identical_when_interrupted(before, changes, train, monkeypatch) -> None:
    length = [] if any(key.startswith("trainer.epochs") for key in before) else ["trainer.steps=3"]
    train("run", "trainer.log_every=2", *length, *before)
    shutil.copytree("checkpoints/run", "other/checkpoints/run")
    command = ["train", "resume=checkpoints/run", *(["trainer.steps=7"] if length else []), *changes]
    assert main(command) == 0
    whole, log = newest("run"), lines("run")
    shutil.rmtree("checkpoints/run")
    shutil.copytree("other/checkpoints/run", "checkpoints/run")
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        assert main(command) == 130
    assert newest("run")["step"] == 5
    assert main(["resume", "checkpoints/run"]) == 0
    cut = newest("run")
    assert_same_bits({key: cut[key] for key in STATE}, {key: whole[key] for key in STATE})
    assert lines("run") == log
    assert [segment["step"] for segment in cut["segments"]] == [0, 3]
    assert cut["step"] > 5
    assert main(command) == 0  # The command of the segment begins no other one.
    assert newest("run")["segments"] == cut["segments"]


def test_a_longer_run_keeps_the_last_rate_or_decays_anew(train) -> None:
    settings = ["schedule=linear", "schedule.start=0", "optimizer.lr=0.4", "trainer.log_every=1"]
    train("kept", *settings, "trainer.steps=4")
    shutil.copytree("checkpoints/kept", "checkpoints/anew")
    shutil.copytree("checkpoints/kept", "checkpoints/other")
    assert main(["train", "resume=checkpoints/kept", "trainer.steps=8"]) == 0
    assert main(["train", "resume=checkpoints/anew", "trainer.steps=8", "schedule.extend=true"]) == 0
    assert main(["train", "resume=checkpoints/other", "trainer.steps=8", "schedule.start=0.5"]) == 0
    rates = {name: [round(line["lr_generator"], 6) for line in lines(name)] for name in ("kept", "anew", "other")}
    assert rates["kept"] == [0.4, 0.3, 0.2, 0.1] + 4 * [0.1]
    assert rates["anew"] == [0.4, 0.3, 0.2, 0.1] + [0.4, 0.3, 0.2, 0.1]
    assert rates["other"] == [0.4, 0.3, 0.2, 0.1] + [0.4, 0.3, 0.2, 0.1]  # Another schedule is that of the whole run.
    assert newest("anew")["config"]["schedule"]["extend"] is True
    assert newest("anew")["segments"][1]["changes"]["schedule.extend"] == [False, True]


def test_the_schedule_of_a_longer_run() -> None:
    plan, rest = Plan("step", 0, 100, last=0.99), Plan("step", 100, 300)
    longer = {"trainer.steps": [100, 300]}
    assert next_plan(plan, longer, {}, rest) == plan
    assert next_plan(plan, longer, {"extend": True}, rest) == rest
    assert next_plan(plan, {"optimizer.lr": [1, 2]}, {"extend": True}, rest) == plan  # No new decay for another rate.
    assert next_plan(plan, {"schedule.start": [0.1, 0.2]}, {"extend": False}, rest) == Plan("step", 0, 300)
    # Half of the run is over; the same number of epochs has become three times as many images.
    half = next_plan(Plan("image", 0, 100, last=0.5), {IMAGES: [10, 30]}, {}, Plan("image", 50, 200))
    assert half.progress(50) == 0.5
    assert half.progress(125) == 0.75
    assert half.progress(200) == 0.75  # It stays below 1.


def test_the_hyper_parameters_of_a_segment_are_used(train) -> None:
    train("run", "trainer.steps=2", "optimizer.betas=[0.5,0.9]")
    assert main(["train", "resume=checkpoints/run", "trainer.steps=3", "optimizer.betas=[0.25,0.75]"]) == 0
    for player in newest("run")["updates"]["players"]:
        assert player["optimizer"]["param_groups"][0]["betas"] == (0.25, 0.75)


def test_images_and_epochs_are_counted_through(train) -> None:
    train("run", "data.max_size=10", "trainer.epochs=2")  # 5 batches of 4
    assert main(["train", "resume=checkpoints/run", "data.max_size=30", "data.batch_size=6", "trainer.epochs=3"]) == 0
    state, last = newest("run"), lines("run")[-1]
    assert state["step"] == 5 + 5
    assert (last["epoch"], last["kimg"]) == (3, 0.05)
    assert state["origin"] == {"number": 1, "images": 20, "epochs": 2.0}
    assert state["segments"][1]["changes"][IMAGES] == [10, 30]


def test_a_segment_is_recorded_and_marked_on_the_page(train) -> None:
    train("run", "trainer.steps=2", "optimizer.lr=1e-3")
    assert main(["train", "resume=checkpoints/run", "trainer.steps=3", "optimizer.lr=2e-3"]) == 0
    first, second = read_status(Path("checkpoints/run"))["segments"]
    assert first["step"] == 0
    assert second["step"] == 2
    assert second["changes"] == ["trainer.steps: 2 → 3", "optimizer.lr: 0.001 → 0.002"]
    page = Path("checkpoints/run/index.html").read_text()
    assert second["command"] == "gantrain train resume=checkpoints/run trainer.steps=3 optimizer.lr=2e-3"
    assert first["command"] in page
    assert second["command"] in page
    assert newest("run")["config"]["optimizer"]["lr"] == 2e-3


def test_another_speed_or_place_begins_no_segment(train, capsys) -> None:
    train("run", "trainer.steps=2")
    assert main(["train", "resume=run", "trainer.log_every=1", "trainer.keep=5", "logger=csv"]) == 0
    assert len(newest("run")["segments"]) == 1
    assert "New settings" not in capsys.readouterr().err


@pytest.mark.parametrize("change", ["data.load_size=32", "network.width=8"])
def test_what_does_not_fit_the_weights_is_refused(change: str, train, capsys) -> None:
    before = train("run", "trainer.steps=1")
    capsys.readouterr()
    assert main(["train", "resume=checkpoints/run", "trainer.steps=2", change]) == 2
    error = capsys.readouterr().err
    assert "checkpoints/run" in error
    assert "Traceback" not in error
    assert_same_bits(newest("run")["model"], before["model"])


def test_a_rollback_into_the_segment_before_keeps_the_settings(train, monkeypatch) -> None:
    train("run", "schedule=constant", "trainer.steps=2")
    update, failed = Updates.generator, []

    def diverge_once(self: Updates, loss: Tensor) -> None:
        if self.step == 3 and not failed:
            failed.append(self.step)
            loss = loss * float("nan")
        update(self, loss)

    monkeypatch.setattr(Updates, "generator", diverge_once)
    more = ["trainer.on_divergence=rollback", "optimizer.lr=3e-3"]
    assert main(["train", "resume=checkpoints/run", "trainer.steps=5", *more]) == 0
    state = newest("run")
    assert failed == [3]
    assert (state["step"], state["rollbacks"]) == (5, 1)
    assert [segment["step"] for segment in state["segments"]] == [0, 2]
    assert state["updates"]["players"][0]["optimizer"]["param_groups"][0]["lr"] == 3e-3
