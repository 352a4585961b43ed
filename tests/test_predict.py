"""``gantrain predict``: a trained model applied to images."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_mentions
from image_folders import contents, files, noise, save
from needs import needs
from PIL import Image
from translated import image, pixels, refused, weights_file

import gantrain
from gantrain import predict
from gantrain.cli.main import main
from gantrain.config import extras
from gantrain.errors import ConfigError
from gantrain.inference.model import Model
from gantrain.inference.video import open_video, write_animation

CPU = "accelerator=cpu"


def photos() -> None:
    """Images of three sizes, with a name that occurs twice, in sub-folders."""
    image("photos/1.jpg", 40, 36)
    image("photos/1.png", 40, 36)
    image("photos/deep/er/2.png", 33, 47, "L")
    image("photos/deep/3.png", 40, 36)
    image("photos/4.webp", 33, 47)


def test_a_folder_keeps_its_tree_names_and_sizes_and_equals_gantrain_test(trained) -> None:
    run = trained("pix2pix")  # With dropout and batch norm.
    photos()
    assert main(["predict", f"run={run}", "source=photos", "out=mine", CPU]) == 0
    assert files("mine") == {"1.png", "1_png.png", "deep/er/2.png", "deep/3.png", "4.png"}
    for name in files("mine"):
        made = Image.open(f"mine/{name}")
        assert (made.mode, made.size) == ("RGB", (47, 33) if name in ("deep/er/2.png", "4.png") else (36, 40))
    assert main(["test", f"run={run}", "data=single", "data.root=photos", "out=results", CPU]) == 0
    for name in files("mine"):
        difference = pixels(f"mine/{name}").astype(int) - pixels(f"results/fake_b/{name}")
        assert np.abs(difference).max() <= 1, name  # Batches of other sizes are rounded otherwise.


def test_nothing_is_overwritten_unless_requested(trained, capsys) -> None:
    run = trained("cyclegan")
    image("photos/1.png", 32, 32)
    image("photos/2.png", 32, 32)
    command = ["predict", f"run={run}", "source=photos", "out=mine", CPU]
    save("mine/2.png", noise(1))
    before = contents("mine")
    assert_mentions(refused(capsys, *command), "mine/2.png", "overwrite=true", "out=mine")
    assert contents("mine") == before
    assert main([*command, "overwrite=true"]) == 0
    assert pixels("mine/2.png").shape == (32, 32, 3)
    assert_mentions(refused(capsys, *command[:-2], "out=photos", "overwrite=true", CPU), "out=photos", "photos/1.png")


def test_unreadable_images_are_listed_and_the_others_are_translated(trained, capsys) -> None:
    run = trained("cyclegan")
    image("photos/1.png", 32, 32)
    Path("photos/2.png").write_bytes(Path("photos/1.png").read_bytes()[:300])
    Path("photos/3.jpg").write_text("no image")
    np.save("photos/4.npy", np.zeros((32, 32, 5), np.uint8))
    np.save("photos/5.npy", np.zeros((32, 32, 3), np.float32))
    capsys.readouterr()
    assert main(["predict", f"run={run}", "source=photos", "out=mine", CPU]) == 1
    shown = capsys.readouterr().err
    assert files("mine") == {"1.png"}
    assert_mentions(
        shown, "photos/2.png", "photos/3.jpg", "4.npy has 5 channels", "the model takes 3", "5.npy is of float"
    )
    assert "1 of 5 images" in shown


def test_a_pattern_and_a_file_are_sources_of_bare_weights(capsys) -> None:
    photos()
    weights_file("G.pth", "resnet", "instance")
    command = ["predict", "weights=G.pth", CPU]
    assert main([*command, "source=photos/**/*.png", "out=some"]) == 0
    assert files("some") == {"1.png", "deep/er/2.png", "deep/3.png"}
    assert main([*command, "source=photos/deep/3.png", "out=one", "direction=b_to_a"]) == 0
    assert contents("one") == {"3.png": contents("some")["deep/3.png"]}
    made = gantrain.load("G.pth")(Image.open("photos/deep/3.png"))
    assert np.array_equal(np.asarray(made), pixels("one/3.png"))
    assert_mentions(refused(capsys, *command, "source=photos/*.tif", "out=x"), "source=photos/*.tif", "no image")
    assert_mentions(refused(capsys, *command, "source=nowhere", "out=x"), "source=nowhere", "folder")
    assert_mentions(refused(capsys, *command, "source=photos"), "out is missing", "out=FOLDER")
    assert_mentions(refused(capsys, *command, "out=x"), "source is missing", "source=IMAGE")
    assert_mentions(refused(capsys, "predict", "weights=no.pth", "source=photos", "out=x"), "weights=no.pth")
    assert_mentions(refused(capsys, "predict", "source=photos", "out=x"), "run is missing", "run=checkpoints/NAME")
    assert_mentions(refused(capsys, *command, "source=photos", "out=x", "step=3"), "step=3", "run=checkpoints/NAME")
    assert not Path("x").exists()


def test_several_devices_translate_in_turns_with_the_same_results(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for number in range(5):
        image(f"photos/{number}.png", 33, 30)
    weights_file("G.pth", "resnet", "instance")
    command = ["predict", "weights=G.pth", CPU, "source=photos", "batch_size=1"]
    assert_mentions(refused(capsys, *command, "out=x", "devices=2"), "devices=2", "at most 1")
    assert main([*command, "out=one"]) == 0
    monkeypatch.setattr(predict, "_devices", lambda settings: [torch.device("cpu")] * 3)
    used: list[int] = []
    translate = Model.translate_pixels
    monkeypatch.setattr(
        Model, "translate_pixels", lambda self, *a, **k: used.append(id(self)) or translate(self, *a, **k)
    )
    assert main([*command, "out=three"]) == 0
    assert len(set(used)) == 3
    assert contents("three") == contents("one")
    monkeypatch.setattr(Model, "translate_pixels", lambda *a, **k: (_ for _ in ()).throw(ConfigError("it fails")))
    assert "it fails" in refused(capsys, *command, "out=four")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_close_to_full_precision(precision: str) -> None:
    image("photo.png", 40, 36)
    weights_file("G.pth", "resnet", "instance")
    command = ["predict", "weights=G.pth", CPU, "source=photo.png"]
    assert main([*command, "out=full"]) == 0
    assert main([*command, "out=half", f"precision={precision}"]) == 0
    difference = np.abs(pixels("full/photo.png").astype(int) - pixels("half/photo.png"))
    assert 0 < difference.max() < 20
    assert difference.mean() < 3


# ---- other sources


class Streams:
    """Standard input and output of bytes."""

    def __init__(self, content: bytes) -> None:
        self.buffer = BytesIO(content)

    def isatty(self) -> bool:
        return False


def test_an_image_on_standard_input_is_translated_to_standard_output(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    image("photo.png", 40, 36)
    weights_file("G.pth", "resnet", "instance")
    command = ["predict", "weights=G.pth", CPU, "source=-"]
    content = Path("photo.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", Streams(content))
    assert main([*command, "out=made.png"]) == 0
    monkeypatch.setattr(sys, "stdin", Streams(content))
    output = Streams(b"")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        assert main([*command, "out=-"]) == 0
    assert output.buffer.getvalue() == Path("made.png").read_bytes()
    wanted = gantrain.load("G.pth")(Image.open("photo.png"))
    assert np.array_equal(pixels("made.png"), np.asarray(wanted))
    monkeypatch.setattr(sys, "stdin", Streams(b"no image"))
    assert main([*command, "out=other.png"]) == 1
    assert "standard input" in capsys.readouterr().err
    assert not Path("other.png").exists()
    image("photos/1.png", 32, 32)
    image("photos/2.png", 32, 32)
    message = refused(capsys, "predict", "weights=G.pth", CPU, "source=photos", "out=-")
    assert_mentions(message, "out=-", "single image", "out=FOLDER")
    message = refused(capsys, "predict", "weights=G.pth", CPU, "source=photo.png", "out=made.npy")
    assert_mentions(message, "out=made.npy", ".png")


def test_a_stack_becomes_a_stack(capsys) -> None:
    weights_file("G.pth", "resnet", "instance", outputs=1)
    stack = np.stack([noise(seed, 20, 24) for seed in range(5)])
    np.save("stack.npy", stack)
    command = ["predict", "weights=G.pth", CPU, "source=stack.npy", "batch_size=2"]
    assert main([*command, "out=mine"]) == 0
    made = np.load("mine/stack.npy")
    assert (made.shape, made.dtype) == ((5, 20, 24), np.uint8)
    gan = gantrain.load("G.pth")
    for number in range(5):
        assert np.abs(made[number].astype(int) - gan(stack[number])).max() <= 1
    assert files("mine") == {"stack.npy"}
    assert_mentions(refused(capsys, *command, "out=mine"), "out=mine", "mine/stack.npy", "overwrite=true")
    assert_mentions(refused(capsys, *command, "out=stack.npy", "overwrite=true"), "out=stack.npy", "replace")


def test_a_video_becomes_a_video(monkeypatch: pytest.MonkeyPatch, trained, capsys) -> None:
    weights_file("G.pth", "resnet", "instance", outputs=1)
    Path("film.mp4").write_bytes(b"no video")
    command = ["predict", "weights=G.pth", CPU]
    with monkeypatch.context() as patch:
        patch.setattr(extras, "find_spec", lambda name: None)
        message = refused(capsys, *command, "source=film.mp4", "out=x")
        assert_mentions(message, "film.mp4", "pip install 'gantrain[video]'")
        walk = ["predict", f"run={trained('dcgan')}", CPU, "num=2", "interpolate=3", "animation=mp4", "out=x"]
        assert_mentions(refused(capsys, *walk), "animation=mp4", "pip install 'gantrain[video]'")
    assert not Path("x").exists()
    needs("av")
    assert_mentions(refused(capsys, *command, "source=film.mp4", "out=x"), "source=film.mp4", "can't read this video")
    ramp = np.linspace(0, 200, 64)[None, :, None] + np.zeros((48, 1, 3))
    frames = [(ramp + 10 * number).astype(np.uint8) for number in range(6)]
    write_animation(Path("film.mp4"), map(Image.fromarray, frames), 25)
    assert main([*command, "source=film.mp4", "out=mine", "batch_size=4"]) == 0
    made = open_video(Path("mine/film.mp4"))
    assert made.fps == 25
    found = list(made.frames)
    gan = gantrain.load("G.pth")
    assert len(found) == 6
    for frame, translated in zip(open_video(Path("film.mp4")).frames, found, strict=True):
        assert np.abs(gan(frame)[..., None].astype(int) - translated).mean() < 4


# ---- exported models


@pytest.mark.parametrize(("model", "file"), [("cgan", "one"), ("cyclegan", "one.safetensors")])
def test_exported_models_give_the_results_of_the_run(model: str, file: str, trained) -> None:
    run = trained(model)
    image("photos/1.png", 33, 30)
    image("photos/2.png", 32, 32)
    keys = ["num=4", "labels=[2,1]", "seed=5"] if model == "cgan" else ["source=photos", "direction=b_to_a"]
    assert main(["export", f"run={run}", f"format={Path(file).suffix[1:] or 'hub'}", f"out={file}"]) == 0
    assert main(["predict", f"run={run}", "out=of_run", *keys, CPU]) == 0
    assert main(["predict", f"weights={file}", "out=of_file", *keys, CPU]) == 0
    assert files("of_file") == files("of_run")
    for name in files("of_file"):
        assert np.abs(pixels(f"of_file/{name}").astype(int) - pixels(f"of_run/{name}")).max() <= 1
