"""What people type first is answered with what to type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gantrain.cli.hydra_errors import _known_keys
from gantrain.cli.main import main
from gantrain.config.guesses import PREDICT, TEST, TRAIN

TYPED = [
    ("train --lr 1e-4", "type optimizer.lr=1e-4"),
    ("train lr=1e-4", "type optimizer.lr=1e-4"),
    ("train --learning-rate=1", "type optimizer.lr=1"),
    ("train --name x", "type name="),
    ("train --resume", "type resume="),
    ("train --data.root=x", "type data.root="),
    ("train steps=3", "type trainer.steps="),
    ("train epochs=3", "type trainer.epochs="),
    ("train batch_size=3", "type data.batch_size="),
    ("train --batch-size 3", "type data.batch_size="),
    ("train data.size=3", "type data.load_size="),
    ("train data.image_size=3", "type data.load_size="),
    ("train device=cuda", "type trainer.accelerator="),
    ("train network.generator=mlp", "type network/generator=mlp"),
    ("train network.discriminator=mlp", "type network/discriminator=mlp"),
    ("train data.root=foo", "data=single"),
    ("train model=cyclegan lambda_A=5", "'model.lambda_a'"),
    ("train model=cyclegan model.lambda_A=5", "'model.lambda_a'"),
    ("train trainer.gpu_ids=2", "type trainer.devices=2"),
    ("train data.single", "type data=single"),
    ("train data=folder", "type data=single data.root=FOLDER"),
    ("train help", "type gantrain train --help"),
    ("train wgan_gp", "type model=wgan_gp"),
    ("train cifar10", "type data=cifar10"),
    ("test checkpoints/x", "type run=checkpoints/x"),
    ("test run=checkpoints/x/step_1.pt", "type run=checkpoints/x step=1"),
    ("test run=checkpoints/x/best.pt", "type run=checkpoints/x step=best"),
    ("test help", "type gantrain test --help"),
    ("test --name x", "type run="),
    ("test --model x", "type run="),
    ("test --batch-size 3", "type batch_size=VALUE"),
    ("predict --input x", "type source="),
    ("predict --data x", "type source="),
    ("test --data x", "type data=VALUE"),
    ("test model=x", "type run="),
    ("test device=cuda", "type accelerator="),
    ("predict input=photos", "type source="),
    ("predict n=3", "type num="),
]


@pytest.mark.parametrize(("typed", "meant"), TYPED)
def test_a_usual_guess_is_answered_in_one_line_with_what_to_type(typed: str, meant: str, capsys) -> None:
    assert main(typed.split()) == 2
    shown = capsys.readouterr()
    assert meant in shown.err
    assert shown.err.count("\n") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("command", ["train", "data check"])
def test_a_folder_alone_is_answered_with_the_keys_that_read_it(command: str, capsys) -> None:
    Path("photos").mkdir()
    assert main([*command.split(), "photos"]) == 2
    assert "photos: expected KEY=VALUE; type data=single data.root=photos" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["test", "predict source=x out=y", "evaluate", "export format=html"])
def test_the_runs_whose_names_begin_so_are_named_for_one_that_is_not_there(command: str, capsys) -> None:
    for name in ("dcgan_single_data.root-images_6129c4", "wgan_digits"):
        Path("checkpoints", name).mkdir(parents=True)
        Path("checkpoints", name, "config.yaml").touch()
    assert main([*command.split(), "run=dcgan_single"]) == 2
    shown = capsys.readouterr().err
    assert "run=dcgan_single: no such folder" in shown
    assert "dcgan_single_data.root-images_6129c4" in shown
    assert "wgan" not in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize(("command", "table"), [("train", TRAIN), ("test", TEST), ("predict", PREDICT)])
def test_every_guess_is_no_key_and_what_it_proposes_is_one(command: str, table: dict[str, str]) -> None:
    known = _known_keys(command, ["data=single"])
    parts = {".".join(key.split(".")[:count]) for key in known for count in range(1, 5)}
    assert not table.keys() & known
    for meant in table.values():
        for key in re.findall(r"([\w./]+)=", meant):
            assert key in known | parts, f"{key} of {meant}"
