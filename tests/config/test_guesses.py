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
    ("train help", "type gantrain train --help"),
    ("train wgan_gp", "type model=wgan_gp"),
    ("train cifar10", "type data=cifar10"),
    ("test checkpoints/x", "type run=checkpoints/x"),
    ("test run=checkpoints/x/step_1.pt", "type run=checkpoints/x step=1"),
    ("test run=checkpoints/x/best.pt", "type run=checkpoints/x step=best"),
    ("test help", "type gantrain test --help"),
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


@pytest.mark.parametrize(("command", "table"), [("train", TRAIN), ("test", TEST), ("predict", PREDICT)])
def test_every_guess_is_no_key_and_what_it_proposes_is_one(command: str, table: dict[str, str]) -> None:
    known = _known_keys(command, ["data=single"])
    parts = {".".join(key.split(".")[:count]) for key in known for count in range(1, 5)}
    assert not table.keys() & known
    for meant in table.values():
        for key in re.findall(r"([\w./]+)=", meant):
            assert key in known | parts, f"{key} of {meant}"
