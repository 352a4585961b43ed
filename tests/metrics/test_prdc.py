"""Precision, recall, density and coverage against loops and torch-fidelity."""

from __future__ import annotations

import pytest
from conftest import assert_mentions
from feature_sets import extracted
from torch import Tensor
from torch_fidelity.metric_prc import prc_features_to_metric

from gantrain.errors import ConfigError
from gantrain.metrics import prdc
from gantrain.metrics.prdc import PrecisionRecall


@pytest.mark.parametrize("chunk", [2**23, 100])
def test_all_four_are_those_of_loops_in_float64(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prdc, "CHUNK", chunk)
    fake, real = extracted(40, 1), extracted(31, 5)
    fakes, reals = fake.features.double(), real.features.double()

    def balls(rows: Tensor, k: int, points: Tensor) -> list[list[bool]]:
        """For each row, which points are within the distance of its k-th nearest neighbour."""
        radii = [sorted((row - other).norm().item() for other in rows)[k] for row in rows]
        return [
            [(row - point).norm().item() <= radius for point in points] for row, radius in zip(rows, radii, strict=True)
        ]

    precision = [any(ball) for ball in zip(*balls(reals, 3, fakes), strict=True)]
    recall = [any(ball) for ball in zip(*balls(fakes, 3, reals), strict=True)]
    dense = balls(reals, 5, fakes)
    expected = {
        "precision": sum(precision) / 40,
        "recall": sum(recall) / 31,
        "density": sum(map(sum, dense)) / (5 * 40),
        "coverage": sum(map(any, dense)) / 31,
    }
    assert all(0 < value < 1 for value in expected.values())
    assert len(set(expected.values())) == 4
    found = PrecisionRecall(k=3, density_k=5).compute(fake, real, seed=0)
    assert found == pytest.approx(expected, rel=1e-12)


def test_precision_and_recall_are_torch_fidelitys() -> None:
    fake, real = extracted(200, 1), extracted(150, 5)
    library = prc_features_to_metric(
        fake.features.double(), real.features.double(), prc_neighborhood=3, prc_batch_size=64, verbose=False
    )
    found = PrecisionRecall(k=3, density_k=5).compute(fake, real, seed=0)
    assert found["precision"] == pytest.approx(library["precision"], rel=1e-6)
    assert found["recall"] == pytest.approx(library["recall"], rel=1e-6)
    assert found["precision"] != found["recall"]


def test_too_few_images_are_refused_and_classes_of_so_few_have_no_numbers() -> None:
    metric = PrecisionRecall(k=3, density_k=5)
    metric.check(None, (1, 8, 8), generated=6, real=6)
    with pytest.raises(ConfigError) as refusal:
        metric.check(None, (1, 8, 8), generated=5, real=6)
    assert_mentions(str(refusal.value), "metrics=prdc", "5 generated", "6 images", "metrics.prdc.density_k=5")
    assert metric.compute(extracted(5, 1), extracted(9, 1), seed=0) == {}
