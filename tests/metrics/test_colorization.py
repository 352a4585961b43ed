"""Colorizations are compared with the images whose lightness they were given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gantrain

SMALL = ["data.load_size=32", "data.crop_size=32", "network.width=2", "data.batch_size=2", "data.num_workers=0"]


def test_colorized_images_are_measured_in_pairs(train) -> None:
    for phase, count in (("train", 4), ("test", 3)):
        Path("set", phase).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 255, (4, 4, 3), np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(f"set/{phase}/{number}.png")
    metrics = ["metrics=[l1,psnr,ssim,swd]", "trainer.steps=2"]
    train("run", "model=colorization", "data=single", "data.root=set", *SMALL, *metrics)
    (line,) = map(json.loads, Path("checkpoints/run/metrics.jsonl").read_text().splitlines())
    gan = gantrain.load("checkpoints/run", device="cpu")
    gaps = []
    for path in sorted(Path("set/test").iterdir()):
        with Image.open(path) as photo:
            gaps.append(np.abs(np.asarray(gan(photo), float) - np.asarray(photo, float)).mean() / 255)
    assert line["l1"] == pytest.approx(np.mean(gaps), abs=1e-3)
    assert "3 fake vs 3 test" in line["protocol"]
    assert line["swd"] > 0
