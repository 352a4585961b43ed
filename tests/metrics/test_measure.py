"""What is measured, on which images, and that the numbers depend on nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_mentions
from measurable import KEYS, Numbered, measurement, model
from tiny import CPU, build_translator
from torch import Tensor

from gantrain.data.base import Batch, ImageDataset, ImageSpec
from gantrain.data.sets.digits import Digits
from gantrain.errors import ConfigError
from gantrain.metrics.base import FeatureMetric, MeasurementError
from gantrain.metrics.build import build_measurement
from gantrain.metrics.frechet import frechet_distance
from gantrain.metrics.samples import generate
from gantrain.registry import METRICS
from gantrain.runtime import distributed

HERE = Path(__file__).parent


def work() -> None:
    """What each of the two processes does."""
    distributed.join(CPU)
    dataset = Numbered(100)
    torch.save(measurement(dataset)(model(dataset, "cgan")), f"rank_{distributed.rank()}.pt")


@pytest.mark.usefixtures("warm_python")
def test_two_ranks_measure_the_same_numbers_as_one() -> None:
    Path("work.py").write_text("from test_measure import work\nwork()\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "work.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GANTRAIN_CACHE": str(Path("other").absolute())}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), *sys.path])
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    dataset = Numbered(100)
    alone = measurement(dataset)(model(dataset, "cgan"))
    assert {"fid", "fid_class_even", "fid_class_odd"} <= alone.keys()
    for rank in (0, 1):
        assert torch.load(f"rank_{rank}.pt", weights_only=True) == pytest.approx(alone, rel=1e-9)


def test_the_number_is_that_of_the_features_of_all_images() -> None:
    dataset = Numbered(70)
    measured = measurement(dataset)
    network = measured.features
    assert network is not None
    gan = model(dataset)
    generated = torch.cat([generate(gan, range(start, start + 64), seed=0)[0] for start in (0, 64, 128)])[:150]
    real = torch.stack([dataset.item(index, 0)["image"] for index in range(70)])
    one, other = (network(images)[0] for images in (generated, real))
    assert measured(gan)["fid"] == pytest.approx(frechet_distance(one, other), rel=1e-6)
    assert generated.dtype == torch.uint8


def test_an_image_depends_on_the_seed_and_its_number_alone() -> None:
    gan = model(Numbered(4), "cgan")
    images, labels = generate(gan, range(64, 128), seed=1)
    torch.manual_seed(5)
    again, same = generate(gan, range(64, 128), seed=1)
    assert images.equal(again)
    assert labels is not None
    assert same is not None
    assert labels.equal(same)
    assert not images.equal(generate(gan, range(64, 128), seed=2)[0])
    assert not images.equal(generate(gan, range(64), seed=1)[0])


def test_both_phases_are_one_after_another() -> None:
    train_set, test_set = Numbered(60), Numbered(40)
    both = measurement(train_set, test_set, against="both")
    assert "100 train and test" in both.protocol(averaged=False)
    assert "40 test" in measurement(train_set, test_set, against="test").protocol(averaged=False)
    assert "60 train" in measurement(train_set, test_set).protocol(averaged=False)
    labels = both.comparisons[0].real.labels
    assert labels is not None
    assert labels.tolist() == [*train_set.labels, *test_set.labels]


def test_the_number_of_real_images_may_be_limited() -> None:
    measured = measurement(Numbered(60), real=20)
    assert "150 fake vs 20 train" in measured.protocol(averaged=False)
    assert len(measured.comparisons[0].real.dataset) == 20


def test_the_protocol_names_everything_that_the_number_depends_on() -> None:
    protocol = measurement(Numbered(20), seed=3).protocol(averaged=True)
    assert "clean" not in protocol  # The network has its own way of resizing.
    assert_mentions(protocol, "digits ", "150 fake vs 20 train", "moving average", "seed 3")


@pytest.mark.parametrize(
    ("keys", "channels", "words"),
    [
        ({}, 3, ["takes 1 channel", "have 3", "metrics.channels=[0]"]),
        ({"channels": [5]}, 3, ["metrics.channels=[5]", "have 3"]),
        ({"against": "test"}, 1, ["metrics.against=test", "metrics.against=train"]),
        ({"features": "nix"}, 1, ["nix", "digits"]),
        ({"samples": 1}, 1, ["metrics.samples", "1"]),
        ({"fid": {"name": "fid", "size": 3}}, 1, ["metrics.fid.size"]),
        ({"fidd": 3}, 1, ["metrics.fidd", "fid"]),
    ],
)
def test_what_can_not_be_measured_is_refused(keys: dict[str, Any], channels: int, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        measurement(Numbered(10, channels=channels), **keys)
    assert_mentions(str(error.value), *words)


def test_one_real_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="metrics=fid needs 2 images"):
        measurement(Numbered(1))


def test_chosen_channels_are_measured() -> None:
    dataset = Numbered(20, channels=3)
    assert "fid" in measurement(dataset, channels=[1])(model(dataset))


def test_a_metric_that_fails_is_one_warning(monkeypatch, capsys) -> None:
    class Failing(FeatureMetric):
        higher_is_better = {"failing": False}

        def compute(self, generated: Any, real: Any, *, seed: int) -> dict[str, float]:
            raise ArithmeticError("no such number")

    monkeypatch.setitem(METRICS._classes, "failing", Failing)
    dataset = Numbered(20)
    numbers = measurement(dataset, failing={"name": "failing"})(model(dataset))
    assert numbers.keys() == {"fid"}
    assert_mentions(capsys.readouterr().err, "warning: metrics=failing", "no such number")


def test_labels_are_judged_by_a_network_that_knows_the_classes() -> None:
    digits = Digits(load_size=32, phase="test")
    gan = model(digits, "cgan")
    measured = measurement(digits, samples=64)
    images = {label: digits.item(digits.labels.index(label), 0)["image"] for label in range(10)}

    def drawn(latent: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        shown = torch.stack([images[(int(label) + (number % 4 == 0)) % 10] for number, label in enumerate(labels)])
        return shown.float() / 127.5 - 1

    gan.generate = drawn  # type: ignore[method-assign]
    assert measured(gan)["accuracy"] == 0.75  # Every fourth image is the next digit.


class Named(Numbered):
    """The same with names of classes that may be numbered in another order."""

    def use_class_names(self, names: Sequence[str]) -> None:
        self.labels = [names.index(self.spec.class_names[label]) for label in self.labels]
        self.spec = replace(self.spec, class_names=tuple(names))


@pytest.mark.parametrize("keys", [{}, {"against": "both"}, {"real": 31}])
def test_classes_are_numbered_as_in_the_run_that_is_resumed(keys: dict[str, Any]) -> None:
    train_set, test_set = Named(60), Named(40)
    gan = model(train_set, "cgan")
    measured = measurement(train_set, test_set, **keys)
    names = ["odd", "even"]
    for dataset in (train_set, test_set):
        dataset.use_class_names(names)
    measured.use_class_names(names, train_set.spec)
    found = measured(gan)
    assert found == measurement(train_set, test_set, **keys)(gan)
    assert found["fid_class_odd"] != found["fid_class_even"]


class Pairs(ImageDataset):
    """Pairs of gray images, the first ``unreadable`` of which can't be read."""

    def __init__(self, size: int, unreadable: int) -> None:
        self.spec = ImageSpec(32, 32, {"a": 1, "b": 1}, {"a": "uint8", "b": "uint8"})
        self.size, self.unreadable, self.fingerprint = size, unreadable, f"{size} pairs, {unreadable} unreadable"

    def __len__(self) -> int:
        return self.size

    def item(self, index: int, seed: int) -> Batch:
        if index < self.unreadable:
            raise ConfigError("unreadable")
        images = torch.randint(256, (2, 1, 32, 32), generator=torch.Generator().manual_seed(index), dtype=torch.uint8)
        return {"a": images[0], "b": images[1], "name": str(index)}


def test_a_block_of_unreadable_images_is_left_out_of_a_translation() -> None:
    """Blocks are of 64 images."""
    keys = {**KEYS, "l1": {"name": "l1"}}
    found = []
    for dataset in (Pairs(74, 64), Pairs(74, 70), Pairs(74, 74)):
        gan = build_translator("pix2pix", spec=dataset.spec).float().eval()
        measured = build_measurement(keys, {"mode": "mine"}, gan, dataset, dataset, CPU, on_error="skip")
        assert measured is not None
        if dataset.unreadable < len(dataset):
            found.append(measured(gan))
        else:
            with pytest.raises(MeasurementError, match="no image can be read"):
                measured(gan)
    assert all({"fid", "l1"} == numbers.keys() for numbers in found)
    assert found[0]["l1"] != found[1]["l1"]
    strict = build_measurement(keys, {"mode": "mine"}, gan, Pairs(74, 64), Pairs(74, 64), CPU)
    assert strict is not None
    with pytest.raises(MeasurementError, match="unreadable"):
        strict(gan)


def test_held_out_images_that_can_not_be_read_change_no_number() -> None:
    dataset, broken = Numbered(70), Numbered(20)
    broken.fingerprint = "can't be read"
    gan = model(dataset)
    expected = measurement(dataset)(gan)

    def unreadable(index: int, seed: int) -> Batch:
        raise ConfigError("unreadable")

    broken.item = unreadable  # type: ignore[method-assign]
    found: list[object] = []
    watched = measurement(dataset, broken)
    watched.observers.append(lambda *shown: found.append(shown[-1]))
    assert watched(gan) == expected
    assert found == [None]
