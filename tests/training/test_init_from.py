"""``init_from`` with files of pytorch-CycleGAN-and-pix2pix: the architecture and the weights of each, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import assert_same_bits, newest, stop_after
from PIL import Image
from torch import Tensor, nn

import gantrain
from gantrain.cli.main import main
from gantrain.errors import ConfigError
from gantrain.networks.patchgan import PatchGANDiscriminator, PixelGANDiscriminator
from gantrain.networks.resnet import ResnetGenerator
from gantrain.networks.unet import UNetGenerator
from gantrain.training.init_from import adopt_architecture, load_networks

INIT = {"init": "normal", "init_gain": 0.02}
RESNET = {
    "width": 3,
    "blocks": 2,
    "downsamplings": 1,
    "kernel": 3,
    "stem": 5,
    "padding": "zero",
    "dropout": 0.0,
    "norm": "instance",
    "upsample": "transposed",
    **INIT,
}
UNET = {
    "width": 3,
    "depth": 5,
    "dropout": 0.5,
    "skips": True,
    "norm": "instance",
    "upsample": "transposed",
    **INIT,
}
TINY = ["data.load_size=32", "data.crop_size=32", "data.num_workers=0", "trainer.accelerator=cpu"]
STILL = ["optimizer.lr=0", "optimizer.discriminator_lr=0", "trainer.steps=1"]


@pytest.fixture(autouse=True)
def images() -> None:
    """Pairs, and two domains."""
    random = np.random.default_rng(0)
    for name, width in {"pairs/train/1": 64, "made/trainA/1": 32, "made/trainB/1": 32, "made/trainB/2": 32}.items():
        path = Path(f"{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, width, 3), dtype=np.uint8)).save(path)


def saved(path: str, network: nn.Module, seed: int) -> dict[str, Tensor]:
    """A file with weights and statistics that no construction makes; and what it holds."""
    torch.manual_seed(seed)
    state = network.state_dict()
    for value in state.values():
        value.copy_(torch.rand(value.shape) * 0.4 - 0.1)
    Path(path).parent.mkdir(exist_ok=True)
    torch.save(state, path)
    return state


def resnet(inputs: int = 3, outputs: int = 3, **changes: Any) -> nn.Module:
    return ResnetGenerator(input_shape=(inputs, 32, 32), shape=(outputs, 32, 32), **RESNET | changes)


def unet(inputs: int = 3, outputs: int = 3, **changes: Any) -> nn.Module:
    return UNetGenerator(input_shape=(inputs, 64, 64), shape=(outputs, 64, 64), **UNET | changes)


def patchgan(channels: int, **changes: Any) -> nn.Module:
    keys = {"width": 5, "layers": 2, "norm": "instance", **INIT} | changes
    return PatchGANDiscriminator(shape=(channels, 32, 32), **keys)


def pix2pix(*overrides: str) -> list[str]:
    return ["train", "model=pix2pix", "data=aligned", "data.root=pairs", *TINY, "name=run", *overrides]


def cyclegan(*overrides: str) -> list[str]:
    return ["train", "model=cyclegan", "data=unaligned", "data.root=made", *TINY, "name=run", *overrides]


def part(model: dict[str, Any], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in model.items() if key.startswith(f"{name}.")}


def network_of(name: str) -> dict[str, Any]:
    """What the run's configuration, which a person can read, says of its networks."""
    return yaml.safe_load(Path(f"checkpoints/{name}/config.yaml").read_text())["network"]


def refused(capsys: pytest.CaptureFixture[str], command: list[str]) -> str:
    """What is said, in one line, and nothing is left behind."""
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert not Path("checkpoints/run").exists()
    return said


def test_pix2pix_starts_from_a_generator_alone_in_the_generators_shape() -> None:
    state = saved("pix/latest_net_G.pth", unet(), 1)
    assert main(pix2pix(*STILL, "init_from=pix/latest_net_G.pth")) == 0
    found = newest("run")
    assert_same_bits(part(found["model"], "generator"), dict(state))
    network = network_of("run")
    assert network["generator"] == {"name": "unet", **UNET}
    assert network["discriminator"]["width"] == 64  # nothing was said of it
    assert network == found["config"]["network"]
    # the file is no longer needed
    Path("pix/latest_net_G.pth").unlink()
    assert gantrain.load("checkpoints/run").translate(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_pix2pix_takes_the_discriminator_that_lies_beside() -> None:
    generator = saved("pix/60_net_G.pth", resnet(), 1)
    discriminator = saved("pix/60_net_D.pth", patchgan(6), 2)
    saved("pix/latest_net_D.pth", patchgan(6, width=4), 3)  # of another epoch
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
        "norm": "instance",
        **INIT,
    }


def test_cyclegan_takes_four_networks_each_to_its_place() -> None:
    own = {
        "generator_ab": saved("cyc/latest_net_G_A.pth", resnet(), 1),
        "generator_ba": saved("cyc/latest_net_G_B.pth", resnet(), 2),
        # D_A judges what G_A makes, images of b
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


def test_unlike_channels_tell_the_domains_apart() -> None:
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


@pytest.mark.parametrize("beside", [[], ["G_B"], ["D_A"]])
def test_what_is_not_there_starts_anew(beside: list[str]) -> None:
    places = {"G_A": "generator_ab", "G_B": "generator_ba", "D_A": "discriminator_b", "D_B": "discriminator_a"}
    there = ["G_A", *beside]
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
            assert all(abs(float(value.mean())) < 0.05 for value in fresh)  # those of the files have a mean of 0.1
    assert network_of("run")["discriminator"]["width"] == (5 if "D_A" in beside else 64)


def test_a_file_of_any_name_is_the_first_generators() -> None:
    state = saved("horse2zebra.pth", resnet(), 1)
    saved("latest_net_D.pth", patchgan(3), 2)
    assert main(cyclegan(*STILL, "init_from=horse2zebra.pth")) == 0
    assert_same_bits(part(newest("run")["model"], "generator_ab"), dict(state))
    assert network_of("run")["discriminator"]["width"] == 64


def test_statistics_of_batch_norm_and_a_pixelgan_come_along() -> None:
    generator = saved("latest_net_G.pth", unet(norm="batch"), 1)
    pixelgan = PixelGANDiscriminator(shape=(6, 32, 32), width=4, norm="batch", **INIT)
    discriminator = saved("latest_net_D.pth", pixelgan, 2)
    assert main(pix2pix(*STILL, "init_from=latest_net_G.pth")) == 0
    assert network_of("run")["generator"] == {"name": "unet", **UNET, "norm": "batch"}
    assert network_of("run")["discriminator"] == {"name": "pixelgan", "width": 4, "norm": "batch", **INIT}
    model = gantrain.load("checkpoints/run")
    load_networks(model, Path("latest_net_G.pth"))  # the step has gone on with the statistics
    assert_same_bits(dict(model.generator.state_dict()), dict(generator))
    assert_same_bits(dict(model.discriminator.state_dict()), dict(discriminator))


def test_the_dropout_of_a_unet_is_the_configurations() -> None:
    saved("G.pth", unet(), 1)
    for typed, wanted in (("network.dropout=0.2", 0.2), ("network.generator.dropout=0.3", 0.3), ("seed=1", 0.5)):
        assert main(pix2pix("trainer.steps=1", "init_from=G.pth", typed, "resume=never")) == 0
        assert network_of("run")["generator"]["dropout"] == wanted


def test_a_run_from_files_resumes_bit_identically(monkeypatch) -> None:
    for seed, name in enumerate(("G_A", "G_B", "D_A", "D_B")):
        saved(f"cyc/latest_net_{name}.pth", resnet() if name[0] == "G" else patchgan(3), seed)
    command = cyclegan("init_from=cyc/latest_net_G_A.pth", "trainer.steps=3", "model.pool_size=1", "model.ema=0.5")
    assert main([*command, "name=whole"]) == 0
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        assert main([*command, "name=cut"]) == 130
    cut = newest("cut")
    assert cut["step"] == 1
    # the averages began with the files too: halfway from them to what the first step made of them
    begun = torch.load("cyc/latest_net_G_B.pth")
    for key, value in begun.items():
        between = (value + cut["model"][f"generator_ba.{key}"]) / 2
        torch.testing.assert_close(cut["updates"]["averages"][f"1.{key}"], between)
    assert main([*command, "name=cut"]) == 0
    for key in ("step", "position", "model", "updates", "ranks"):
        assert_same_bits(newest("cut")[key], newest("whole")[key], key)


def test_channels_that_do_not_fit_are_refused_with_the_keys_to_change(capsys) -> None:
    saved("gray/latest_net_G.pth", unet(1, 3), 1)
    start = "init_from=gray/latest_net_G.pth"
    said = refused(capsys, pix2pix(*STILL, start))
    assert "init_from=gray/latest_net_G.pth: G (1 channels in, 3 out; see data.channels, data.channels_b)" in said
    said = refused(capsys, pix2pix(*STILL, start, "data.channels=1"))  # both domains then
    assert "data.channels_b" in said
    assert main(pix2pix(*STILL, start, "data.channels=1", "data.channels_b=3")) == 0


def test_a_discriminator_of_pairs_judges_no_single_images(capsys) -> None:
    saved("cyc/latest_net_G_A.pth", resnet(), 1)
    saved("cyc/latest_net_D_A.pth", patchgan(6), 2)
    said = refused(capsys, cyclegan(*STILL, "init_from=cyc/latest_net_G_A.pth"))
    assert "D_A (6 channels in, 1 out" in said


@pytest.mark.parametrize(
    ("other", "keys"), [(resnet(blocks=1), "blocks"), (resnet(width=4, norm="batch"), "width, norm"), (unet(), "name")]
)
def test_two_files_of_unlike_architecture_are_refused(other: nn.Module, keys: str, capsys) -> None:
    saved("cyc/latest_net_G_A.pth", resnet(), 1)
    saved("cyc/latest_net_G_B.pth", other, 2)
    said = refused(capsys, cyclegan(*STILL, "init_from=cyc/latest_net_G_A.pth"))
    assert f"init_from=cyc/latest_net_G_A.pth: G_B differs from the other generator in {keys}" in said
    assert "one architecture for both generators" in said


def test_what_can_not_be_a_beginning_is_refused(capsys) -> None:
    assert "can't read nowhere.pth: No such file" in refused(capsys, pix2pix("init_from=nowhere.pth"))
    Path("text.pth").write_text("hello\n")
    assert "can't read text.pth: it is not a PyTorch file" in refused(capsys, pix2pix("init_from=text.pth"))
    saved("G.pth", resnet(), 1)
    said = refused(capsys, ["train", "model=dcgan", "name=run", "data.load_size=32", "init_from=G.pth"])
    assert "network/generator=resnet: model=dcgan needs a generator that takes latent_dim" in said


def test_other_beginnings_leave_the_configuration_alone() -> None:
    for source in (None, "checkpoints/other"):
        config = {"init_from": source, "network": {"width": 2}}
        assert adopt_architecture(config) == config


# ---- what is taken, and what is said of it


def typed(*overrides: str, **network: Any) -> None:
    """What a run would do with a file G.pth, whose configuration came out of what was typed."""
    settings = {"width": 64, "norm": "batch", "dropout": 0.0, "generator": {}, "discriminator": {}} | network
    adopt_architecture({"init_from": "G.pth", "model": {"name": "pix2pix"}, "network": settings, "data": {}}, overrides)


def test_what_was_taken_is_said_in_a_line(capsys) -> None:
    for seed, name in enumerate(("G_A", "G_B", "D_A", "D_B")):
        saved(f"cyc/latest_net_{name}.pth", resnet() if name[0] == "G" else patchgan(3), seed)
    assert main(cyclegan(*STILL, "init_from=cyc/latest_net_G_A.pth")) == 0
    line = (
        "init_from: G_A, G_B, D_A, D_B of cyc/latest_net_*.pth: resnet, 2 blocks, width 3, instance norm; "
        "patchgan, 2 layers, width 5, instance norm"
    )
    assert line in capsys.readouterr().err.splitlines()
    saved("own.pth", unet(norm="batch"), 1)
    assert main(pix2pix(*STILL, "init_from=own.pth", "resume=never")) == 0
    line = "init_from: G of own.pth: unet, depth 5, width 3, batch norm, dropout 0.5"
    assert line in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("override", "network", "said"),
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
def test_what_was_typed_and_is_not_so_in_the_file_is_refused(override: str, network: dict[str, Any], said: str) -> None:
    saved("G.pth", resnet(), 1)
    with pytest.raises(ConfigError) as refused:
        typed(override, **network)
    key, _, value = override.lstrip("+").partition("=")
    assert str(refused.value) == f"{key}={value} contradicts G.pth, which {said}: omit {key}"


def test_what_was_typed_and_is_so_in_the_file_or_is_not_in_it_is_taken() -> None:
    saved("G.pth", resnet(), 1)
    typed("network.norm=instance", "network.width=3", norm="instance", width=3)
    # other keys of the group, and of the other network
    group = {**RESNET, "name": "resnet", "width": 64, "norm": "batch"}
    typed("network/generator=resnet_6blocks", "network.discriminator.width=9", generator=group)
    saved("G.pth", unet(), 1)
    typed("network.dropout=0.2", dropout=0.2)
    typed("network.generator.dropout=0.3", generator={"dropout": 0.3})


def test_how_a_network_without_a_file_begins_can_still_be_chosen() -> None:
    saved("cyc/latest_net_G_A.pth", resnet(), 1)
    config = {
        "init_from": "cyc/latest_net_G_A.pth",
        "model": {"name": "cyclegan"},
        "network": {"generator": {"name": "resnet", "init": "xavier", "init_gain": 1.0}},
    }
    generator = adopt_architecture(config, ["network.generator.init=xavier"])["network"]["generator"]
    assert generator == {"name": "resnet", **RESNET, "init": "xavier"}


def test_a_crop_size_that_the_unet_cannot_halve_is_refused(capsys) -> None:
    saved("G.pth", unet(depth=6), 1)
    said = refused(capsys, pix2pix(*STILL, "init_from=G.pth"))
    assert "data.crop_size=32: the U-Net of init_from=G.pth halves images 6 times: give multiples of 64" in said
    assert "depth" not in said
    saved("G.pth", unet(depth=5), 1)
    assert main(pix2pix(*STILL, "init_from=G.pth")) == 0


@pytest.mark.parametrize("name", ["G_A", "G_B"])
def test_pix2pix_takes_one_of_four_files_alone(name: str, capsys) -> None:
    states = {
        "G_A": saved("cyc/latest_net_G_A.pth", resnet(), 1),
        "G_B": saved("cyc/latest_net_G_B.pth", resnet(width=4), 2),
    }
    saved("cyc/latest_net_D_A.pth", patchgan(3), 3)  # which would not judge pairs
    assert main(pix2pix(*STILL, f"init_from=cyc/latest_net_{name}.pth")) == 0
    assert_same_bits(part(newest("run")["model"], "generator"), dict(states[name]))
    assert network_of("run")["discriminator"]["width"] == 64
    assert f"init_from: {name} of cyc/latest_net_{name}.pth: resnet" in capsys.readouterr().err


def test_weights_inside_a_state_dict_are_found() -> None:
    state = saved("G.pth", resnet(), 1)
    torch.save({"state_dict": state, "epoch": 7}, "G.pth")
    assert main(pix2pix(*STILL, "init_from=G.pth")) == 0
    assert_same_bits(part(newest("run")["model"], "generator"), dict(state))


def test_what_to_give_instead_of_a_checkpoint_or_a_folder_of_files(capsys) -> None:
    saved("own/latest_net_D.pth", patchgan(6), 1)
    saved("own/latest_net_G.pth", resnet(), 1)
    said = refused(capsys, pix2pix("trainer.steps=1", "init_from=own"))
    names = "latest_net_D.pth, latest_net_G.pth"
    assert f"no checkpoint in this folder, only {names}: give one of them, init_from=own/latest_net_G.pth" in said
    torch.save({"format": 2, "step": 3}, "own/model.pth")
    said = refused(capsys, pix2pix("trainer.steps=1", "init_from=own/model.pth"))
    assert "a checkpoint of gantrain, not bare weights: give init_from=own instead" in said
    torch.save({"format": 2, "step": 3}, "own/step_3.pt")
    said = refused(capsys, pix2pix("trainer.steps=1", "init_from=own/step_3.pt"))
    assert "give the run folder, init_from=own" in said


def test_a_run_of_other_networks_is_refused_with_the_keys_that_differ(train) -> None:
    train("first", "trainer.steps=1")
    config = newest("first")["config"]

    def refusal(*overrides: str) -> str:
        train("second", "trainer.steps=1", "resume=never", *overrides)
        second = newest("second")["config"]
        with pytest.raises(ConfigError) as refused:
            load_networks(gantrain.load("checkpoints/second"), Path("checkpoints/first"), second)
        return str(refused.value)

    assert config["network"]["width"] == 4
    here = "init_from=checkpoints/first: that run has "
    assert refusal("network.width=6") == f"{here}network.width=4 (here 6): give network.width=4"
    assert refusal("network.generator.width=6") == (
        f"{here}network.generator.width=4 (here 6): give network.generator.width=4"
    )
    assert refusal("network/generator=mlp") == f"{here}network/generator=dcgan (here mlp): give network/generator=dcgan"
    assert refusal("model=cgan") == f"{here}model=dcgan (here cgan): give model=dcgan"
    # another model of the same networks may take them
    train("third", "model=lsgan", "trainer.steps=1", "network.norm=batch")
    load_networks(gantrain.load("checkpoints/third"), Path("checkpoints/first"), newest("third")["config"])


def test_a_run_of_another_kind_is_refused_without_a_list_of_keys(train) -> None:
    train("first", "trainer.steps=1")
    assert main(pix2pix(*STILL)) == 0
    with pytest.raises(ConfigError) as refused:
        load_networks(gantrain.load("checkpoints/first"), Path("checkpoints/run"), newest("first")["config"])
    assert "network/generator=unet (here dcgan), network/discriminator=patchgan (here dcgan)" in str(refused.value)
    assert len(str(refused.value)) < 300
    with pytest.raises(ConfigError, match="does not fit this one") as refused:  # where nobody knows the configuration
        load_networks(gantrain.load("checkpoints/first"), Path("checkpoints/run"))
    assert len(str(refused.value)) < 500
