"""Features of generated images that are alike, or copies of those of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import assert_mentions
from noted_runs import LEARNING, notes
from torch import Tensor

from gantrain.cli.main import main
from gantrain.data.base import ImageSpec
from gantrain.metrics.base import Extracted
from gantrain.metrics.reference import Comparison, Reference
from gantrain.training import diagnostics
from gantrain.training.diagnostics import Diagnostics, distance_to, spread, spread_share


def normal(count: int, seed: int) -> Tensor:
    """Features (count, 6)."""
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def test_the_spread_of_features_is_that_of_numpy_and_scikit_learn() -> None:
    features = normal(50, 0).double()
    deviation, distance = spread(features)
    assert deviation == pytest.approx(np.sqrt(np.trace(np.cov(features.numpy(), rowvar=False))), rel=1e-12)
    pairs = np.linalg.norm(features.numpy()[:, None] - features.numpy()[None], axis=2)
    assert distance == pytest.approx(np.sort(pairs, axis=1)[:, 1].mean(), rel=1e-7)


def test_few_images_repeated_are_told_from_many_different_ones() -> None:
    few = normal(5, 1).repeat(20, 1)
    deviation, nearest = spread_share(few, normal(300, 2))
    assert 0.5 < deviation < 1.5  # Five modes vary as much,
    assert nearest == pytest.approx(0, abs=1e-6)  # and are the same images again and again.
    assert spread_share(normal(100, 3), normal(300, 2)) == pytest.approx((1, 1), abs=0.1)
    assert spread_share(normal(7, 1) * 0, normal(7, 2)) == (1, 1)  # Too few to tell.
    assert spread_share(normal(9, 1), normal(9, 2) * 0) == (1, 1)


class Described:
    """The data set of a comparison."""

    spec = ImageSpec(4, 4, {"image": 1}, {"image": "uint8"}, ("zero", "one"))


def collapses(watch: Diagnostics, generated: Tensor, progress: float, suffix: str = "", **labels: Tensor) -> str:
    """The note of a measurement of these features, or nothing."""
    comparison = Comparison(Reference(Described(), "image", "", {}), suffix=suffix)
    real = Extracted(normal(200, 9), labels=torch.arange(200) % 2)
    watch.observe_features(comparison, Extracted(generated, **labels), real, None)
    return " ".join(watch.measured(progress))


def test_features_that_have_become_alike_are_a_collapse() -> None:
    watch = Diagnostics(dict, {})
    found = [collapses(watch, normal(100, 0) * scale, 0.1) for scale in (0.05, 0.05, 0.05, 1, 0.05, 0.05, 0.05)]
    assert [bool(each) for each in found] == [False] * 6 + [True]  # At first the generator was untrained.
    assert_mentions(found[-1], "mode collapse", "5% as much", "5% as far")
    late = Diagnostics(dict, {})
    assert "a to b" in [collapses(late, normal(100, 0) * 0.05, 0.6, "_a_to_b") for _ in range(3)][-1]


def test_the_last_measurement_of_a_run_is_enough_for_a_collapse() -> None:
    for varied, reported in ((True, True), (False, False)):
        watch = Diagnostics(dict, {})
        collapses(watch, normal(100, 0) * (1 if varied else 0.05), 0.2)
        assert bool(collapses(watch, normal(100, 0) * 0.05, 1.0)) == reported
        assert not collapses(watch, normal(100, 0) * 0.05, 1.0)  # Only once.


def test_a_single_class_of_equal_images_is_a_collapse() -> None:
    watch = Diagnostics(dict, {})
    labels = torch.arange(100) % 2
    generated = torch.where((labels == 1)[:, None], normal(100, 0) * 0.01, normal(100, 0))
    found = [collapses(watch, generated, 0.9, labels=labels) for _ in range(3)]
    assert_mentions(found[-1], "of the class one are alike", "1% as much")


def test_a_collapse_seen_in_pixels_is_not_reported_again() -> None:
    watch = Diagnostics(dict, {"collapse": 3})
    assert [collapses(watch, normal(100, 0) * 0.05, 0.9) for _ in range(4)] == [""] * 4


def memorises(watch: Diagnostics, generated: Tensor) -> str:
    """The note of a measurement of these features, of a run that is trained with 200 images."""
    comparison = Comparison(Reference(Described(), "image", "", {}))
    parts = (Extracted(features) for features in (generated, normal(200, 9), normal(100, 10)))
    watch.observe_features(comparison, *parts)
    return " ".join(watch.measured(0.1))


def test_the_distance_to_training_is_the_median_of_those_to_the_nearest() -> None:
    real, unseen = normal(200, 9), normal(91, 10)
    nearest = [np.linalg.norm(real.numpy() - each, axis=1).min() for each in unseen.numpy()]
    assert distance_to(real, unseen) == pytest.approx(np.median(nearest), rel=1e-4)


def test_copies_of_training_images_are_memorised_ones() -> None:
    watch = Diagnostics(dict, {})
    copies, new = normal(200, 9)[:150] + 0.02 * normal(150, 3), normal(150, 4)
    found = [memorises(watch, each) for each in (copies, copies, new, copies, copies, copies, copies)]
    assert [bool(each) for each in found] == [False] * 5 + [True, False]
    assert_mentions(found[5], "memorising", "held-out", "gantrain test")
    alike = Diagnostics(dict, {})
    same = normal(200, 9)[:1].expand(150, 6)
    assert not any("memorising" in memorises(alike, same) for _ in range(4))  # It is a collapse.


@pytest.mark.parametrize(("against", "compared"), [("train", True), ("test", False)])
def test_held_out_images_are_compared_with_those_of_training(against: str, compared: bool, monkeypatch) -> None:
    found = []

    def near(real: Tensor, features: Tensor) -> float:
        found.append((len(real), len(features)))
        return 0.1 if len(features) == 64 else 1.0

    monkeypatch.setattr(diagnostics, "distance_to", near)
    monkeypatch.setattr(diagnostics, "spread_share", lambda generated, real: (1.0, 1.0))
    measured = ["metrics=fid", "metrics.samples=64", "metrics.every=1", f"metrics.against={against}"]
    typed = [word for word in LEARNING if word != "metrics=none"]
    assert main(["train", *typed, *measured, "name=run", "trainer.steps=3", "trainer.image_every=3"]) == 0
    assert found == [(4500, 100), *[(4500, 64)] * 3] * compared
    assert ("memorising" in notes()) == compared


def test_a_run_whose_features_collapse_is_told(monkeypatch, capsys) -> None:
    monkeypatch.setattr(diagnostics, "spread_share", lambda generated, real: (0.01, 0.02))
    measured = ["metrics=fid", "metrics.features=digits", "metrics.samples=64", "metrics.every=2", "data.max_size=128"]
    typed = [word for word in LEARNING if word != "metrics=none"]
    assert main(["train", *typed, *measured, "name=run", "trainer.steps=10", "trainer.image_every=10"]) == 0
    assert notes() == ["mode collapse"]
    assert_mentions(capsys.readouterr().err, "Note: step 10: mode collapse", "features vary by 1%")
