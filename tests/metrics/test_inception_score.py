"""The Inception score against torch-fidelity."""

from __future__ import annotations

import pytest
import torch
from conftest import assert_mentions
from feature_sets import CLASSES, extracted
from torch import Tensor
from torch_fidelity.metric_isc import isc_features_to_metric

from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted, Features
from gantrain.metrics.inception_score import InceptionScore


@pytest.mark.parametrize(("count", "splits"), [(53, 10), (40, 4), (10, 10), (7, 1)])
def test_the_score_is_torch_fidelitys(count: int, splits: int) -> None:
    images = extracted(count, 1)
    library = isc_features_to_metric(images.logits, splits=splits, shuffle=True, rng_seed=3)
    found = InceptionScore(splits=splits).compute(images, extracted(2, 2), seed=3)
    assert found["is"] == pytest.approx(library["inception_score_mean"], rel=1e-9)
    assert found["is_std"] == pytest.approx(library["inception_score_std"], rel=1e-9, abs=1e-12)


def test_clear_and_equally_frequent_classes_score_their_number() -> None:
    clear = Extracted(torch.zeros(5 * CLASSES, 1), logits=60 * torch.eye(CLASSES).repeat(5, 1))
    assert InceptionScore(splits=1).compute(clear, clear, seed=0)["is"] == pytest.approx(CLASSES)


def test_a_class_with_fewer_images_than_splits_has_no_score() -> None:
    assert InceptionScore(splits=10).compute(extracted(9, 1), extracted(9, 1), seed=0) == {}


class NoClassifier(Features):
    """Features without logits."""

    identity, channels, dim = "plain 01234567", 1, 4

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return images.flatten(1)[:, :4].float(), None


def test_a_network_without_logits_is_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        InceptionScore(splits=10).check(NoClassifier(), (1, 8, 8), generated=100, real=100)
    assert_mentions(str(refusal.value), "metrics=is", "metrics.features=plain", "metrics.features=inception")


def test_fewer_images_than_splits_are_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        InceptionScore(splits=10).check(None, (1, 8, 8), generated=9, real=100)
    assert_mentions(str(refusal.value), "metrics.is.splits=10", "9 generated", "metrics.samples")
