"""How often a configuration is composed, and what completes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from hydra._internal.config_loader_impl import ConfigLoaderImpl

import gantrain.train
from gantrain.cli.compose import complete, compose_once, demo_data
from gantrain.cli.main import main

LOAD = ConfigLoaderImpl.load_configuration


@pytest.fixture
def compositions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Filled with a tuple for every composition."""
    calls: list[tuple[Any, ...]] = []

    def counted(self: ConfigLoaderImpl, *arguments: Any, **keywords: Any) -> Any:
        calls.append(arguments)
        return LOAD(self, *arguments, **keywords)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    return calls


@pytest.mark.parametrize("typed", [[], ["model=cgan"], ["model=cyclegan", "trainer.steps=3"], ["seed=3"]])
def test_a_run_is_composed_once_and_its_defaults_once(
    typed: list[str], compositions: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gantrain.train, "train", lambda config, overrides, defaults: int(defaults() is None))
    assert main(["train", *typed]) == 0
    assert len(compositions) == 2


def test_a_test_is_composed_once(trained: Callable[[str], Path], compositions: list[Any]) -> None:
    run = trained("pix2pix")
    compositions.clear()
    assert main(["test", f"run={run}", "num=1", "accelerator=cpu"]) == 0
    assert len(compositions) == 1


def test_a_model_inherits_the_demonstration_data_of_another() -> None:
    Path("conf/model").mkdir(parents=True)
    Path("conf/model/mine.yaml").write_text("# @package _global_\ndefaults: [cyclegan]\nmodel:\n  lambda_a: 3\n")
    assert demo_data(["model=mine"], ["--config-dir", "conf"]) == demo_data(["model=cyclegan"], []) != []
    assert demo_data(["model=mine", "data=single"], ["--config-dir", "conf"]) == []
    assert demo_data(["model=dcgan,cyclegan"], []) == []  # They do not agree.


def test_values_may_refer_to_hydra() -> None:
    composed = compose_once("train", [], [*TINY, "name='x_${hydra:runtime.choices.model}'"])
    assert complete(composed)["name"] == "x_dcgan"


def test_keys_of_the_composition_do_not_reach_a_run() -> None:
    config = complete(compose_once("train", [], TINY))
    assert not {"demo", "discriminator_defaults", "sweep", "hydra"} & config.keys()


@pytest.mark.parametrize(("typed", "wrong", "hint"), [("fidd", "fidd", "fid"), ("[swd,FID]", "FID", "fid")])
def test_a_misspelt_metric_is_refused_rather_than_left_out(typed: str, wrong: str, hint: str, capsys) -> None:
    assert main(["train", f"metrics={typed}", "dry_run=true"]) == 2
    assert f"metrics={wrong}: no such metrics; did you mean '{hint}'?" in capsys.readouterr().err
