"""Every key has a description, a type and its values."""

from __future__ import annotations

import pytest
import yaml
from yaml_files import CONFIGS, composed

from gantrain.config.keys import COMMANDS, allowed, argument_of, can_be_typed, choices, files, keys
from gantrain.config.overrides import flatten
from gantrain.config.source import arguments_at, described


def test_every_key_of_every_file_is_described() -> None:
    typed = {path for name, values in files().items() if name not in COMMANDS for path in values if can_be_typed(path)}
    assert sorted(typed - keys().keys()) == []
    assert len(typed) > 150
    for key in keys().values():
        for meaning in key.meanings:
            argument = meaning.argument
            assert len(argument.text) > 8, f"{key.path} has no description for {meaning.options}"
            assert argument.annotation is not None, f"{key.path} has a type that can't be read"
            assert "<" not in allowed(argument), key.path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_of_another_command_is_described(command: str) -> None:
    content = yaml.safe_load((CONFIGS / f"{command}.yaml").read_text(encoding="utf-8"))
    arguments = arguments_at(COMMANDS[command])
    assert set(content) - {"defaults", "hydra"} <= arguments.keys()
    for name, argument in arguments.items():
        assert len(argument.text) > 5, f"{command}.{name} has no description"
        assert argument.annotation is not None, name


@pytest.mark.parametrize("model", ["discogan", "sagan"])
def test_the_values_of_a_model_are_those_that_are_composed(model: str) -> None:
    config = flatten(composed(f"model={model}", "data=cifar10"))
    own = {path: key.defaults[f"model/{model}"] for path, key in keys().items() if f"model/{model}" in key.defaults}
    assert len(own) > 15
    for path, value in own.items():
        assert config[path] == value, path


def test_the_values_of_other_files_are_kept_apart() -> None:
    key = keys()["model.pool_size"]
    assert {name: value for name, value in key.defaults.items() if value} == {"model/cyclegan": 50}
    assert keys()["trainer.steps"].others["data/digits"] == 3600
    assert keys()["trainer.steps"].defaults["trainer/default"] is None


def test_the_meaning_of_a_key_is_that_of_the_class_that_reads_it() -> None:
    meanings = keys()["model.pool_size"].meanings
    texts = {option: meaning.argument.text for meaning in meanings for option in meaning.options}
    assert "per domain" in texts["cyclegan"]
    assert "per domain" not in texts["dcgan"]
    assert argument_of("network.generator.blocks", "resnet") is not None
    assert argument_of("network.generator.blocks", "unet") is None


def test_choices_are_listed() -> None:
    def of(path: str, name: str | None = None) -> list[str]:
        argument = argument_of(path, name)
        assert argument is not None
        return choices(argument.annotation)

    assert of("trainer.precision") == ["auto", "float32", "bfloat16", "float16", "float64"]
    assert of("data.flip", "single") == ["true", "false"]
    assert of("objective.mode") == ["min", "max", "null"]
    assert "hinge" in of("model.loss", "dcgan")
    assert of("model.ema", "dcgan") == []


def test_a_docstring_describes_its_arguments() -> None:
    text = "A class.\n\nArgs:\n    a, b: Both: of\n        them.\n    c: One.\n\nAttributes:\n    d: Not it.\n"
    assert described(text) == {"a": "Both: of them.", "b": "Both: of them.", "c": "One."}
    assert described("A class.") == {}
