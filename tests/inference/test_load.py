"""Generators without a run, in the format of pytorch-CycleGAN-and-pix2pix, and colorization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from translated import (
    COLOUR,
    CPU,
    DEEP,
    INIT,
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
    weights_file,
)

import gantrain
from gantrain.cli.main import main
from gantrain.models.colorization import lab_to_rgb, rgb_to_lab
from gantrain.networks.patchgan import PatchGANDiscriminator
from gantrain.networks.unet import UNetGenerator

# ---- bare weights


@pytest.mark.parametrize(("mode", "scale"), [("eval", 1), ("train", 2)])
@pytest.mark.parametrize(
    ("network", "norm"), [("resnet", "instance"), ("resnet", "batch"), ("unet", "batch"), ("unet", "instance")]
)
def test_bare_weights_compute_the_original_function(network: str, norm: str, mode: str, scale: int) -> None:
    state = weights_file("latest_net_G.pth", network, norm, inputs=2, outputs=3)
    Path("arrays").mkdir()
    torch.manual_seed(1)
    images = {name: torch.rand(1, 2, 64, 32) * 2 - 1 for name in ("one", "two")}
    for name, array in images.items():
        np.save(f"arrays/{name}.npy", array[0].permute(1, 2, 0).numpy() * scale)
    stored = f"data.range=[{-scale},{scale}]"
    arrays = ["data=single", "data.root=arrays", stored, f"network_mode={mode}", "dropout=0"]
    assert main(["test", "weights=latest_net_G.pth", *arrays, "accelerator=cpu"]) == 0
    results = Path("results/latest_net_G")
    by_kind = [f"{kind}/{name}.npy" for kind in ("fake_b", "real_a") for name in ("one", "two")]
    shown = [f"shown/{kind}/{name}.png" for kind in ("fake_b", "real_a") for name in ("one", "two")]
    assert files(results) == by_kind + shown
    assert linked(results) == shown
    for name, array in images.items():
        if network == "resnet":
            wanted = resnet_by_hand(state, array, blocks=2, training=mode == "train")
        else:
            wanted = unet_by_hand(state, array, training=mode == "train")
        fake, real = (np.load(results / f"{kind}/{name}.npy") for kind in ("fake_b", "real_a"))
        assert fake.dtype == real.dtype == np.float32
        assert wanted.std() > 0.05
        # Results are in the range of the data.
        for made, values in ((fake, wanted), (real, array)):
            found = torch.from_numpy(made).permute(2, 0, 1)[None] / scale
            torch.testing.assert_close(found, values, atol=1e-5, rtol=0)


def test_the_default_dropout_of_a_bare_unet_is_one_half() -> None:
    torch.manual_seed(0)
    sizes = {"input_shape": (3, 64, 64), "shape": (3, 64, 64)}
    torch.save(UNetGenerator(**sizes, **DEEP | {"depth": 6}, norm="batch").state_dict(), "G.pth")
    image("photo.png", 64, 64)
    photo = ["test", "weights=G.pth", "data=single", "data.root=photo.png", "accelerator=cpu"]
    made = {}
    for how in ([], ["dropout=0.5"], ["dropout=0"], ["dropout=0", "network_mode=eval"], ["network_mode=eval"]):
        assert main([*photo, *how]) == 0
        made[" ".join(how)] = bits("results/G")["fake_b/photo.png"]
    assert made[""] == made["dropout=0.5"]
    assert made["network_mode=eval"] == made["dropout=0 network_mode=eval"]
    assert len(set(made.values())) == 3


def test_bare_weights_translate_in_both_directions() -> None:
    layout(Path("made"), testA=2, testB=3)
    weights_file("monet.pth", "resnet", "instance")
    test = ["test", "weights=monet.pth", "accelerator=cpu"]
    unaligned = ["data=unaligned", "data.root=made", "data.crop_size=32", "data.load_size=32"]
    assert main([*test, *unaligned, "direction=b_to_a", "out=mine"]) == 0
    assert files("mine") == linked("mine") == expected({("real_b", "fake_a"): ["n66_0", "n66_1", "n66_2"]})
    assert np.array_equal(pixels("mine/real_b/n66_1.png"), pixels("made/testB/n66_1.jpg"))
    assert main([*test, *unaligned]) == 0
    assert files("results/monet") == expected({("real_a", "fake_b"): ["n65_0", "n65_1"]})
    fakes = bits("mine")["fake_a/n66_1.png"]
    # The result does not depend on the data mode.
    assert main([*test, "data=single", "data.root=made/testB/n66_1.jpg", "out=one"]) == 0
    assert bits("one")["fake_b/n66_1.png"] == fakes
    # Python gives the same result.
    made = gantrain.load("monet.pth").translate(unit("made/testB/n66_1.jpg").float())
    assert np.abs(pixels("one/fake_b/n66_1.png").astype(int) - rounded(made)).max() <= 1


def test_the_channels_of_bare_weights_determine_those_of_the_data() -> None:
    weights_file("colour.pth", "unet", "batch", inputs=1, outputs=3)
    image("pairs/test/1.png", 32, 64)
    pairs = ["data=aligned", "data.root=pairs", "data.load_size=32", "data.crop_size=32", "accelerator=cpu"]
    assert main(["test", "weights=colour.pth", *pairs, "data.direction=b_to_a", "out=mine"]) == 0
    assert [Image.open(f"mine/{kind}/1.png").mode for kind in ("real_a", "fake_b", "real_b")] == ["L", "RGB", "RGB"]
    right = Image.open("pairs/test/1.png").crop((32, 0, 64, 32)).convert("L")
    assert np.abs(pixels("mine/real_a/1.png").astype(int) - np.asarray(right)).max() <= 1
    assert "mean absolute error, a_to_b" in Path("mine/index.html").read_text()
    single = ["data=single", "data.root=pairs", "accelerator=cpu", "direction=b_to_a"]
    assert main(["test", "weights=colour.pth", *single, "out=back"]) == 0
    assert [Image.open(f"back/{kind}/test/1.png").mode for kind in ("real_b", "fake_a")] == ["L", "RGB"]


def test_files_without_a_generator_are_refused_in_one_line(trained, capsys) -> None:
    run = trained("cyclegan")
    image("photo.png", 32, 32)
    data = ["data=single", "data.root=photo.png"]
    judge = PatchGANDiscriminator(shape=(3, 32, 32), width=2, layers=3, scales=1, norm="batch", antialias=False, **INIT)
    torch.save(judge.state_dict(), "latest_net_D.pth")
    Path("text.pth").write_text("hello\n")
    weights_file("G.pth", "resnet", "instance")
    for weights, message in {
        "latest_net_D.pth": "latest_net_D.pth contains a discriminator: give the file of the generator",
        "text.pth": "can't read text.pth: it is not a PyTorch file of weights",
        f"{run}/step_2.pt": "give run=checkpoints/cyclegan instead",
        "nowhere.pth": "can't read nowhere.pth: No such file",
    }.items():
        assert message in refused(capsys, "test", f"weights={weights}", *data)
    assert "run is missing: give run=" in refused(capsys, "test", *data)
    assert "exclude each other" in refused(capsys, "test", f"run={run}", "weights=G.pth", *data)
    assert "data=single data.root=FOLDER" in refused(capsys, "test", "weights=G.pth")
    assert "step=2 is for run=" in refused(capsys, "test", "weights=G.pth", *data, "step=2")
    assert "network_weights=last is for run=" in refused(capsys, "test", "weights=G.pth", *data, "network_weights=last")
    assert not Path("results").exists()


# ---- colorization


def test_colorization_is_tested_on_gray_and_colour_images() -> None:
    for number in range(3):
        image(f"colour/{number}.png", 40, 40)
    command = ["model=colorization", "data=single", "data.root=colour", *COLOUR]
    assert main(["train", *command, *CPU, "name=run", "trainer.steps=2"]) == 0
    image("photos/gray.png", 33, 47, "L")
    image("photos/colour.png", 40, 32)
    photos = ["data=single", "data.root=photos", "out=mine", "accelerator=cpu"]
    assert main(["test", "run=checkpoints/run", *photos]) == 0
    assert files("mine") == linked("mine") == expected({("real_a", "fake_b_rgb", "real_b_rgb"): ["colour", "gray"]})
    gray = np.asarray(Image.open("photos/gray.png").convert("RGB")).astype(int)
    assert np.array_equal(pixels("mine/real_b_rgb/gray.png"), gray)
    assert np.abs(pixels("mine/real_a/gray.png") - gray).max() <= 2  # A gray image equals its lightness.
    assert np.array_equal(pixels("mine/real_b_rgb/colour.png"), pixels("photos/colour.png"))
    lightness = pixels("mine/real_a/colour.png").astype(int)
    assert np.ptp(lightness, axis=2).max() <= 2
    assert np.ptp(lightness) > 50
    assert np.ptp(pixels("mine/fake_b_rgb/gray.png").astype(int), axis=2).max() > 2  # The result has colour.


def test_a_bare_colorization_generator_shows_input_output_and_target() -> None:
    for name, mode in (("gray", "L"), ("colour", "RGB")):
        image(f"photos/{name}.png", 33, 47, mode)
    state = weights_file("latest_net_G.pth", "unet", "batch", inputs=1, outputs=2)
    photos = ["data=single", "data.root=photos", "accelerator=cpu", "out=mine"]
    assert main(["test", "weights=latest_net_G.pth", *photos, "dropout=0"]) == 0
    assert files("mine") == linked("mine") == expected({("real_a", "fake_b_rgb", "real_b_rgb"): ["colour", "gray"]})
    assert np.array_equal(pixels("mine/real_b_rgb/colour.png"), pixels("photos/colour.png"))
    assert np.ptp(pixels("mine/real_a/colour.png").astype(int), axis=2).max() <= 2
    lab = rgb_to_lab(unit("photos/gray.png").float().expand(-1, 3, -1, -1))
    padded = torch.from_numpy(np.pad(lab.numpy(), ((0, 0), (0, 0), (0, 31), (0, 17)), mode="symmetric"))
    colour = unet_by_hand(state, padded[:, :1] / 50 - 1, training=True)[..., :33, :47]
    wanted = rounded(lab_to_rgb(torch.cat([lab[:, :1], colour * 110], dim=1)))
    assert np.abs(pixels("mine/fake_b_rgb/gray.png").astype(int) - wanted).max() <= 1
    assert "real_a is the input, fake_b_rgb the output, real_b_rgb the target" in Path("mine/index.html").read_text()


def test_a_bare_colorization_generator_translates_only_a_to_b(capsys) -> None:
    image("photos/1.png", 32, 32)
    layout(Path("made"), testA=1, testB=1)
    weights_file("G.pth", "unet", "batch", inputs=1, outputs=2)
    test = ["test", "weights=G.pth", "accelerator=cpu"]
    message = refused(capsys, *test, "data=single", "data.root=photos", "direction=b_to_a")
    assert "direction=b_to_a" in message
    assert "only translates a_to_b" in message
    assert "takes single images" in refused(capsys, *test, "data=unaligned", "data.root=made")
