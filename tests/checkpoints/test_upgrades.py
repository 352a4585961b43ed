"""Checkpoints of older formats."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from conftest import newest

from gantrain.checkpoints.upgrades import FORMAT, upgraded
from gantrain.cli.main import main

# The values of the acgan of these runs, whose recipe has others today.
ACGAN = [
    "model.lambda_class=1.0",
    "model.classify_generated=true",
    "model.r1=0.0",
    "network.discriminator.norm=batch",
    "network.discriminator.dropout=0.5",
]
CONSTANT = ["model.ema_rampup=0.0"]  # Of the averages of these runs, which ramp up today.
FORMATS = sorted(Path(__file__).parent.glob("format_*"))


def test_missing_keys_get_the_values_that_old_versions_had() -> None:
    config = {
        "network": {"width": 8},
        "data": {"mode": "single", "root": "x", "batch_size": 2},
        "trainer": {"epochs": 2.0},
    }
    before = deepcopy(config)
    state = {"format": 1, "config": config, "spec": {"height": 16}, "step": 3, "position": 6, "images": 6}
    new = upgraded({**state, "overrides": ["model=gan"]})
    assert new["format"] == FORMAT
    assert new["config"]["network"] == {"width": 8, "norm": "batch", "dropout": 0.0, "antialias": False}
    assert new["config"]["data"] == {
        "mode": "single",
        "root": "x",
        "batch_size": 2,
        "list": None,
        "fraction": None,
        "preprocess": None,
        "range": None,
        "depth": "auto",
        "decoder": "exact",
        "balance": False,
        "decode_device": "cpu",
    }
    assert new["spec"] == {"height": 16, "ranges": {}}
    assert new["step"] == 3
    assert new["rollbacks"] == 0
    assert new["objective"]["best"] is None
    assert new["origin"] == {"number": 0, "images": 0, "epochs": 0.0}
    assert new["plan"] == {"unit": "image", "start": 0, "end": 12, "last": 8 / 12}  # The last step began at image 8.
    assert new["segments"] == [{"step": 0, "command": "gantrain train model=gan", "changes": {}}]
    assert config == before  # The old one is left alone.


def test_the_discriminator_of_an_old_acgan_classifies_generated_images() -> None:
    config = {"model": {"name": "acgan"}, "data": {"batch_size": 1}, "trainer": {"steps": 5}}
    state = {"format": 3, "config": config, "step": 0, "position": 0, "overrides": []}
    assert upgraded(state)["config"]["model"] == {"name": "acgan", "classify_generated": True}


def test_a_classifying_critic_of_format_4_has_its_weight_and_its_accuracy() -> None:
    objective = {"metric": "accuracy", "mode": "max", "value": 0.5, "best": 0.5, "names": {"metrics": ["accuracy"]}}
    config = {"model": {"name": "sgan"}, "objective": {"metric": "accuracy"}}
    new = upgraded({"format": 4, "config": config, "objective": objective})
    assert new["config"] == {
        "model": {"name": "sgan", "lambda_class": 1.0, "critic_lambda_class": 1.0},
        "objective": {"metric": "held_out_accuracy"},
        "data": {"balance": False, "decode_device": "cpu"},
    }
    assert new["objective"]["metric"] == "held_out_accuracy"
    assert new["objective"]["names"] == {"metrics": ["held_out_accuracy"]}
    assert new["objective"]["best"] == 0.5


@pytest.mark.parametrize("name", ["dcgan", "pix2pix", "my_plugin"])
def test_discriminators_and_averages_of_format_5_are_as_they_were(name: str) -> None:
    new = {"r1": 0.0, "r2": 0.0, "r1_every": 1, "augment": []}
    new |= {"augment_target": 0.6, "augment_every": 4, "augment_kimg": 500.0}
    for decay, rampup in ((0.0, 0.05), (0.9, 0.0)):  # Without averages it has no effect, and new runs have 0.05.
        model = {"name": name, "gradient_penalty": 0.0, "ema": decay}
        found = upgraded({"format": 5, "config": {"model": model}})["config"]["model"]
        assert found == {**model, **new, "ema_rampup": rampup}
    other = {"format": 5, "config": {"model": {"name": "of_another_kind", "ema": 0.0}}}
    assert upgraded(other)["config"] == {**other["config"], "data": {"balance": False, "decode_device": "cpu"}}


def test_discriminators_of_format_6_have_one_scale() -> None:
    networks = {"generator": {"name": "unet"}, "discriminator": {"name": "patchgan", "layers": 2}}
    model = {"name": "pix2pix", "lambda_l1": 1.0, "augment": []}
    new = upgraded({"format": 6, "config": {"model": model, "network": networks}})["config"]
    ada = {"augment_target": 0.6, "augment_every": 4, "augment_kimg": 500.0}
    assert new["model"] == {**model, **ada, "lambda_features": 0.0, "lambda_lpips": 0.0}
    assert new["network"]["discriminator"] == {"name": "patchgan", "layers": 2, "scales": 1, "antialias": False}
    for other in ({"name": "cyclegan", "cycle_loss": "l1"}, {"name": "of_a_plugin"}):
        networks = {"discriminator": {"name": "dcgan"}}
        new = upgraded({"format": 6, "config": {"model": other, "network": networks}})["config"]
        assert new["network"] == {"antialias": False, **networks}
        assert new["model"] == {**other, **({"lambda_features": 0.0} if "cycle_loss" in other else {})}


def test_networks_of_format_6_have_no_filters_against_aliasing() -> None:
    network = {"generator": {"name": "resnet", "blocks": 9}, "discriminator": {"name": "pixelgan"}}
    old = {"format": 6, "config": {"network": network}}
    assert upgraded(old)["config"]["network"] == {
        "antialias": False,
        "generator": {"antialias": False, "name": "resnet", "blocks": 9},
        "discriminator": {"name": "pixelgan"},
    }
    assert "antialias" not in network["generator"]


def test_a_checkpoint_of_the_newest_format_is_not_changed() -> None:
    state = {"format": FORMAT, "config": {}}
    assert upgraded(state) is state


@pytest.mark.parametrize("mode", ["edges2digits", "digits2stripes", "aligned", "unaligned"])
def test_images_of_old_formats_were_decoded_exactly(mode: str) -> None:
    config = {"network": {}, "data": {"mode": mode, "batch_size": 1}, "trainer": {"steps": 5}}
    state = {"format": 2, "config": config, "spec": {}, "step": 0, "position": 0, "overrides": []}
    data = {
        "mode": mode,
        "batch_size": 1,
        "fraction": None,
        "decoder": "exact",
        "balance": False,
        "decode_device": "cpu",
    }
    assert upgraded(state)["config"]["data"] == data


def test_a_checkpoint_of_every_format_is_stored_here() -> None:
    formats = [torch.load(folder / "step_2.pt", weights_only=True)["format"] for folder in FORMATS]
    assert formats == list(range(1, FORMAT + 1))


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
def test_a_run_of_every_format_resumes_by_its_own_command(folder: Path, capsys) -> None:
    overrides = torch.load(folder / "step_2.pt", weights_only=True)["overrides"]
    name = next(override for override in overrides if override.startswith("name=")).removeprefix("name=")
    shutil.copytree(folder, Path("checkpoints") / name)
    averaged = CONSTANT if "model.ema=" in " ".join(overrides) and folder.name < "format_6" else []
    assert main(["train", *overrides, *averaged, *(ACGAN if "model=acgan" in overrides else [])]) == 0
    assert "is finished at step 2" in capsys.readouterr().err
    assert main(["resume", name, "trainer.steps=3"]) == 0
    assert newest(name)["step"] == 3
    assert newest(name)["format"] == FORMAT
    assert torch.load(f"checkpoints/{name}/step_3.pt", weights_only=True)["format"] == FORMAT
    rates = [side["optimizer"]["param_groups"][0]["lr"] for side in newest(name)["updates"]["players"]]
    before = torch.load(folder / "step_2.pt", weights_only=True)["updates"]["players"]
    assert rates == [side["optimizer"]["param_groups"][0]["lr"] for side in before]
