"""The kernel distance against torch-fidelity and sums over pairs."""

from __future__ import annotations

import pytest
import torch
from conftest import assert_mentions
from feature_sets import extracted
from torch_fidelity.metric_kid import kid_features_to_metric

from gantrain.errors import ConfigError
from gantrain.metrics import kid
from gantrain.metrics.kid import KernelDistance


@pytest.mark.parametrize("chunk", [2**23, 700])
def test_subsets_give_torch_fidelitys_mean(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kid, "CHUNK", chunk)
    one, other = extracted(90, 1), extracted(70, 2)
    found = KernelDistance(subsets=9, subset_size=40, degree=3).compute(one, other, seed=5)
    library = kid_features_to_metric(
        one.features.double(), other.features.double(), kid_subsets=9, kid_subset_size=40, rng_seed=5, verbose=False
    )
    assert found["kid"] == pytest.approx(library["kernel_inception_distance_mean"], rel=1e-9)


@pytest.mark.parametrize("chunk", [2**23, 50])
def test_the_unbiased_distance_is_that_of_all_pairs(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kid, "CHUNK", chunk)
    one, other = extracted(13, 1), extracted(8, 2)

    def mean(first: torch.Tensor, second: torch.Tensor, same: bool) -> float:
        values = [
            (float(x @ y) / first.shape[1] + 1) ** 2
            for i, x in enumerate(first.double())
            for j, y in enumerate(second.double())
            if not (same and i == j)
        ]
        return sum(values) / len(values)

    expected = mean(one.features, one.features, True) + mean(other.features, other.features, True)
    expected -= 2 * mean(one.features, other.features, False)
    found = KernelDistance(subsets=3, subset_size=100, degree=2).compute(one, other, seed=0)
    assert found == {"kid_unbiased": pytest.approx(expected, rel=1e-10)}  # Too few for subsets.


def test_subsets_of_all_images_are_the_unbiased_distance() -> None:
    one, other = extracted(30, 1), extracted(30, 2)
    found = KernelDistance(subsets=4, subset_size=30, degree=3).compute(one, other, seed=1)
    assert found["kid"] == pytest.approx(found["kid_unbiased"], rel=1e-10)


def test_one_image_is_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        KernelDistance(subsets=4, subset_size=30, degree=3).check(None, (1, 8, 8), generated=5, real=1)
    assert_mentions(str(refusal.value), "metrics=kid", "1 real", "2 images")
