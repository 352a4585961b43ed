"""What ``init_from`` refuses, and the overrides that contradict its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_mentions, newest
from init_files import RESNET, STILL, cyclegan, patchgan, pix2pix, resnet, saved, unet, write_images
from torch import nn

import gantrain
from gantrain.cli.main import main
from gantrain.errors import ConfigError
from gantrain.training.init_from import adopt_architecture, load_networks


@pytest.fixture(autouse=True)
def images() -> None:
    """Images of all data sets below."""
    write_images()


def refusal(capsys: pytest.CaptureFixture[str], command: list[str]) -> str:
    """The message of a refused command: one line; no run folder is left."""
    capsys.readouterr()
    assert main(command) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    assert not Path("checkpoints/run").exists()
    return message


def test_channels_that_do_not_fit_are_refused_with_the_keys_to_change(capsys) -> None:
    saved("gray/latest_net_G.pth", unet(1, 3), 1)
    start = "init_from=gray/latest_net_G.pth"
    message = refusal(capsys, pix2pix(*STILL, start))
    assert "init_from=gray/latest_net_G.pth: G (1 channels in, 3 out; see data.channels, data.channels_b)" in message
    message = refusal(capsys, pix2pix(*STILL, start, "data.channels=1"))  # This sets both domains.
    assert "data.channels_b" in message
    assert main(pix2pix(*STILL, start, "data.channels=1", "data.channels_b=3")) == 0


def test_a_discriminator_of_pairs_is_refused_by_cyclegan(capsys) -> None:
    saved("cyc/latest_net_G_A.pth", resnet(), 1)
    saved("cyc/latest_net_D_A.pth", patchgan(6), 2)
    message = refusal(capsys, cyclegan(*STILL, "init_from=cyc/latest_net_G_A.pth"))
    assert "D_A (6 channels in, 1 out" in message


@pytest.mark.parametrize(
    ("other", "keys"), [(resnet(blocks=1), "blocks"), (resnet(width=4, norm="batch"), "width, norm"), (unet(), "name")]
)
def test_generators_of_different_architectures_are_refused(other: nn.Module, keys: str, capsys) -> None:
    saved("cyc/latest_net_G_A.pth", resnet(), 1)
    saved("cyc/latest_net_G_B.pth", other, 2)
    message = refusal(capsys, cyclegan(*STILL, "init_from=cyc/latest_net_G_A.pth"))
    assert f"init_from=cyc/latest_net_G_A.pth: G_B differs from the other generator in {keys}" in message
    assert "one architecture for both generators" in message


def test_a_missing_foreign_or_unsuitable_file_is_refused(capsys) -> None:
    assert "can't read nowhere.pth: No such file" in refusal(capsys, pix2pix("init_from=nowhere.pth"))
    Path("text.pth").write_text("hello\n")
    assert "can't read text.pth: it is not a PyTorch file" in refusal(capsys, pix2pix("init_from=text.pth"))
    saved("G.pth", resnet(), 1)
    message = refusal(capsys, ["train", "model=dcgan", "name=run", "data.load_size=32", "init_from=G.pth"])
    assert "network/generator=resnet: model=dcgan needs a generator that takes latent_dim" in message


def typed(*overrides: str, **network: Any) -> None:
    """Adopt the architecture of G.pth with these overrides, which composed this configuration of the networks."""
    settings = {"width": 64, "norm": "batch", "dropout": 0.0, "generator": {}, "discriminator": {}} | network
    adopt_architecture({"init_from": "G.pth", "model": {"name": "pix2pix"}, "network": settings, "data": {}}, overrides)


@pytest.mark.parametrize(
    ("override", "network", "message"),
    [
        ("network.norm=batch", {"norm": "batch"}, "has norm instance"),
        ("network.width=64", {"width": 64}, "has width 3"),
        ("network.dropout=0.5", {"dropout": 0.5}, "has dropout 0.0"),
        ("network.generator.blocks=9", {"generator": {"name": "resnet", "blocks": 9}}, "has blocks 2"),
        ("+network.generator.depth=7", {"generator": {"depth": 7}}, "has a resnet without depth"),
        ("network/generator=unet", {"generator": {"name": "unet", "depth": None}}, "has name resnet"),
        (
            "network/generator=resnet_9blocks",
            {"generator": {**RESNET, "name": "resnet", "blocks": 9, "width": 64}},
            "has blocks 2",
        ),
    ],
)
def test_an_override_that_contradicts_the_file_is_refused(override: str, network: dict[str, Any], message: str) -> None:
    saved("G.pth", resnet(), 1)
    with pytest.raises(ConfigError) as refused:
        typed(override, **network)
    key, _, value = override.lstrip("+").partition("=")
    assert_mentions(str(refused.value), f"{key}={value}", "G.pth", message, f"omit {key}")


def test_an_override_that_agrees_with_the_file_is_accepted() -> None:
    saved("G.pth", resnet(), 1)
    typed("network.norm=instance", "network.width=3", norm="instance", width=3)
    # Other keys of the group, and of the other network, may differ.
    group = {**RESNET, "name": "resnet", "width": 64, "norm": "batch"}
    typed("network/generator=resnet_6blocks", "network.discriminator.width=9", generator=group)
    saved("G.pth", unet(), 1)
    typed("network.dropout=0.2", dropout=0.2)
    typed("network.generator.dropout=0.3", generator={"dropout": 0.3})


def test_a_crop_size_that_the_unet_cannot_halve_is_refused(capsys) -> None:
    saved("G.pth", unet(depth=6), 1)
    message = refusal(capsys, pix2pix(*STILL, "init_from=G.pth"))
    assert "data.crop_size=32: the U-Net of init_from=G.pth halves images 6 times: give multiples of 64" in message
    assert "depth" not in message
    saved("G.pth", unet(depth=5), 1)
    assert main(pix2pix(*STILL, "init_from=G.pth")) == 0


def test_a_checkpoint_or_a_folder_of_weights_is_refused_with_the_remedy(capsys) -> None:
    saved("own/latest_net_D.pth", patchgan(6), 1)
    saved("own/latest_net_G.pth", resnet(), 1)
    message = refusal(capsys, pix2pix("trainer.steps=1", "init_from=own"))
    names = "latest_net_D.pth, latest_net_G.pth"
    assert f"no checkpoint in this folder, only {names}: give one of them, init_from=own/latest_net_G.pth" in message
    torch.save({"format": 2, "step": 3}, "own/model.pth")
    message = refusal(capsys, pix2pix("trainer.steps=1", "init_from=own/model.pth"))
    assert "a checkpoint of gantrain, not bare weights: give init_from=own instead" in message
    torch.save({"format": 2, "step": 3}, "own/step_3.pt")
    message = refusal(capsys, pix2pix("trainer.steps=1", "init_from=own/step_3.pt"))
    assert "give the run folder, init_from=own" in message


def test_a_run_of_other_networks_is_refused_with_the_keys_that_differ(train) -> None:
    train("first", "trainer.steps=1")
    config = newest("first")["config"]

    def refusal_of(*overrides: str) -> str:
        train("second", "trainer.steps=1", "resume=never", *overrides)
        second = newest("second")["config"]
        with pytest.raises(ConfigError) as refused:
            load_networks(gantrain.load("checkpoints/second"), Path("checkpoints/first"), second)
        return str(refused.value)

    assert config["network"]["width"] == 4
    for key, stored, typed_value in (
        ("network.width", "4", "6"),
        ("network.generator.width", "4", "6"),
        ("network/generator", "dcgan", "mlp"),
        ("model", "dcgan", "cgan"),
    ):
        message = refusal_of(f"{key}={typed_value}")
        assert_mentions(message, "init_from=checkpoints/first", f"{key}={stored} (here {typed_value})")
        assert message.endswith(f": give {key}={stored}")
    # Another model with the same networks may load them.
    train("third", "model=lsgan", "trainer.steps=1", "network.norm=batch")
    load_networks(gantrain.load("checkpoints/third"), Path("checkpoints/first"), newest("third")["config"])


def test_a_run_of_another_kind_is_refused_without_a_list_of_keys(train) -> None:
    train("first", "trainer.steps=1")
    assert main(pix2pix(*STILL)) == 0
    with pytest.raises(ConfigError) as refused:
        load_networks(gantrain.load("checkpoints/first"), Path("checkpoints/run"), newest("first")["config"])
    assert "network/generator=unet (here dcgan), network/discriminator=patchgan (here dcgan)" in str(refused.value)
    assert len(str(refused.value)) < 300
    with pytest.raises(ConfigError, match="does not fit this one") as refused:  # The configuration is unknown here.
        load_networks(gantrain.load("checkpoints/first"), Path("checkpoints/run"))
    assert len(str(refused.value)) < 500
