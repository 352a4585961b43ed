"""``gantrain test`` and ``gantrain.load``, which need only the folder of a run."""

from __future__ import annotations

import html.parser
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MODELS, TINY
from pages import data_of, lines_of
from PIL import Image, ImageChops

import gantrain
from gantrain.cli.main import main
from gantrain.errors import ConfigError
from gantrain.inference import sample as sampling
from gantrain.models.base import LatentGAN
from gantrain.report.images import grid


class Links(html.parser.HTMLParser):
    """The images in the source of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.images: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += [value for key, value in attrs if tag == "img" and key == "src" and value]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_tested_with_no_flag_repeated(model: str, train) -> None:
    train("run", f"model={model}", "trainer.steps=2", "model.ema=0.5", "model.ema_rampup=0", "data.load_size=32")
    run = Path("checkpoints/run")
    shown = lines_of(run, "images")
    assert shown
    for image in shown:
        whole = tuple(
            image[lines] * (image[side] + 2) + 2 for lines, side in (("columns", "width"), ("rows", "height"))
        )
        assert Image.open(run / image["url"]).size == whole
    shutil.move(run, "elsewhere")
    assert main(["test", "run=elsewhere", "num=20"]) == 0
    page = Path("elsewhere/results/test_2/index.html")
    results = data_of(page.parent, "results")
    (table,) = results["tables"]
    singles = sorted((page.parent / "samples").glob("*.png"))
    assert len(singles) == 20
    assert [page.parent / url for _, (url,), *_ in table["rows"]] == singles
    walk = results["interpolation"]
    assert Image.open(page.parent / walk["url"]).size == (10 * 34 + 2, 5 * 34 + 2)
    assert (walk["columns"], walk["rows"], walk["width"], walk["height"], walk["gap"]) == (10, 5, 32, 32, 2)
    grids = Links(page).images
    assert grids == [f"training_{line['what']}.png" for line in shown if line["step"] == 2]
    for image in ("grid.png", walk["url"], *grids):
        with Image.open(page.parent / image) as opened:
            assert opened.getextrema() != (0, 0)  # It is not black.
    assert {Image.open(single).size for single in singles} == {(32, 32)}
    assert "moving average" in page.read_text()
    assert ("accuracy" in page.read_text()) == (model == "sgan")


def test_labels_choose_the_classes(trained) -> None:
    run = trained("cgan")
    assert main(["test", f"run={run}", "num=5", "labels=[3,7]", "out=mine"]) == 0
    names = sorted(path.name for path in Path("mine/samples").iterdir())
    assert names == ["00000_3.png", "00001_3.png", "00002_3.png", "00003_7.png", "00004_7.png", "00005_7.png"]
    assert not (run / "results").exists()


def test_without_labels_every_class_is_a_row(trained) -> None:
    run = trained("cgan")
    assert main(["test", f"run={run}", "num=40", "out=mine"]) == 0
    assert main(["test", f"run={run}", "num=25", "out=mine"]) == 0  # This replaces the other samples.
    names = sorted(path.name for path in Path("mine/samples").iterdir())
    assert len(names) == 30
    labels = [label for *_, label in data_of("mine", "results")["tables"][0]["rows"]]
    assert labels == [str(number) for number in range(10) for _ in range(3)]
    assert names[0].endswith("_0.png")
    assert names[-1].endswith("_9.png")
    assert Image.open("mine/grid.png").size == (3 * 18 + 2, 10 * 18 + 2)


def test_a_failed_call_does_not_change_earlier_samples(trained, monkeypatch, capsys) -> None:
    test = ["test", f"run={trained('dcgan')}", "out=mine"]
    assert main([*test, "num=3"]) == 0
    before = {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "_interpolations", lambda *_: (_ for _ in ()).throw(ConfigError("no more")))
        assert main([*test, "num=5"]) == 2
    assert {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()} == before
    assert not Path("mine.part").exists()
    capsys.readouterr()
    assert main([*test, "num=3"]) == 0
    assert "replacing" not in capsys.readouterr().err
    assert main([*test, "num=2"]) == 0
    assert "gantrain test run=checkpoints/dcgan out=mine num=3" in capsys.readouterr().err
    assert len(list(Path("mine/samples").iterdir())) == 2


def test_other_data_adds_its_name_to_the_folder(trained) -> None:
    run = trained("sgan")
    images = Path("images")
    for number in range(10):
        (images / str(number)).mkdir(parents=True)
        Image.new("L", (16, 16), number * 20).save(images / str(number) / "a.png")
    other = ["data=single", "data.root=images", "data.channels=1", "data.load_size=16"]
    assert main(["test", f"run={run}", "num=10", *other]) == 0
    assert (run / "results/test_1_single_images/index.html").exists()
    assert main(["test", f"run={run}", "num=10", "data=digits", "data.load_size=16"]) == 0
    assert (run / "results/test_1/index.html").exists()


def test_load_returns_the_trained_or_the_averaged_generator(train) -> None:
    state = train("run", "trainer.steps=3", "model.ema=0.5", "model.ema_rampup=0")
    last = gantrain.load("checkpoints/run", network_weights="last")
    average = gantrain.load("checkpoints/run")
    key = "layers.0.weight"
    assert torch.equal(last.generator.state_dict()[key], state["model"][f"generator.{key}"])
    assert torch.equal(average.generator.state_dict()[key], state["updates"]["averages"][f"0.{key}"])
    assert not torch.equal(last.generator.state_dict()[key], average.generator.state_dict()[key])
    images = average.sample(average.latents(3, seed=1))
    assert images.shape == (3, 1, 16, 16)
    assert images.abs().max() <= 1
    assert not images.requires_grad
    torch.testing.assert_close(
        images[:1], average.sample(average.latents(3, seed=1)[:1])
    )  # Images do not depend on each other.


def test_the_images_on_the_page_are_those_of_the_loaded_model(train) -> None:
    train("run", "model=cgan", "trainer.steps=2", "model.ema=0.5", "model.ema_rampup=0")
    model = gantrain.load("checkpoints/run")
    on_page = Image.open("checkpoints/run/images/step_2_samples.png")
    again = grid(model.visuals({})["samples"], 10)
    assert on_page.tobytes() == again.tobytes()


def test_load_reports_the_steps_that_exist(train) -> None:
    train("run", "trainer.steps=4", "trainer.save_every=2")
    with pytest.raises(ConfigError, match=r"no step 3 in checkpoints/run \(found: step_2, step_4\)"):
        gantrain.load("checkpoints/run", step=3)


def test_a_checkpoint_with_code_is_refused(trained, capsys) -> None:
    run = trained("dcgan")

    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (Path("owned"),))

    torch.save({"format": 1, "evil": Evil()}, run / "step_9.pt")
    assert main(["test", f"run={run}"]) == 2
    assert "step_9.pt" in capsys.readouterr().err
    assert not Path("owned").exists()


def test_a_checkpoint_of_the_future_is_refused_with_the_remedy(trained, capsys) -> None:
    run = trained("dcgan")
    torch.save({"format": 99}, run / "step_9.pt")
    capsys.readouterr()
    assert main(["train", *TINY, f"name={run.name}"]) == 2
    message = capsys.readouterr().err
    assert "newer gantrain" in message
    assert message.count("\n") == 1


def images_of(model: Any) -> torch.Tensor:
    """Ten, always the same."""
    if isinstance(model.module, LatentGAN):
        return model.sample(model.latents(10, seed=0), torch.arange(10))
    ramps = torch.linspace(-1, 1, 10 * 3 * 20 * 18).view(10, 3, 20, 18)
    return model.translate(ramps, "b_to_a", seeds=range(10))


def test_a_checkpoint_of_every_format_generates_the_same_images() -> None:
    formats = sorted((Path(__file__).parent / "checkpoints").glob("format_*"))
    assert [path.name for path in formats] == [
        "format_1",
        "format_2",
        "format_3",
        "format_4",
        "format_5",
        "format_6",
        "format_7",
        "format_8",
        "format_9",
    ]
    for run in formats:
        again = grid(images_of(gantrain.load(run)), 10)
        stored = Image.open(run / "samples.png")
        # Another machine may round a pixel the other way.
        assert max(ImageChops.difference(again, stored).convert("L").getextrema()) <= 1


def test_metrics_are_computed_without_the_images_that_the_run_skips(train, capfd) -> None:
    for name in ("train/a/1", "train/b/2", "test/a/1", "test/b/2", "test/b/3"):
        path = Path("photos") / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), 100 * int(name[-1]) // 2).save(path)
    path.write_bytes(b"")
    keys = ["data.load_size=32", "data.on_error=skip", "trainer.steps=1"]
    train("run", "model=sgan", "data=single", "data.root=photos", *keys)
    capfd.readouterr()
    assert main(["test", "run=checkpoints/run", "num=4"]) == 0
    assert "accuracy" in (Path("checkpoints/run/results") / "test_1/index.html").read_text()
    assert capfd.readouterr().err.count("photos/test/b/3.png") == 1
