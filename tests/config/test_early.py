"""Values are checked by the annotations in the source code, without torch, and with the messages of the classes."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gantrain.training.build  # noqa: F401 - registers every class
from gantrain.config import schema
from gantrain.config.source import GROUPS, PACKAGE, Module, arguments_of, loss_names
from gantrain.models.losses.adversarial import ADVERSARIAL_LOSSES
from gantrain.registry import REGISTRIES as ALL

MISTAKES = [
    *("trainer.steps=abc", "trainer.precision=half", "seed=x", "resume=sometimes", "dry_run=maybe", "name=a/b"),
    *("optimizer.lr=abc", "optimizer.lr=-1", "optimizer.betas=0.5", "model.latent_dim=0", "model.ema=1"),
    *("model.loss=foo", "model=pix2pix model.loss=hing"),
    *("model.noise=pink", "network.generator.norm=layer", "network.discriminator.extra_layers=-1"),
    *(
        "data.batch_size=-4",
        "data.num_workers=-1",
        "data=single data.root=x data.flip=maybe",
        "trainer.steps=1 trainer.epochs=1",
    ),
    *("schedule=step schedule.factor=x", "model=cyclegan model.lambda_identity=a", "lr=1", "network.generator=mlp"),
]
CODE = """
import sys
from gantrain.cli.main import main
for words in sys.argv[1:]:
    assert main(["train", *words.split()]) == 2, words
    assert "torch" not in sys.modules, words
"""


def test_mistakes_are_found_before_torch_is_imported() -> None:
    ended = subprocess.run([sys.executable, "-c", CODE, *MISTAKES], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stderr.splitlines()
    assert len(lines) == len(MISTAKES)
    for words, line in zip(MISTAKES, lines, strict=True):
        assert words.split()[-1].split("=")[0] in line


def test_only_the_source_of_the_chosen_class_and_its_parents_is_parsed() -> None:
    for cached in (Module.of, arguments_of):
        cached.cache_clear()
    assert "pool_size" in arguments_of("model", "cyclegan")
    assert Module.of.cache_info().currsize < len([*(PACKAGE / "models").rglob("*.py")]) / 2


def test_the_losses_are_read_from_their_table() -> None:
    assert loss_names() == list(ADVERSARIAL_LOSSES)


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_read_from_the_source_is_what_the_classes_take(group: str) -> None:
    (registry,) = (each for each in ALL if each.key == group)
    checked = 0
    for name in registry:
        if not registry[name].__module__.startswith("gantrain."):
            continue
        _, hints = schema._signature(registry[name])
        for argument, (annotation, _) in arguments_of(group, name).items():
            if annotation is not None:
                assert str(annotation) == str(hints[argument]), f"{name}.{argument}"
                checked += 1
    assert checked >= len(list(registry)) - 1
