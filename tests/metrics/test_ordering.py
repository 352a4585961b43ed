"""The distances of the built-in feature network order trained models as people do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gantrain.cli.main import main
from gantrain.data.sets.digits import Digits
from gantrain.metrics.base import Extracted
from gantrain.metrics.features.digits import DigitFeatures
from gantrain.metrics.frechet import frechet_distance
from gantrain.metrics.kid import KernelDistance


def evaluated(run: str, step: int) -> tuple[float, float]:
    """FID and unbiased KID of a checkpoint."""
    assert main(["evaluate", f"run={run}", f"step={step}", "metrics=[fid,kid]", "metrics.samples=4500"]) == 0
    line = json.loads(Path("checkpoints", run, "evaluations.jsonl").read_text().splitlines()[-1])
    assert line["step"] == step
    return line["fid"], line["kid_unbiased"]


@pytest.mark.slow
def test_digits_are_ordered_by_how_good_they_are() -> None:
    for model in ("dcgan", "cgan"):
        saved = ["trainer.save_every=1800", "trainer.keep=0", "metrics=none"]
        assert main(["train", f"model={model}", f"name={model}", *saved]) == 0
    digits, network = Digits(load_size=32, phase="train"), DigitFeatures()
    images = torch.stack([digits.item(index, 0)["image"] for index in range(len(digits))])
    features = torch.cat([network(part)[0] for part in images.split(100)])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    halves = [features[part] for part in order.split(len(images) // 2)]
    noise = network(torch.randint(256, (500, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8))
    kid = KernelDistance(subsets=10, subset_size=1000, degree=3)
    found = [
        (frechet_distance(*halves), kid.compute(*map(Extracted, halves), seed=0)["kid_unbiased"]),
        evaluated("cgan", 3600),
        evaluated("dcgan", 3600),
        evaluated("dcgan", 1800),
        (
            frechet_distance(noise[0], features),
            kid.compute(Extracted(noise[0]), Extracted(features), seed=0)["kid_unbiased"],
        ),
    ]
    for halves_apart, cgan, dcgan, halfway, of_noise in zip(*found, strict=True):
        assert halves_apart < cgan < dcgan < halfway < of_noise, found


def test_more_similar_images_have_a_smaller_distance() -> None:
    digits = Digits(load_size=32, phase="train")
    network = DigitFeatures()
    images = torch.stack([digits.item(index, 0)["image"] for index in range(1000)])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (500, 1, 32, 32), generator=generator, dtype=torch.uint8)
    blurred = torch.nn.functional.avg_pool2d(images[500:].float(), 3, 1, 1).to(torch.uint8)
    found = [network(each)[0] for each in (images[500:], blurred, noise)]
    half_features = network(images[:500])[0]
    distances = [frechet_distance(half_features, each) for each in found]
    assert distances == sorted(distances)
    assert distances[0] < distances[1] / 3 < distances[2] / 9
