"""Dry runs without data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gantrain.cli.main import main
from gantrain.data.base import collate
from gantrain.data.stand_in import RandomImages, StandIn, is_missing

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


def test_random_images_have_the_keys_that_a_model_needs() -> None:
    labelled = RandomImages.of({"mode": "digits", "load_size": 16}, frozenset({"image", "label"}))
    pairs = RandomImages.of({"mode": "aligned", "crop_size": 8, "channels": 1, "channels_b": 3}, frozenset({"a", "b"}))
    assert (labelled.keys, pairs.keys) == ({"image", "label"}, {"a", "b"})
    for images, shapes in ((labelled, {"image": (1, 16, 16)}), (pairs, {"a": (1, 8, 8), "b": (3, 8, 8)})):
        batch = images.items([0, 63, 64], [0, 0, 0])
        expected = collate([images.item(index, 0) for index in (0, 63, 64)])
        assert batch.keys() == expected.keys()
        for key, shape in shapes.items():
            assert tuple(batch[key].shape) == (3, *shape)
            assert torch.equal(batch[key], expected[key])
            assert batch[key].float().std() > 60  # Uniform bytes have 74.
    assert torch.equal(labelled.items([1, 2], [0, 0])["label"], torch.tensor(labelled.labels[1:3]))
    assert set(labelled.labels) == set(range(10))
