"""The Fréchet distance against closed forms and other libraries' computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import assert_mentions
from feature_sets import extracted
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from gantrain.errors import ConfigError
from gantrain.metrics.frechet import (
    FrechetDistance,
    Moments,
    frechet_distance,
    moments,
    moments_distance,
    singular_distance,
)


def test_the_distance_of_two_gaussians_is_their_closed_form() -> None:
    draws = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 12, generator=draws, dtype=torch.float64)
    means = torch.randn(2, 12, generator=draws, dtype=torch.float64)
    expected = (means[0] - means[1]).square().sum() + (first.sqrt() - second.sqrt()).square().sum()
    basis = torch.linalg.qr(torch.randn(12, 12, generator=draws, dtype=torch.float64)).Q
    one, other = (Moments(m, basis * v @ basis.T) for m, v in zip(means, (first, second), strict=True))
    assert moments_distance(one, other) == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (30, 21), (60, 80), (21, 700), (500, 400)])
def test_both_routes_torch_fidelity_and_scipy_agree(n: int, m: int) -> None:
    one, other = extracted(n, 1).features, extracted(m, 2).features
    found = singular_distance(one, other)
    assert moments_distance(moments(one), moments(other)) == pytest.approx(found, rel=1e-6)
    assert frechet_distance(one, other) == pytest.approx(found, rel=1e-6)
    statistics = [fid_features_to_statistics(each.double()) for each in (one, other)]
    library = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert found == pytest.approx(library, rel=1e-4)
    a, b = (torch.cov(each.double().T).numpy() for each in (one, other))
    trace = np.trace(sqrtm(a @ b + np.eye(len(a)) * 1e-12)).real
    mean = (one.double().mean(dim=0) - other.double().mean(dim=0)).square().sum().item()
    assert found == pytest.approx(mean + np.trace(a) + np.trace(b) - 2 * trace, rel=1e-4)


def test_the_route_is_the_one_with_fewer_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    module = "gantrain.metrics.frechet"
    monkeypatch.setattr(f"{module}.singular_distance", lambda *_: taken.append("values") or 0.0)
    monkeypatch.setattr(f"{module}.moments_distance", lambda *_: taken.append("moments") or 0.0)
    for n, m in [(2, 1000), (40, 30), (100, 100), (1000, 1000)]:
        frechet_distance(torch.zeros(n, 40), torch.zeros(m, 40))
    assert taken == ["values", "values", "moments", "moments"]


def test_equal_features_have_no_distance() -> None:
    features = extracted(50, 3).features
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-10)


def test_one_image_is_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        FrechetDistance().check(None, (1, 8, 8), generated=1, real=5)
    assert_mentions(str(refusal.value), "metrics=fid", "1 generated", "2 images")
