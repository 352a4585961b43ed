"""The choice of loggers, and the base class of plug-ins."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from needs import needs
from PIL import Image

from gantrain.cli.main import main
from gantrain.registry import LOGGERS
from gantrain.report.loggers import Logger
from gantrain.report.loggers.csv import CsvLogger


@pytest.mark.parametrize("name", ["tensorboard", "visdom", "wandb", "mlflow"])
def test_a_missing_package_is_an_error_with_the_install_command(name: str, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["train", *TINY, f"logger={name}"]) == 2
    message = capsys.readouterr().err
    assert f"pip install 'gantrain[{name}]'" in message
    assert message.count("\n") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("logger=cvs", ["logger=cvs", "'csv'"]),
        ("logger=[csv,mlfow]", ["logger=[mlfow]", "'mlflow'"]),
        ("logger=csv,visdom", ["--multirun", "logger=[csv,visdom]"]),
        ("logger.visdom.port=1", ["logger.visdom.port=1", "logger=visdom"]),
        ("logger=visdom logger.visdom.prt=1", ["logger.visdom.prt=1", "'logger.visdom.port'"]),
        ("+logger.csv=true", ["logger.csv=True", "logger=NAME", "mlflow"]),
        ("+logger.x={{name: cvs}}", ["logger.x.name=cvs", "'csv'"]),
        ("logger=csv +logger.csv.folder=x", ["logger.csv.folder"]),
    ],
)
def test_a_wrong_choice_is_an_error_of_one_line(typed: str, message: list[str], capsys) -> None:
    words = typed.replace("{{", "{").replace("}}", "}").split(" ", 1 if "{" not in typed else 0)
    assert main(["train", *TINY, "trainer.steps=1", *words]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for part in message:
        assert part in message


def test_several_loggers_or_none_can_be_chosen(train) -> None:
    needs("tensorboard")
    train("both", "logger=[csv,tensorboard]", "trainer.steps=2")
    assert Path("checkpoints/both/losses.csv").exists()
    assert len(list(Path("checkpoints/both").glob("events.*"))) == 1
    train("neither", "logger=none", "trainer.steps=2")
    assert not Path("checkpoints/neither/losses.csv").exists()


def test_a_failing_constructor_is_an_error_of_one_line(monkeypatch, capsys) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no server\nat all")

    monkeypatch.setattr(CsvLogger, "__init__", fail)
    assert main(["train", *TINY, "logger=csv"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("gantrain: logger.csv can't be created: RuntimeError: no server")
    assert message.count("\n") == 1
    assert not Path("checkpoints").exists()


def test_a_logger_of_a_plug_in_is_one_class(capsys) -> None:
    Path("my_logger.py").write_text(
        "from pathlib import Path\n"
        "from gantrain.registry import LOGGERS\n"
        "from gantrain.report.loggers import Logger\n"
        "@LOGGERS.register('diary')\n"
        "class Diary(Logger):\n"
        "    'Writes a diary.'\n"
        "    def __init__(self, *, greeting: str, run: str):\n"
        "        self.start = f'{greeting} {run}'\n"
        "    def scalars(self, step, values):\n"
        "        Path('diary.txt').write_text(f'{self.start}: {step} {sorted(values)}')\n"
    )
    Path("conf/logger").mkdir(parents=True)
    Path("conf/logger/diary.yaml").write_text("# @package logger.diary\nname: diary\ngreeting: dear\n")
    typed = [*TINY, "--config-dir", "conf", "plugins=[my_logger]", "logger=[csv,diary]", "trainer.steps=1", "name=run"]
    try:
        assert main(["train", *typed]) == 0
    finally:
        LOGGERS._classes.pop("diary", None)
        sys.modules.pop("my_logger", None)
    assert Path("diary.txt").read_text() == "dear run: 1 ['d_fake', 'd_real', 'g', 'lr_discriminator', 'lr_generator']"


def test_a_logger_with_the_old_method_picture_gets_images() -> None:
    with pytest.warns(DeprecationWarning, match=r"Old\.picture is now image"):

        class Old(Logger):
            def picture(self, step: int, name: str, image: Image.Image) -> None:
                self.call = step, name

    old = Old()
    old.image(3, "samples", Image.new("L", (1, 1)))
    assert old.call == (3, "samples")
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class New(Old):
            def image(self, step: int, name: str, image: Image.Image) -> None:
                self.call = step, f"new {name}"

    new = New()
    new.image(4, "samples", Image.new("L", (1, 1)))
    assert new.call == (4, "new samples")
