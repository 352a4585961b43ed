"""``gantrain test`` of models that translate: the images that it makes, and refused arguments."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_same_bits, newest, stop_after
from pages import lines_of
from PIL import Image
from torch import Tensor
from translated import (
    COLOUR,
    CPU,
    KINDS_A,
    KINDS_B,
    RESNET,
    SIZES,
    SPREAD,
    Reader,
    bits,
    expected,
    files,
    image,
    layout,
    linked,
    pixels,
    refused,
    resnet_by_hand,
    rounded,
    unet_by_hand,
    unit,
)

import gantrain
from gantrain.cli.main import main
from gantrain.networks.resnet import ResnetGenerator


def test_cyclegan_trains_on_folders_and_resumes_bit_identically(monkeypatch) -> None:
    layout(Path("made"), 256, trainA=5, trainB=3, testA=2, testB=3)
    # The pool is full from the third step on, after which it returns random images.
    command = ["train", "model=cyclegan", "data=horse2zebra", "data.root=made", *SIZES, *RESNET, "model.pool_size=2"]
    command += ["trainer.steps=4", "trainer.image_every=2"]
    assert main([*command, "name=whole"]) == 0
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        assert main([*command, "name=cut"]) == 130
    assert newest("cut")["step"] == 3
    assert main([*command, "name=cut"]) == 0
    whole, cut = newest("whole"), newest("cut")
    for key in ("step", "position", "model", "updates", "ranks"):
        assert_same_bits(cut[key], whole[key], key)
    assert len(whole["model"]["pool_a._extra_state"]) == len(whole["model"]["pool_b._extra_state"]) == 2
    run = Path("checkpoints/whole")
    shown = lines_of(run, "images")
    assert [line["step"] for line in shown] == [2, 4]
    assert lines_of("checkpoints/cut", "images") == shown  # The interrupted run logged the same images.
    for line in shown:
        assert line["kinds"] == Path(line["url"]).stem.split("_", 2)[2].split("-")
        preview = Image.open(run / line["url"])
        assert preview.size == (8 * 34 + 2, 3 * 34 + 2)  # Eight kinds of three items each, as in the larger test set.
        tiles = [preview.crop((2 + 34 * x, 2, 34 + 34 * x, 34)) for x in range(8)]
        assert all(low < high for tile in tiles for low, high in tile.getextrema())


def test_cyclegan_translates_every_image_in_both_directions(trained) -> None:
    run = trained("cyclegan")
    root = Path(newest("cyclegan")["config"]["data"]["root"])
    assert main(["test", f"run={run}", "accelerator=cpu"]) == 0
    results = run / "results/test_2"
    names = {KINDS_A: [f"n65_{n}" for n in range(5)], KINDS_B: [f"n66_{n}" for n in range(3)]}
    assert files(results) == linked(results) == expected(names)
    page = Reader(results / "index.html").words
    assert "5 a_to_b, 3 b_to_a" in page
    assert "mean absolute error" not in page  # There are no pairs.
    gan = gantrain.load(run)
    for source, target, name in (("a", "b", "n65_4"), ("b", "a", "n66_2")):
        original = Image.open(root / f"test{source.upper()}/{name}.jpg")
        assert original.size == (32, 32)
        real = unit(root / f"test{source.upper()}/{name}.jpg").float()
        there, back = (gan.generator_ab, gan.generator_ba)[:: 1 if source == "a" else -1]
        fake = there(real)
        made = {f"real_{source}": real, f"fake_{target}": fake, f"rec_{source}": back(fake)}
        made[f"idt_{target}"] = back(real)
        for kind, result in made.items():
            assert np.abs(pixels(results / kind / f"{name}.png").astype(int) - rounded(result)).max() <= 1, kind


@pytest.mark.parametrize(("mode", "together"), [("train", {1}), ("eval", {3, 2})])
def test_images_are_translated_one_by_one_in_train_mode(mode: str, together: set[int], trained, monkeypatch) -> None:
    run, found, forward = trained("cyclegan"), set(), ResnetGenerator.forward

    def watched(self: ResnetGenerator, image: Tensor) -> Tensor:
        found.add(len(image))
        return forward(self, image)

    monkeypatch.setattr(ResnetGenerator, "forward", watched)
    how = ["direction=a_to_b", "batch_size=3", f"network_mode={mode}", "accelerator=cpu"]
    assert main(["test", f"run={run}", *how]) == 0
    assert found == together


def test_load_translates_images_of_any_size_both_ways(trained) -> None:
    gan = gantrain.load(trained("cyclegan"))
    assert not gan.training
    assert {weight.device.type for weight in gan.parameters()} == {"cpu"}
    torch.manual_seed(0)
    for height, width in ((32, 32), (33, 47), (5, 3), (64, 20)):
        image = torch.rand(2, 3, height, width) * 2 - 1
        made = {way: gan.translate(image, way) for way in ("a_to_b", "b_to_a")}
        for result in made.values():
            assert result.shape == image.shape
            assert 0.05 < result.abs().max() <= 1
            assert not result.requires_grad
        assert not torch.equal(made["a_to_b"], made["b_to_a"])
    # Images are padded by mirroring to multiples of four, and results are cropped.
    image = torch.rand(1, 3, 33, 46) * 2 - 1
    whole = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (0, 0), (0, 3), (0, 2)), mode="symmetric"))
    torch.testing.assert_close(gan.translate(image, "b_to_a"), gan.generator_ba(whole)[..., :33, :46])


def test_a_run_with_averages_translates_with_them() -> None:
    layout(Path("made"), trainA=2, trainB=2)
    command = ["model=cyclegan", "data=unaligned", "data.root=made", *SIZES, *RESNET, "model.ema=0.5"]
    command += ["model.ema_rampup=0", "name=run"]
    assert main(["train", *command, "trainer.steps=2"]) == 0
    averages, run = newest("run")["updates"]["averages"], "checkpoints/run"
    for number, way in enumerate(("a_to_b", "b_to_a")):
        average = gantrain.load(run).generator_of(way).state_dict()
        last = gantrain.load(run, network_weights="last").generator_of(way).state_dict()
        for key in ("model.1.weight", "model.18.weight"):
            assert torch.equal(average[key], averages[f"{number}.{key}"])
            assert not torch.equal(average[key], last[key])
            assert torch.equal(last[key], newest("run")["model"][f"generator_{way.replace('_to_', '')}.{key}"])
    # Images are translated by either network.
    image("photo.png", 32, 32)
    for choice in ("average", "last"):
        photo = ["data=single", "data.root=photo.png", "direction=a_to_b", f"network_weights={choice}"]
        assert main(["test", f"run={run}", *photo, f"out={choice}", "accelerator=cpu"]) == 0
        made = gantrain.load(run, network_weights=choice).translate(unit("photo.png").float())
        assert np.abs(pixels(f"{choice}/fake_b/photo.png").astype(int) - rounded(made)).max() <= 1
    assert bits("average")["fake_b/photo.png"] != bits("last")["fake_b/photo.png"]
    assert "moving average" in Path("average/index.html").read_text()


def test_pix2pix_shows_and_measures_output_and_target(trained) -> None:
    run = trained("pix2pix")
    state = newest("pix2pix")
    assert main(["test", f"run={run}", "accelerator=cpu", "network_mode=eval"]) == 0
    results = run / "results/test_1"
    names = [str(number) for number in range(7)]
    assert files(results) == linked(results) == expected({("real_a", "fake_b", "real_b"): names})
    page = Reader(results / "index.html").words
    assert "eval: no dropout, batch norm on its running statistics" in page
    generator = {k.removeprefix("generator."): v for k, v in state["model"].items() if k.startswith("generator.")}
    distances = []
    for name in names:
        pair = unit(Path(state["config"]["data"]["root"]) / f"test/{name}.png").float()
        left, right = pair[..., :32], pair[..., 32:]
        # direction=b_to_a: the input is the right half.
        assert np.array_equal(pixels(results / f"real_a/{name}.png"), rounded(right))
        assert np.array_equal(pixels(results / f"real_b/{name}.png"), rounded(left))
        fake = resnet_by_hand(generator, right, blocks=1, training=False)
        assert np.abs(pixels(results / f"fake_b/{name}.png").astype(int) - rounded(fake)).max() <= 1
        distances.append(float((fake - left).abs().mean() / 2))
    measured = float(re.search(r"mean absolute error, a_to_b\s*([\d.]+)", page)[1])
    assert measured == pytest.approx(sum(distances) / 7, abs=1e-4)
    assert measured > 0.05


def test_dropout_noise_depends_only_on_the_name_of_an_image(trained) -> None:
    test = ["test", f"run={trained('pix2pix')}", "accelerator=cpu"]
    assert main([*test, "out=one", "batch_size=1"]) == 0
    assert main([*test, "out=five", "batch_size=5", "seed=1"]) == 0
    assert main([*test, "out=calm", "network_mode=eval"]) == 0
    one, calm = bits("one"), bits("calm")
    assert len(one) == 3 * 7
    assert bits("five") == one
    assert {name for name in one if one[name] != calm[name]} == {f"fake_b/{n}.png" for n in range(7)}
    assert "train: dropout and batch norm as in training" in Reader(Path("one/index.html")).words
    # The same image under three names, and again under one of these among other names.
    for name in ("z", "y", "sub/z"):
        image(f"photos/{name}.png", 32, 32, seed=1)
    photos = ["data=single", "data.root=photos"]
    assert main([*test, *photos, "out=named"]) == 0
    named = bits("named")
    assert len({named[f"fake_b/{name}.png"] for name in ("z", "y", "sub/z")}) == 3
    Path("photos/y.png").rename("photos/a.png")
    assert main([*test, *photos, "out=renamed", "batch_size=2"]) == 0
    assert bits("renamed")["fake_b/z.png"] == named["fake_b/z.png"]


def test_pix2pix_translates_pairs_of_two_folders_by_a_unet() -> None:
    for part, count in (("train", 2), ("test", 3)):
        for number in range(count):
            image(f"pairs/{part}A/{number}.jpg", 64, 64)
            image(f"pairs/{part}B/{number}.png", 64, 64)
    # Six levels, of which the fifth has dropout.
    command = ["model=pix2pix", "data=aligned", "data.root=pairs", "data.load_size=64", "data.crop_size=64", *CPU]
    command += ["network.width=2", *SPREAD, "name=run", "trainer.steps=1"]
    assert main(["train", *command]) == 0
    for out, *how in (["one"], ["again", "batch_size=2"], ["calm", "network_mode=eval"]):
        assert main(["test", "run=checkpoints/run", f"out={out}", "accelerator=cpu", *how]) == 0
    names = {("real_a", "fake_b", "real_b"): ["0", "1", "2"]}
    assert files("one") == linked("one") == expected(names)
    assert bits("one") == bits("again")
    assert bits("one")["fake_b/0.png"] != bits("calm")["fake_b/0.png"]
    for number in range(3):
        assert np.array_equal(pixels(f"one/real_a/{number}.png"), pixels(f"pairs/testA/{number}.jpg"))
        assert np.array_equal(pixels(f"one/real_b/{number}.png"), pixels(f"pairs/testB/{number}.png"))
    # Compare with a forward pass computed from the weights.
    state = {k.removeprefix("generator."): v for k, v in newest("run")["model"].items()}
    by_hand = unet_by_hand(state, unit("pairs/testA/1.jpg").float(), training=False)
    assert np.abs(pixels("calm/fake_b/1.png").astype(int) - rounded(by_hand)).max() <= 1


def test_unsuitable_arguments_are_refused_with_the_remedy(trained, capsys) -> None:
    run, pairs = trained("cyclegan"), trained("pix2pix")
    test = ["test", f"run={run}", "accelerator=cpu"]
    assert re.search("direction: .* 'a_to_b', 'b_to_a' or null, got 'a2b'", refused(capsys, *test, "direction=a2b"))
    assert "valA + valB" in refused(capsys, *test, "phase=val")
    assert "labels=[1]: this model translates images" in refused(capsys, *test, "labels=[1]")
    assert "network_mode=eval turns it off" in refused(capsys, *test, "dropout=0.2")
    assert "only translates a_to_b" in refused(capsys, "test", f"run={pairs}", "direction=b_to_a")
    assert "data=single data.root=FOLDER, which converts" in refused(capsys, *test, "data=digits")
    layout(Path("halves"), testB=2, trainA=1, trainB=1)
    assert "testA + testB" in refused(capsys, *test, "data=unaligned", "data.root=halves")
    assert "there is no folder nowhere" in refused(capsys, *test, "data=single", "data.root=nowhere")
    assert "no image matches" in refused(capsys, *test, "data=single", "data.root=halves/*.png")
    assert not any((each / "results").exists() for each in (run, pairs))


def test_arguments_of_other_kinds_of_models_are_refused(capsys) -> None:
    assert main(["train", "data.load_size=16", "network.width=2", *CPU, "trainer.steps=1", "name=noise"]) == 0
    message = refused(capsys, "test", "run=checkpoints/noise", "direction=a_to_b")
    assert "direction=a_to_b: DCGAN generates images from noise" in message
    image("colour/1.png", 40, 40)
    layout(Path("made"), testA=1, testB=1)
    command = ["model=colorization", "data=single", "data.root=colour", *COLOUR]
    assert main(["train", *command, *CPU, "name=run", "trainer.steps=1"]) == 0
    message = refused(capsys, "test", "run=checkpoints/run", "data=unaligned", "data.root=made")
    assert "data=single data.root=FOLDER" in message
    assert "only translates a_to_b" in refused(capsys, "test", "run=checkpoints/run", "direction=b_to_a")
