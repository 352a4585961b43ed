#!/usr/bin/env python3
"""Cut photographs that come with scikit-image into squares, a data set of colour images that needs no download.

    pip install scikit-image
    python scripts/make_crops.py datasets/crops
    gantrain train model=colorization data=single data.root=datasets/crops data.load_size=64 data.crop_size=64

Every seventh square is held out, in ``test``.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from PIL import Image

SIZE = 64
HELD_OUT = 7
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "ihc.png", "motorcycle_left.png", "rocket.jpg")


def main() -> int:
    """Write the folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder that does not exist yet")
    folder = parser.parse_args().folder
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        print("make_crops: the photographs of scikit-image are needed: pip install scikit-image", file=sys.stderr)
        return 2
    if folder.exists():
        print(f"make_crops: {folder} exists already", file=sys.stderr)
        return 2
    for phase in ("train", "test"):
        (folder / phase).mkdir(parents=True)
    count = 0
    for name in PHOTOGRAPHS:
        photograph = Image.open(Path(spec.origin).parent / "data" / name).convert("RGB")
        for top in range(0, photograph.height - SIZE + 1, SIZE):
            for left in range(0, photograph.width - SIZE + 1, SIZE):
                count += 1
                phase = "train" if count % HELD_OUT else "test"
                square = photograph.crop((left, top, left + SIZE, top + SIZE))
                square.save(folder / phase / f"{Path(name).stem}_{top}_{left}.png")
    print(f"{folder}: {count} images of {SIZE} x {SIZE} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
