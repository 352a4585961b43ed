"""Scores of label images of Cityscapes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_mentions
from needs import needs
from onnx_files import segmenter
from PIL import Image

from gantrain.cli.main import main
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
    metric = CityscapesLabels(segmenter=None)
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
        CityscapesLabels(segmenter=None).compute(gray, gray)


# ---- photos

# A linear network for photos: the score of a class is the product of a pixel and its colour, of length 1.
UNIT = COLOURS[:19] / np.linalg.norm(COLOURS[:19], axis=1, keepdims=True)


def photo_scores(generated: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """The scores of photos whose classes are those of the most similar hue, pixel by pixel."""
    found = (generated.astype(np.float64) / 255 @ UNIT.T).argmax(axis=-1)
    return naive(COLOURS[found], real)


def test_photos_are_scored_by_a_segmenter() -> None:
    needs("onnx", "onnxruntime")
    metric = CityscapesLabels(segmenter=segmenter("net.onnx", weights=UNIT.tolist()))
    photos = np.random.default_rng(5).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    one, real = (torch.from_numpy(images).permute(0, 3, 1, 2) for images in (photos, labels(0)))
    expected = photo_scores(photos, labels(0))
    for counts in (metric.compute(one, real), metric.compute_from(one, one.flip(0), real)):
        assert {name: metric.reduce(name, counts[name]) for name in NAMES} == pytest.approx(expected, rel=1e-12)
    back = metric.compute_from(real, real, one)  # Labels from photos do not need it.
    assert metric.reduce("pixel_accuracy", back["pixel_accuracy"]) > 0.9


def test_numbers_that_are_no_class_are_wrong() -> None:
    metric = CityscapesLabels(segmenter=None)
    real = torch.from_numpy(COLOURS[:2].astype(np.uint8)).T[None, :, None]
    counts = metric._compare(torch.tensor([[[0, 255]]]), real)
    assert metric.reduce("pixel_accuracy", counts["pixel_accuracy"]) == 0.5


@pytest.fixture
def pairs() -> list[str]:
    """Pairs of photos and labels, and the command that trains on them."""
    for part in ("train", "test"):
        Path("pairs", part).mkdir(parents=True)
        for number in range(2):
            exact = COLOURS[np.random.default_rng(number).integers(0, 19, (8, 8))].repeat(4, axis=0).repeat(4, axis=1)
            photo = np.random.default_rng(9).integers(0, 256, (32, 32, 3))
            Image.fromarray(np.hstack([photo, exact]).astype(np.uint8)).save(Path("pairs", part, f"{number}.png"))
    sizes = ["data.load_size=32", "data.crop_size=32", "network.width=2", "data.batch_size=2", "trainer.steps=1"]
    return ["train", "data=cityscapes", "data.root=pairs", *sizes, "trainer.epochs=null", "metrics=cityscapes"]


def test_a_run_from_labels_to_photos_is_scored_by_a_segmenter(pairs, capsys) -> None:
    needs("onnx", "onnxruntime")
    file = segmenter("net.onnx", weights=UNIT.tolist())
    assert main([*pairs, "model=pix2pix", "name=run", f"metrics.segmenter={file}"]) == 0
    (line,) = map(json.loads, Path("checkpoints/run/metrics.jsonl").read_text().splitlines())
    assert set(NAMES) <= line.keys()
    assert_mentions(line["protocol"], "2 pairs", "segmenter net.onnx")
    assert main([*pairs, "model=pix2pix", "name=other"]) == 0
    assert_mentions(capsys.readouterr().err, "warning: metrics=cityscapes", "metrics.segmenter=FILE.onnx")
    assert main([*pairs, "model=pix2pix", "name=other", "metrics.segmenter=nix.onnx"]) == 2
    assert_mentions(capsys.readouterr().err, "metrics.segmenter=nix.onnx", "no such file")
    assert main([*pairs[:-1], "metrics=l1", "model=pix2pix", "name=other", f"metrics.segmenter={file}"]) == 2
    assert_mentions(capsys.readouterr().err, f"metrics.segmenter={file} has no effect", "metrics=cityscapes")


def test_both_directions_are_scored_each_in_its_way(pairs) -> None:
    needs("onnx", "onnxruntime")
    file = segmenter("net.onnx", weights=UNIT.tolist())
    small = ["network.generator.blocks=1", "name=run", f"metrics.segmenter={file}"]
    assert main([*pairs, "model=cyclegan", *small]) == 0
    (line,) = map(json.loads, Path("checkpoints/run/metrics.jsonl").read_text().splitlines())
    assert {f"{name}_{direction}" for name in NAMES for direction in ("a_to_b", "b_to_a")} <= line.keys()
