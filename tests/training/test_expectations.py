"""What a run lacks in comparison with usual ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from conftest import TINY, newest
from PIL import Image
from translated import image

from gantrain.cli.main import main
from gantrain.models.base import GAN
from gantrain.training.expectations import mirroring


@pytest.fixture
def photos() -> Path:
    for number in range(8):
        image(Path(f"photos/{number}.png"), 16, 16)
    return Path("photos")


def dry_run(capsys: pytest.CaptureFixture[str], *overrides: str) -> list[str]:
    assert main(["train", *TINY, "data.num_workers=0", "dry_run=true", *overrides]) == 0
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("usual")]


@pytest.mark.parametrize(
    ("length", "drawn"),
    [
        ("trainer.steps=500", "2.0 thousand"),  # Of batches of 4.
        ("trainer.epochs=1000", "8.0 thousand"),
        ("trainer.kimg=999", "999.0 thousand"),
    ],
)
def test_a_dry_run_says_that_a_run_is_short(
    photos: Path, capsys: pytest.CaptureFixture[str], length: str, drawn: str
) -> None:
    short, few = dry_run(capsys, "data=single", f"data.root={photos}", length)
    assert drawn in short
    assert "trainer.kimg=1000" in short
    assert few.split()[1:3] == ["8", "images"]


def test_each_critic_update_draws_images(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short, _ = dry_run(capsys, "model=wgan_gp", "data=single", f"data.root={photos}", "trainer.steps=500")
    assert "10.0 thousand" in short  # Five critic updates with a batch of 4 each.


@pytest.mark.parametrize("length", ["trainer.kimg=1000", "trainer.steps=250000", "trainer.epochs=125000"])
def test_a_usual_length_is_not_mentioned(photos: Path, capsys: pytest.CaptureFixture[str], length: str) -> None:
    (few,) = dry_run(capsys, "data=single", f"data.root={photos}", length)
    assert "images are few" in few


def test_the_data_that_comes_with_the_package_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run(capsys, "trainer.steps=1") == []


def test_a_translator_needs_fewer_images(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colorization = [
        "model=colorization",
        "data=single",
        f"data.root={photos}",
        "data.load_size=32",
        "data.crop_size=32",
    ]
    (short,) = dry_run(capsys, *colorization, "trainer.kimg=79")
    assert "trainer.kimg=80" in short
    assert dry_run(capsys, *colorization, "trainer.kimg=80") == []


def test_the_start_and_the_page_of_a_run_say_so_too(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["data=single", f"data.root={photos}", "data.num_workers=0", "trainer.steps=1", "name=short"]
    assert main(["train", *TINY, *overrides]) == 0
    assert "trainer.kimg=1000" in capsys.readouterr().err
    assert "trainer.kimg=1000" in Path("checkpoints/short/index.html").read_text()


@pytest.mark.parametrize(("count", "times"), [(1, "the only image of the data set about 4 times"), (3, "about 1.33")])
def test_a_set_smaller_than_a_batch_trains_with_a_warning(
    photos: Path, capsys: pytest.CaptureFixture[str], count: int, times: str
) -> None:
    typed = ["data=single", f"data.root={photos}", f"data.max_size={count}", "name=run"]
    assert main(["train", *TINY, *typed, "trainer.steps=2"]) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert "data.batch_size=4: " in warning
    assert times in warning
    assert f"data.batch_size={count} " in warning
    assert newest("run")["step"] == 2
    assert main(["train", *TINY, *typed, "trainer.steps=2", f"data.batch_size={count}", "dry_run=true"]) == 0
    assert "warning" not in "".join(capsys.readouterr())


def test_images_of_any_sides_train_and_are_tested(capsys: pytest.CaptureFixture[str]) -> None:
    image(Path("wide/1.png"), 24, 36)
    tiny = [word for word in TINY if "load_size" not in word]
    typed = ["data=single", "data.root=wide", "data.batch_size=1", "trainer.steps=1"]
    dcgan = ["data.load_size=[24,36]", "data.crop_size=[20,36]"]
    mlp = ["data.load_size=[13,7]", "data.crop_size=[13,7]", "network/generator=mlp", "network/discriminator=mlp"]
    for name, sides, sizes in (("dcgan", (20, 36), dcgan), ("mlp", (13, 7), mlp)):
        assert main(["train", *tiny, *typed, *sizes, f"name={name}"]) == 0
        assert main(["test", f"run={name}", "num=2"]) == 0
        results = Path(f"checkpoints/{name}/results/test_1/samples")
        made = [Image.open(path).size[::-1] for path in results.rglob("*.png")]
        assert made
        assert set(made) == {sides}


def test_inputs_that_alone_are_mirrored_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["network.width=2", "data.batch_size=1", "data.num_workers=0", "trainer.steps=1", "model.num_patches=4"]
    assert main(["train", "model=fastcut", "data=digits2stripes", "data.flip=false", *small]) == 0
    assert "model.flip_equivariance=true mirrors" in capsys.readouterr().err
    for flip, equivariant in ((True, True), (False, False), (True, False)):
        model = cast(GAN, SimpleNamespace(flip_equivariance=equivariant))
        assert mirroring(model, flip=flip) == []
