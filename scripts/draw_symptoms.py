#!/usr/bin/env python3
"""Draw two images of docs/troubleshooting.md from short runs on the shipped digits: checkerboards, and shifted colours.

    python scripts/draw_symptoms.py docs

Each image has two parts: the symptom, and the same run with the key that cures it. Takes five minutes on one core.
"""

from __future__ import annotations

import argparse
import colorsys
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from gantrain.data.sets.digits import Digits

SIDE, GAP = 34, 20  # Pixels: of a tile of a grid with its border, and between the parts.
TINTS = np.array([colorsys.hsv_to_rgb(number / 3 + 0.02, 0.75, 0.85) for number in range(3)]) * 255
COUNTS, FIRST_OF_B = {"train": 600, "test": 60}, {"train": 600, "test": 200}  # Images of a domain.
ON_TINTS = [
    "data=unaligned",
    "data.root=tints",
    "data.load_size=32",
    "data.crop_size=32",
    "data.flip=false",
    "data.num_workers=0",
    "data.batch_size=4",
    "network/generator=resnet_6blocks",
    "network.width=16",
    "network.norm=batch",
    "optimizer.lr=5e-4",
    "trainer.epochs=null",
    "trainer.steps=600",
    "trainer.image_every=600",
]
STRIPES = ["trainer.steps=50", "trainer.image_every=50"]


def write_tints(root: Path) -> None:
    """White digits (A) and other digits in black (B) on three background colours."""
    for phase, count in COUNTS.items():
        digits, generator = Digits(load_size=32, phase=phase), np.random.default_rng(0)
        for number in range(count):
            for domain, index, pen in (("A", number, 255), ("B", FIRST_OF_B[phase] + number, 0)):
                ink = digits.item(index, seed=0)["image"][0].numpy()[..., None] / 255
                pixels = TINTS[generator.integers(3)] * (1 - ink) + pen * ink
                path = root / f"{phase}{domain}/{number:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.round().astype(np.uint8)).save(path)


def samples(folder: Path, *overrides: str) -> Image.Image:
    """The last grid of samples of a CycleGAN: one row per image, with real_a, fake_b and rec_a in the first columns."""
    command = [sys.executable, "-m", "gantrain", "train", "model=cyclegan", *overrides, "metrics=none"]
    subprocess.run(
        [*command, "trainer.accelerator=cpu", "trainer.threads=1", "name=run", "resume=never"], check=True, cwd=folder
    )
    newest = max(folder.glob("checkpoints/run/images/step_*.png"), key=lambda path: path.stat().st_mtime)
    return Image.open(newest).convert("RGB")


def side_by_side(path: Path, grids: list[Image.Image], columns: range, rows: int, scale: int) -> None:
    """Write the same tiles of both grids, enlarged."""
    box = (columns.start * SIDE, 0, columns.stop * SIDE + 2, rows * SIDE + 2)
    parts = [
        grid.crop(box).resize(((box[2] - box[0]) * scale, box[3] * scale), Image.Resampling.NEAREST) for grid in grids
    ]
    image = Image.new("RGB", (2 * parts[0].width + GAP, parts[0].height), "white")
    for number, part in enumerate(parts):
        image.paste(part, (number * (part.width + GAP), 0))
    image.save(path, optimize=True)


def main() -> None:
    """Train four runs and write two images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of the images")
    out = parser.parse_args().out
    with TemporaryDirectory() as name:
        folder = Path(name)
        grids = [samples(folder, *STRIPES, f"network.generator.upsample={how}") for how in ("transposed", "resize")]
        side_by_side(out / "symptom_checkerboard.png", grids, range(1, 3), rows=2, scale=4)
        write_tints(folder / "tints")
        grids = [samples(folder, *ON_TINTS, f"model.lambda_identity={weight}") for weight in (0, 0.5)]
        side_by_side(out / "symptom_colours.png", grids, range(3), rows=4, scale=2)


if __name__ == "__main__":
    main()
