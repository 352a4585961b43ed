"""``gantrain resume``, which finds the configuration of a run in its checkpoint."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import TINY, newest
from image_folders import noise, save

from gantrain.cli.compose import complete, compose_once
from gantrain.cli.main import main
from gantrain.cli.resume import named_run, with_overrides
from gantrain.config.overrides import differences
from gantrain.errors import ConfigError


def stored(*overrides: str) -> dict:
    """What a checkpoint has of a run with these overrides, from a time when there was no ``trainer.save_every``."""
    config = complete(compose_once("train", [], list(overrides)))
    del config["trainer"]["save_every"]
    return {"config": config, "overrides": list(overrides)}


@pytest.mark.parametrize(
    ("typed", "run"),
    [
        (["resume=auto"], None),
        (["resume=never", "a=b"], None),
        (["model=gan"], None),
        (["a=b", "resume=checkpoints/x"], "checkpoints/x"),
        (["resume='a b'"], "a b"),
    ],
)
def test_resume_names_a_run(typed: list[str], run: str | None) -> None:
    assert named_run(typed) == run


def test_without_overrides_the_configuration_is_the_recorded_one() -> None:
    state = stored("model=wgan", "optimizer.lr=0.5", "trainer.epochs=2", "name=x", "logger=csv")
    config = with_overrides(state, [])
    assert config["trainer"].pop("save_every") == 500
    assert config == state["config"]


def test_a_run_without_metrics_resumes_without_metrics() -> None:
    state = stored("metrics=none", "trainer.epochs=2", "name=x")
    for typed in ([], ["trainer.epochs=3"]):
        assert with_overrides(state, typed)["metrics"] == state["config"]["metrics"]
    assert with_overrides(state, ["metrics=kid"])["metrics"]["kid"]["subsets"] == 100


def test_values_that_refer_to_a_changed_one_change_too() -> None:
    state = stored("optimizer=sgd", "optimizer.lr=0.5", "network/generator=unet", "trainer.epochs=2")
    assert state["config"]["optimizer"]["discriminator_lr"] == 0.5
    config = with_overrides(state, ["optimizer.lr=0.1", "network.width=3", "data.load_size=16"])
    assert (config["optimizer"]["lr"], config["optimizer"]["discriminator_lr"]) == (0.1, 0.1)
    assert {config["network"][each]["width"] for each in ("generator", "discriminator")} == {3}
    assert differences(state["config"], config).keys() == {
        *("optimizer.lr", "optimizer.discriminator_lr", "network.width", "data.load_size"),
        *("network.generator.width", "network.discriminator.width"),
    }
    again = with_overrides(
        {"config": config, "overrides": [*state["overrides"], "optimizer.lr=0.1"]}, ["optimizer.lr=0.5"]
    )
    assert (again["optimizer"]["lr"], again["optimizer"]["discriminator_lr"]) == (0.5, 0.5)
    assert again["network"]["width"] == 3


def test_a_group_replaces_its_keys_and_a_length_any_other() -> None:
    state = stored("schedule=step", "schedule.gamma=0.3", "trainer.epochs=2", "logger=csv")
    config = with_overrides(state, ["schedule=linear", "schedule.start=0.1", "trainer.kimg=3", "logger=[tensorboard]"])
    assert config["schedule"] == {"name": "linear", "start": 0.1, "extend": False}
    assert [config["trainer"][key] for key in ("steps", "epochs", "kimg")] == [None, None, 3]
    assert set(config["logger"]) == {"tensorboard"}
    trainer = with_overrides(state, ["trainer=cpu"])["trainer"]
    assert (trainer["accelerator"], trainer["steps"], trainer["epochs"]) == ("cpu", None, 2)


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("name=y", "init_from"),
        ("init_from=y", "init_from"),
        ("hydra.job.chdir=true", "init_from"),
        ("optimizer.beta=1", "did you mean"),
        ("optimzer=sgd", "did you mean"),
        ("optimizer.lr", "KEY=VALUE"),
    ],
)
def test_what_is_no_setting_of_the_run_is_refused(word: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=word.replace(".", r"\.").partition("=")[0]) as error:
        with_overrides(stored(), [word])
    assert remedy in str(error.value)


def images(folder: Path, count: int) -> None:
    for number in range(count):
        save(folder / f"{number}.png", noise(number, 20, 20))


@pytest.fixture
def project(train, workplace: Path) -> Path:
    """A run on a relative folder of images, in ``project``; the current folder is another one, ``elsewhere``."""
    project, elsewhere = workplace / "project", workplace / "elsewhere"
    elsewhere.mkdir()
    images(project / "pics", 5)
    os.chdir(project)
    train("run", "data=single", "data.root=pics", "data.num_workers=0", "trainer.steps=2")
    os.chdir(elsewhere)
    return project


@pytest.mark.parametrize("how", ["absolute", "relative", "moved", "from the inside", "copied run", "by name"])
def test_a_run_resumes_from_any_folder(how: str, project: Path, capsys) -> None:
    run = project / "checkpoints" / "run"
    if how == "moved":
        run = project.rename(project.with_name("renamed")) / "checkpoints" / "run"
    if how == "copied run":
        run = Path(shutil.copytree(run, "archive/copy"))
    if how == "from the inside":
        os.chdir(run)
    if how == "by name":
        os.chdir(project)
    word = {"relative": os.path.relpath(run), "from the inside": ".", "by name": "run"}.get(how, str(run))
    before = Path.cwd()
    assert main(["resume", word, "trainer.steps=3"]) == 0
    assert Path.cwd() == before
    page = capsys.readouterr().err.splitlines()[-1].removeprefix("Page: ")
    assert Path(page).samefile(run / "index.html")
    assert (run / "step_3.pt").exists()
    assert not Path("checkpoints").exists() or how == "by name"


def test_a_typed_folder_is_relative_to_where_it_was_typed(project: Path) -> None:
    images(Path("more"), 7)
    assert main(["resume", str(project / "checkpoints/run"), "trainer.steps=3", "data.root=more"]) == 0
    os.chdir(project)
    assert newest("run")["images"] == 7
    assert main(["resume", "run", "trainer.steps=4"]) == 0  # The new folder is recorded.


@pytest.mark.parametrize("arguments", [["resume=checkpoints/rn"], ["resume=run/step_1.pt"], ["resume=none"]])
def test_a_run_that_does_not_exist_is_refused(arguments: list[str], train, capsys) -> None:
    train("run", "trainer.steps=1")
    capsys.readouterr()
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert arguments[0] in error
    assert "checkpoints/run" in error


@pytest.mark.parametrize("flag", ["-m", "--cfg=job"])
def test_flags_of_hydra_are_refused(flag: str, capsys) -> None:
    assert main(["train", "resume=checkpoints/x", flag]) == 2
    assert flag in capsys.readouterr().err


def test_a_dry_run_of_a_run_writes_nothing(train, capsys) -> None:
    train("run", "trainer.steps=1")
    assert main(["resume", "run", "dry_run=true", "trainer.steps=5"]) == 0
    assert "trainer.steps=5" in capsys.readouterr().out
    assert newest("run")["step"] == 1


def test_plugins_are_imported_only_if_they_are_typed_again(train, workplace: Path, capsys, monkeypatch) -> None:
    (workplace / "my_plugin.py").write_text("print('imported')")
    monkeypatch.syspath_prepend(workplace)
    train("run", "trainer.steps=1", "plugins=[my_plugin]")
    for arguments, imported in ([], False), (["plugins=[my_plugin]"], True), (["trust_plugins=true"], True):
        sys.modules.pop("my_plugin", None)
        capsys.readouterr()
        assert main(["resume", "run", "trainer.steps=2", *arguments]) == (0 if imported else 2)
        output = capsys.readouterr()
        assert ("imported" in output.out) == imported
        assert imported or "plugins=[my_plugin]" in output.err
    sys.modules.pop("my_plugin", None)


def test_help_is_printed(capsys) -> None:
    assert main(["resume", "--help"]) == 0
    assert "gantrain resume" in capsys.readouterr().out


def test_the_same_command_still_resumes(train) -> None:
    train("run", "trainer.steps=1")
    assert main(["resume", "run", "trainer.steps=2", "optimizer.lr=1e-3"]) == 0
    command = ["train", *TINY, "name=run", "optimizer.lr=1e-3"]
    assert main([*command, "trainer.steps=3"]) == 0
    assert [segment["step"] for segment in newest("run")["segments"]] == [0, 1, 2]
