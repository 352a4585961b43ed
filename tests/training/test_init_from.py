"""``init_from`` with files of pytorch-CycleGAN-and-pix2pix: their architectures and weights are used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_mentions, assert_same_bits, newest, stop_after
from init_files import (
    INIT,
    RESNET,
    STILL,
    UNET,
    cyclegan,
    network_of,
    patchgan,
    pix2pix,
    resnet,
    saved,
    unet,
    write_images,
)
from torch import Tensor

import gantrain
from gantrain.cli.main import main
from gantrain.networks.patchgan import PixelGANDiscriminator
from gantrain.training.init_from import adopt_architecture, load_networks


@pytest.fixture(autouse=True)
def images() -> None:
    """Images of all data sets below."""
    write_images()


def part(model: dict[str, Any], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in model.items() if key.startswith(f"{name}.")}


def test_pix2pix_starts_from_a_generator_and_adopts_its_architecture() -> None:
    state = saved("pix/latest_net_G.pth", unet(), 1)
    assert main(pix2pix(*STILL, "init_from=pix/latest_net_G.pth")) == 0
    found = newest("run")
    assert_same_bits(part(found["model"], "generator"), dict(state))
    network = network_of("run")
    assert network["generator"] == {"name": "unet", **UNET}
    assert network["discriminator"]["width"] == 64  # The file does not contain it.
    assert network == found["config"]["network"]
    # The file is no longer needed.
    Path("pix/latest_net_G.pth").unlink()
    assert gantrain.load("checkpoints/run").translate(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_pix2pix_also_loads_the_discriminator_of_the_same_epoch() -> None:
    generator = saved("pix/60_net_G.pth", resnet(), 1)
    discriminator = saved("pix/60_net_D.pth", patchgan(6), 2)
    saved("pix/latest_net_D.pth", patchgan(6, width=4), 3)  # This one is of another epoch.
    for given in ("60_net_G", "60_net_D"):
        assert main(pix2pix(*STILL, f"init_from=pix/{given}.pth", "resume=never")) == 0
        model = newest("run")["model"]
        assert_same_bits(part(model, "generator"), dict(generator))
        assert_same_bits(part(model, "discriminator"), dict(discriminator))
    assert network_of("run")["generator"] == {"name": "resnet", **RESNET}
    assert network_of("run")["discriminator"] == {
        "name": "patchgan",
        "width": 5,
        "layers": 2,
        "scales": 1,
        "norm": "instance",
        "antialias": False,
        **INIT,
    }


def test_cyclegan_loads_four_networks() -> None:
    own = {
        "generator_ab": saved("cyc/latest_net_G_A.pth", resnet(), 1),
        "generator_ba": saved("cyc/latest_net_G_B.pth", resnet(), 2),
        # D_A discriminates the outputs of G_A, which are images of b.
        "discriminator_b": saved("cyc/latest_net_D_A.pth", patchgan(3), 3),
        "discriminator_a": saved("cyc/latest_net_D_B.pth", patchgan(3), 4),
    }
    assert main(cyclegan(*STILL, "init_from=cyc/latest_net_G_A.pth")) == 0
    model = newest("run")["model"]
    for name, state in own.items():
        assert_same_bits(part(model, name), dict(state), name)
    network = network_of("run")
    assert network["generator"] == {"name": "resnet", **RESNET}
    assert (network["discriminator"]["width"], network["discriminator"]["layers"]) == (5, 2)


def test_generators_of_different_channels_are_loaded_by_domain() -> None:
    own = {
        "generator_ab": saved("cyc/latest_net_G_A.pth", resnet(1, 3), 1),
        "generator_ba": saved("cyc/latest_net_G_B.pth", resnet(3, 1), 2),
        "discriminator_b": saved("cyc/latest_net_D_A.pth", patchgan(3), 3),
        "discriminator_a": saved("cyc/latest_net_D_B.pth", patchgan(1), 4),
    }
    channels = ["data.channels=1", "data.channels_b=3", "model.lambda_identity=0"]
    assert main(cyclegan(*STILL, *channels, "init_from=cyc/latest_net_G_A.pth")) == 0
    for name, state in own.items():
        assert_same_bits(part(newest("run")["model"], name), dict(state), name)


@pytest.mark.parametrize("others", [[], ["G_B"], ["D_A"]])
def test_a_network_without_a_file_is_initialised(others: list[str]) -> None:
    places = {"G_A": "generator_ab", "G_B": "generator_ba", "D_A": "discriminator_b", "D_B": "discriminator_a"}
    there = ["G_A", *others]
    states = {}
    for seed, name in enumerate(there):
        states[name] = saved(f"cyc/5_net_{name}.pth", resnet() if name[0] == "G" else patchgan(3), seed)
    assert main(cyclegan(*STILL, "init_from=cyc/5_net_G_A.pth")) == 0
    model = newest("run")["model"]
    for name, place in places.items():
        if name in there:
            assert_same_bits(part(model, place), dict(states[name]), name)
        else:
            fresh = [value for key, value in part(model, place).items() if key.endswith("weight")]
            assert all(abs(float(value.mean())) < 0.05 for value in fresh)  # Those of the files have a mean of 0.1.
    assert network_of("run")["discriminator"]["width"] == (5 if "D_A" in others else 64)


def test_a_file_of_any_other_name_is_the_first_generator() -> None:
    state = saved("horse2zebra.pth", resnet(), 1)
    saved("latest_net_D.pth", patchgan(3), 2)
    assert main(cyclegan(*STILL, "init_from=horse2zebra.pth")) == 0
    assert_same_bits(part(newest("run")["model"], "generator_ab"), dict(state))
    assert network_of("run")["discriminator"]["width"] == 64


def test_statistics_of_batch_norm_and_a_pixelgan_are_loaded() -> None:
    generator = saved("latest_net_G.pth", unet(norm="batch"), 1)
    pixelgan = PixelGANDiscriminator(shape=(6, 32, 32), width=4, norm="batch", **INIT)
    discriminator = saved("latest_net_D.pth", pixelgan, 2)
    assert main(pix2pix(*STILL, "init_from=latest_net_G.pth")) == 0
    assert network_of("run")["generator"] == {"name": "unet", **UNET, "norm": "batch"}
    assert network_of("run")["discriminator"] == {"name": "pixelgan", "width": 4, "norm": "batch", **INIT}
    model = gantrain.load("checkpoints/run")
    load_networks(model, Path("latest_net_G.pth"))  # The step has changed the statistics.
    assert_same_bits(dict(model.generator.state_dict()), dict(generator))
    assert_same_bits(dict(model.discriminator.state_dict()), dict(discriminator))


def test_the_dropout_of_a_unet_is_that_of_the_configuration() -> None:
    saved("G.pth", unet(depth=6), 1)
    sides = ["data.load_size=64", "data.crop_size=64"]  # A U-Net for 32 pixels has no dropout.
    for typed, wanted in (("network.dropout=0.2", 0.2), ("network.generator.dropout=0.3", 0.3), ("seed=1", 0.5)):
        assert main(pix2pix("trainer.steps=1", "init_from=G.pth", typed, *sides, "resume=never")) == 0
        assert network_of("run")["generator"]["dropout"] == wanted


def test_a_run_from_files_resumes_bit_identically(monkeypatch) -> None:
    for seed, name in enumerate(("G_A", "G_B", "D_A", "D_B")):
        saved(f"cyc/latest_net_{name}.pth", resnet() if name[0] == "G" else patchgan(3), seed)
    command = cyclegan("init_from=cyc/latest_net_G_A.pth", "trainer.steps=3", "model.pool_size=1", "model.ema=0.5")
    command += ["model.ema_rampup=0"]
    assert main([*command, "name=whole"]) == 0
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        assert main([*command, "name=cut"]) == 130
    cut = newest("cut")
    assert cut["step"] == 1
    # The averages also start from the files: here they are the mean of the file and the first step.
    begun = torch.load("cyc/latest_net_G_B.pth")
    for key, value in begun.items():
        between = (value + cut["model"][f"generator_ba.{key}"]) / 2
        torch.testing.assert_close(cut["updates"]["averages"][f"1.{key}"], between)
    assert main([*command, "name=cut"]) == 0
    for key in ("step", "position", "model", "updates", "ranks"):
        assert_same_bits(newest("cut")[key], newest("whole")[key], key)


def test_other_values_of_init_from_do_not_change_the_configuration() -> None:
    for source in (None, "checkpoints/other"):
        config = {"init_from": source, "network": {"width": 2}}
        assert adopt_architecture(config) == config


def test_the_loaded_networks_are_reported_in_one_line(capsys) -> None:
    for seed, name in enumerate(("G_A", "G_B", "D_A", "D_B")):
        saved(f"cyc/latest_net_{name}.pth", resnet() if name[0] == "G" else patchgan(3), seed)
    assert main(cyclegan(*STILL, "init_from=cyc/latest_net_G_A.pth")) == 0
    parts = ["cyc/latest_net_*.pth", "resnet, 2 blocks, width 3", "patchgan, 2 layers, width 5", "instance norm"]
    (line,) = re.findall(r"^init_from: G_A, G_B, D_A, D_B .*$", capsys.readouterr().err, re.MULTILINE)
    assert_mentions(line, *parts)
    saved("own.pth", unet(norm="batch"), 1)
    assert main(pix2pix(*STILL, "init_from=own.pth", "resume=never")) == 0
    (line,) = re.findall(r"^init_from: G .*$", capsys.readouterr().err, re.MULTILINE)
    assert_mentions(line, "own.pth", "unet, depth 5, width 3", "batch norm", "dropout 0.5")


def test_the_initialisation_of_a_network_without_a_file_can_be_chosen() -> None:
    saved("cyc/latest_net_G_A.pth", resnet(), 1)
    config = {
        "init_from": "cyc/latest_net_G_A.pth",
        "model": {"name": "cyclegan"},
        "network": {"generator": {"name": "resnet", "init": "xavier", "init_gain": 1.0}},
    }
    generator = adopt_architecture(config, ["network.generator.init=xavier"])["network"]["generator"]
    assert generator == {"name": "resnet", **RESNET, "init": "xavier"}


@pytest.mark.parametrize("name", ["G_A", "G_B"])
def test_pix2pix_loads_only_one_of_four_files(name: str, capsys) -> None:
    states = {
        "G_A": saved("cyc/latest_net_G_A.pth", resnet(), 1),
        "G_B": saved("cyc/latest_net_G_B.pth", resnet(width=4), 2),
    }
    saved("cyc/latest_net_D_A.pth", patchgan(3), 3)  # It would not accept pairs.
    assert main(pix2pix(*STILL, f"init_from=cyc/latest_net_{name}.pth")) == 0
    assert_same_bits(part(newest("run")["model"], "generator"), dict(states[name]))
    assert network_of("run")["discriminator"]["width"] == 64
    assert f"init_from: {name} of cyc/latest_net_{name}.pth: resnet" in capsys.readouterr().err


def test_weights_inside_a_state_dict_entry_are_loaded() -> None:
    state = saved("G.pth", resnet(), 1)
    torch.save({"state_dict": state, "epoch": 7}, "G.pth")
    assert main(pix2pix(*STILL, "init_from=G.pth")) == 0
    assert_same_bits(part(newest("run")["model"], "generator"), dict(state))
