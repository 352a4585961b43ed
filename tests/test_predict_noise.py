"""``gantrain predict`` of models that generate from noise: samples, truncation and animations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from conftest import assert_mentions
from image_folders import contents, files
from PIL import Image, ImageSequence
from scipy.stats import kstest, truncnorm
from tiny import build
from tiny_keys import OWN_KEYS
from translated import pixels, refused, weights_file

import gantrain
from gantrain.cli.main import main
from gantrain.inference.sample import between, truncated

CPU = "accelerator=cpu"


def test_samples_are_those_of_gantrain_test(trained) -> None:
    run = trained("cgan")
    assert main(["predict", f"run={run}", "num=4", "labels=[1,0]", "seed=3", "out=mine", CPU]) == 0
    assert main(["test", f"run={run}", "num=4", "labels=[1,0]", "seed=3", "out=results", CPU]) == 0
    assert contents("mine") == contents("results/samples")
    assert len(files("mine")) == 4


def test_truncated_noise_stays_within_and_keeps_its_order(trained, capsys) -> None:
    gan = gantrain.load(trained("dcgan")).module
    latents = gan.latents(500, seed=1)
    assert latents.abs().max() > 3
    mapped = truncated(gan, latents, 0.7)
    # The quantiles of the distribution that is mapped to, from its definition.
    order = latents.flatten().argsort()
    assert (mapped.flatten()[order].diff() >= 0).all()
    reference = truncnorm(-0.7, 0.7)
    assert kstest(mapped.flatten().double().numpy(), reference.cdf).pvalue > 0.01
    assert mapped.abs().max() <= 0.7
    assert (truncated(gan, latents, 50.0) - latents).abs().max() < 1e-3
    infogan = build("infogan", **OWN_KEYS["infogan"]).float()
    drawn = infogan.latents(9, seed=0)
    cut = truncated(infogan, drawn, 0.1)
    assert torch.equal(cut[:, infogan.latent_dim :], drawn[:, infogan.latent_dim :])
    assert cut[:, : infogan.latent_dim].abs().max() <= 0.1
    run = trained("gan")
    command = ["predict", f"run={run}", "num=2", CPU]
    if gantrain.load(run).noise == "uniform":
        assert_mentions(refused(capsys, *command, "out=x", "truncation=0.5"), "truncation=0.5", "model.noise=uniform")
    assert main(["predict", "run=dcgan", "num=2", CPU, "out=mine"]) == 0
    assert main(["predict", "run=dcgan", "num=2", CPU, "out=cut", "truncation=0.5"]) == 0
    assert contents("mine").keys() == contents("cut").keys()
    assert contents("mine") != contents("cut")


def test_an_animation_passes_through_all_samples_and_returns(trained, capsys) -> None:
    run = trained("dcgan")
    command = ["predict", f"run={run}", CPU]
    assert main([*command, "num=3", "interpolate=4", "out=mine"]) == 0
    with Image.open("mine/interpolation.gif") as film:
        frames = [np.asarray(frame.convert("L")).astype(int) for frame in ImageSequence.Iterator(film)]
        assert film.info["loop"] == 0
    assert len(frames) == 12
    for number in range(3):
        assert np.abs(frames[4 * number] - pixels(f"mine/0000{number}.png")).max() <= 2  # A GIF has 256 colours.
    assert_mentions(refused(capsys, *command, "num=1", "interpolate=4", "out=x"), "interpolate=4", "num")
    assert_mentions(refused(capsys, *command, "num=3", "interpolate=4", "out=mine"), "out=mine", "overwrite=true")
    gan = gantrain.load(run).module
    ends = gan.latents(4000, seed=0)
    middle = between(gan, ends[:2000], ends[2000:], torch.tensor(0.5))
    assert abs(float(middle.std()) - 1) < 0.02
    trained("cgan")
    assert main(["predict", "run=cgan", CPU, "num=4", "labels=[0,1]", "interpolate=2", "out=both"]) == 0
    assert {name for name in files("both") if name.endswith(".gif")} == {"interpolation_0.gif", "interpolation_1.gif"}
    assert_mentions(refused(capsys, *command, "source=photo.png", "out=x"), "source=photo.png", "num=64")


def test_out_may_be_the_file_of_one_animation_or_of_one_sample(trained, capsys) -> None:
    command = ["predict", f"run={trained('cgan')}", CPU]
    assert main([*command, "labels=[1]", "num=3", "interpolate=2", "out=walk.gif"]) == 0
    assert main([*command, "labels=[1]", "num=1", "out=one.png"]) == 0
    with Image.open("walk.gif") as film, Image.open("one.png") as one:
        assert film.n_frames == 6
        assert film.size == one.size
    assert_mentions(refused(capsys, *command, "num=2", "out=other.gif"), "out=other.gif", "interpolate=20")
    both = refused(capsys, *command, "num=4", "labels=[0,1]", "interpolate=2", "out=other.gif")
    assert_mentions(both, "out=other.gif", "labels=[0]")
    assert_mentions(refused(capsys, *command, "num=2", "out=two.png"), "out=two.png", "num=1")
    assert not any(Path(name).exists() for name in ("other.gif", "two.png"))


def test_keys_of_noise_are_refused_for_a_translator(capsys) -> None:
    weights_file("G.pth", "resnet", "instance")
    for key in ("num=3", "labels=[1]", "truncation=0.5", "interpolate=3"):
        message = refused(capsys, "predict", "weights=G.pth", "source=photo.png", "out=x", CPU, key)
        assert_mentions(message, key.replace("[1]", ""), "source=IMAGES")
