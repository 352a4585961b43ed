"""Files for pytorch-CycleGAN-and-pix2pix: its keys and shapes, and what it can't build is refused."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_mentions
from exported import source_of

from gantrain.checkpoints.reference_weights import read_reference
from gantrain.data.base import ImageSpec
from gantrain.errors import ConfigError
from gantrain.exports.reference import ReferenceFormat

STATES = json.loads((Path(__file__).parents[1] / "checkpoints/reference-state-dicts.json").read_text())
FORM = ReferenceFormat()
LARGE = ImageSpec(height=128, width=128, channels={"a": 3, "b": 3}, depth={"a": "uint8", "b": "uint8"})


@pytest.mark.parametrize(
    ("generator", "keys", "entry"),
    [
        ("resnet", {"blocks": 6, "norm": "instance"}, "netG=resnet_6blocks norm=instance dropout=True ngf=64 3->3"),
        ("resnet", {"blocks": 9, "norm": "batch"}, "netG=resnet_9blocks norm=batch dropout=True ngf=64 3->3"),
        ("unet", {"depth": 7, "norm": "batch"}, "netG=unet_128 norm=batch dropout=True ngf=64 3->3"),
        ("unet", {"depth": None, "norm": "instance"}, "netG=unet_128 norm=instance dropout=True ngf=64 3->3"),
    ],
)
def test_the_files_have_the_keys_of_the_original(generator: str, keys: dict[str, Any], entry: str) -> None:
    source = source_of("pix2pix", generator, spec=LARGE, width=2, **keys)
    FORM.write([source], Path())
    assert [path.name for path in Path().iterdir()] == ["latest_net_G.pth"]
    state = torch.load("latest_net_G.pth", weights_only=True)

    def scaled(shape: list[int]) -> list[int]:  # The file of the original has 64 channels where this has 2.
        return [size // 32 if size >= 64 else size for size in shape]

    assert {key: list(value.shape) for key, value in state.items()} == {
        key: scaled(shape) for key, shape in STATES[entry].items()
    }
    assert FORM.difference([source], Path()) == 0
    (line,) = FORM.usage([source], Path("a b/x"))
    words = shlex.split(line)
    options = dict(zip(words[2::2], words[3::2], strict=False))
    wanted = dict(word.split("=") for word in entry.split()[:2])
    assert (options["--netG"], options["--norm"], options["--ngf"]) == (wanted["netG"], wanted["norm"], "2")
    assert (options["--checkpoints_dir"], options["--name"], options["--model"]) == ("a b", "x", "test")
    assert "--no_dropout" not in words


def test_both_directions_have_the_names_of_the_original() -> None:
    to_b = source_of("cyclegan", "resnet", blocks=6, norm="batch")
    to_b.model.image_statistics = False
    to_a = replace(to_b, direction="b_to_a")
    FORM.write([to_b, to_a], Path())
    for letter, network in (("A", to_b.model.generator_ab), ("B", to_b.model.generator_ba)):
        state = read_reference(Path(f"latest_net_G_{letter}.pth")).state
        assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    assert FORM.difference([to_b, to_a], Path()) == 0
    assert FORM.usage([to_b, to_a], Path("x"))[0].endswith("--eval --model cycle_gan")
    Path("latest_net_G_B.pth").write_bytes(Path("latest_net_G_A.pth").read_bytes())
    assert FORM.difference([to_b, to_a], Path()) > 1
    assert FORM.usage([to_a], Path("x"))[0].endswith("--model test --dataset_mode single --model_suffix _B")


@pytest.mark.parametrize(
    ("generator", "keys", "parts"),
    [
        ("unet_resize", {}, ["unet_resize", "resnet and unet"]),
        ("resnet", {"blocks": 3}, ["blocks=9 or 6", "3"]),
        ("resnet", {"blocks": 6, "norm": "spectral"}, ["norm=batch or sync_batch or instance or none", "spectral"]),
        ("resnet", {"blocks": 6, "downsamplings": 1}, ["downsamplings=2", "1"]),
        ("resnet", {"blocks": 6, "upsample": "resize"}, ["upsample=transposed", "resize"]),
        ("resnet", {"blocks": 6, "antialias": True}, ["antialias=False", "True"]),
        ("resnet", {"blocks": 6, "padding": "replicate"}, ["padding=reflection", "replicate"]),
        ("unet", {}, ["depth=7 or 8", "5"]),
        ("unet", {"skips": False}, ["skips=True", "False"]),
    ],
)
def test_what_the_original_can_not_build_is_refused(generator: str, keys: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        FORM.write([source_of("pix2pix", generator, **keys)], Path())
    assert_mentions(str(error.value), "format=reference", *parts)
    assert not list(Path().iterdir())
