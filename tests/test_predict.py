"""``gantrain predict``: a trained model applied to images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import assert_mentions
from image_folders import contents, files, noise, save
from PIL import Image
from translated import image, pixels, refused, weights_file

import gantrain
from gantrain.cli.main import main

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
    assert_mentions(refused(capsys, *command), "mine/2.png", "overwrite=true", "out=FOLDER")
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
