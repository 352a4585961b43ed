"""Dry runs without data."""

from __future__ import annotations

from pathlib import Path

import pytest

from gantrain.cli.main import main
from gantrain.data.stand_in import StandIn, is_missing

EXPERIMENTS = ["gan_mnist", "sgan_mnist", "dcgan_cifar10", "dcgan_celeba", "lsgan_lsun_bedroom", "pix2pix_facades"]
SMALL = ["dry_run=true", "data.batch_size=2"]


@pytest.mark.parametrize("name", [*EXPERIMENTS, "cyclegan_maps", "colorization_imagenet", "pix2pix_thermal2color"])
def test_an_experiment_can_be_tried_without_its_data(name: str, capsys) -> None:
    width = [] if name == "gan_mnist" else ["network.width=2"]  # Its networks set their own.
    assert main(["train", f"experiment={name}", *SMALL, *width]) == 0
    assert "there is no data in" in capsys.readouterr().out
    assert list(Path().iterdir()) == []  # Nothing was downloaded.


def test_sizes_and_channels_are_those_of_the_configuration() -> None:
    data = {"crop_size": (32, 64), "channels": 1, "channels_b": 3, "direction": "b_to_a"}
    spec = StandIn(data, frozenset({"a", "b"}), labelled=False).spec
    assert (spec.shape("a"), spec.shape("b")) == ((3, 32, 64), (1, 32, 64))
    assert StandIn({"dataset": "MNIST", "load_size": 28}, frozenset({"image"}), labelled=True).spec.num_classes == 10


def test_only_data_that_does_not_exist_is_missing() -> None:
    Path("here/MNIST").mkdir(parents=True)
    assert not is_missing({"mode": "digits"})
    assert not is_missing({"mode": "single", "root": "here"})
    assert not is_missing({"mode": "single", "root": "there/*.png"})  # It may be mistyped, which is reported.
    assert not is_missing({"mode": "torchvision", "dataset": "MNIST", "root": "here"})
    assert is_missing({"mode": "torchvision", "dataset": "CIFAR10", "root": "here"})
    assert is_missing({"mode": "aligned", "root": "nowhere"})


def test_a_run_still_needs_its_data(capsys) -> None:
    assert main(["train", "data=single", "data.root=nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
