"""``gantrain list``: everything that it prints can be typed."""

from __future__ import annotations

import re
import shutil
from os import terminal_size
from pathlib import Path

import pytest

from gantrain.cli.compose import compose_once
from gantrain.cli.listing import GROUPS, choices_of
from gantrain.cli.main import main

CONFIGS = Path(__file__).parents[2] / "configs"
PLUGIN = """
from gantrain.optim.optimizers import SGD
from gantrain.registry import OPTIMIZERS
OPTIMIZERS.register("mine")(type("Mine", (SGD,), {"__doc__": "My own."}))
"""


@pytest.mark.parametrize("group", sorted({group for groups in GROUPS.values() for group in groups}))
def test_every_file_of_a_group_is_listed_as_it_is_typed(group: str) -> None:
    choices = choices_of(group, [CONFIGS])
    files = {f"{group}={path.stem}" for path in (CONFIGS / group).glob("*.yaml") if path.stem != "none"}
    assert {choice.typed for choice in choices if not re.match(r"[^=]+[.](name|mode)=", choice.typed)} == files
    assert all(choice.text for choice in choices)
    for choice in choices[:2]:
        composed = compose_once("train", [], [choice.typed, *(["data.root=x"] if group == "data" else [])])
        assert composed.choices[group] == choice.typed.partition("=")[2]


def test_an_alias_names_what_it_is_the_same_as() -> None:
    texts = {choice.typed: choice.text for choice in choices_of("network/generator", [CONFIGS])}
    assert texts["network/generator=resnet"].startswith("the same as resnet_9blocks")
    assert not texts["network/generator=unet_256"].startswith("the same as")


def test_classes_of_plugins_and_files_of_users_are_listed(workplace: Path, monkeypatch, capsys) -> None:
    (workplace / "listed_plugin.py").write_text(PLUGIN)
    (workplace / "conf/optimizer").mkdir(parents=True)
    (workplace / "conf/optimizer/slow.yaml").write_text("# Slow steps.\ndefaults: [sgd]\nlr: 1e-9\n")
    monkeypatch.syspath_prepend(workplace)
    assert main(["list", "optimizers", "--config-dir", "conf", "plugins=[listed_plugin]"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if re.match(r"optimizer.name=mine +My own[.]$", line)]
    assert [line for line in lines if re.match(r"optimizer=slow +Slow steps", line)]


@pytest.mark.parametrize("words", [[], *([name] for name in GROUPS)], ids=lambda words: "-".join(words) or "all")
def test_a_list_fits_on_a_screen(words: list[str], monkeypatch, capsys) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: terminal_size((80, 40)))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["list", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 80
