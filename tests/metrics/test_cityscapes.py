"""Scores of label images of Cityscapes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gantrain.metrics.cityscapes import CLASSES, IGNORED, CityscapesLabels, nearest_class

NAMES = ("pixel_accuracy", "class_accuracy", "class_iou")
COLOURS = np.array([*CLASSES.values(), *IGNORED.values()], dtype=np.float64)


def naive(generated: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """The scores of images (N, H, W, 3), pixel by pixel in float64."""
    table = np.zeros((19, 19))  # Real classes by generated ones.
    for one, other in zip(generated.reshape(-1, 3), real.reshape(-1, 3), strict=True):
        wanted = int(np.argmin([math.dist(other, colour) for colour in COLOURS]))
        found = int(np.argmin([math.dist(one, colour) for colour in COLOURS[:19]]))
        if wanted < 19:
            table[wanted, found] += 1
    right, real_pixels, generated_pixels = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    accuracies = [right[each] / real_pixels[each] for each in range(19) if real_pixels[each]]
    unions = real_pixels + generated_pixels - right
    ious = [right[each] / unions[each] for each in range(19) if unions[each]]
    values = right.sum() / table.sum(), sum(accuracies) / len(accuracies), sum(ious) / len(ious)
    return dict(zip(NAMES, values, strict=True))


def labels(seed: int, *, chosen: int = 29) -> np.ndarray:
    """Images (4, 8, 6, 3) uint8 of noisy colours."""
    random = np.random.default_rng(seed)
    exact = COLOURS[random.integers(0, chosen, (4, 8, 6))]
    return (exact + random.normal(0, 12, exact.shape)).clip(0, 255).round().astype(np.uint8)


def scores(generated: np.ndarray, real: np.ndarray, *, size: int = 4) -> dict[str, float]:
    """Those of the metric, whose pairs come in batches of ``size``."""
    metric = CityscapesLabels()
    one, other = (torch.from_numpy(images).permute(0, 3, 1, 2) for images in (generated, real))
    parts = [metric.compute(*each) for each in zip(one.split(size), other.split(size), strict=True)]
    return {name: metric.reduce(name, torch.cat([part[name] for part in parts])) for name in NAMES}


@pytest.mark.parametrize("chosen", [29, 5])
def test_the_scores_are_those_of_a_loop_over_pixels(chosen: int) -> None:
    real = labels(0, chosen=chosen)
    generated = np.where(np.random.default_rng(1).random((4, 8, 6, 1)) < 0.6, real, labels(2, chosen=chosen))
    expected = naive(generated, real)
    assert scores(generated, real) == pytest.approx(expected, rel=1e-12)
    assert scores(generated, real, size=1) == pytest.approx(expected, rel=1e-12)
    assert 0.5 < expected["pixel_accuracy"] < 0.8
    assert expected["class_iou"] < expected["class_accuracy"]


def test_equal_label_images_have_full_scores() -> None:
    real = labels(3, chosen=19)
    assert scores(real, real) == dict.fromkeys(NAMES, 1.0)


def test_every_colour_is_its_own_class_and_only_real_pixels_may_be_ignored() -> None:
    colours = torch.from_numpy(COLOURS.astype(np.uint8)).T[None, :, None]
    assert nearest_class(colours, 29).flatten().tolist() == list(range(29))
    assert nearest_class(colours, 19).max() < 19
    assert len({tuple(colour) for colour in COLOURS}) == 29


def test_images_of_other_channels_are_refused() -> None:
    gray = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="3 channels, and these have 1"):
        CityscapesLabels().compute(gray, gray)
