#!/usr/bin/env python3
"""Film the page of a run while it trains, as a GIF: it needs Chromium (or Chrome) on the PATH.

    python scripts/film_page.py page.gif model=dcgan trainer.steps=1800

All words after the file are overrides of ``gantrain train``; the run is a new one in a temporary folder. The film has a
frame for every few seconds of the training, scaled to a width of 800 pixels.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

SIZE = (1200, 900)
WIDTH = 800
FRAME, LAST_FRAME = 400, 3000  # Milliseconds.
COLOURS = 64


def photograph(browser: str, page: Path, path: Path) -> None:
    """Write a screenshot of a page, whose scripts have a few seconds of virtual time."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=4000"]
    window = [f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={path}", page.as_uri()]
    subprocess.run([browser, *options, *window], check=True, capture_output=True)


def frames(browser: str, overrides: list[str], seconds: float, folder: Path) -> list[Path]:
    """Train, and return the screenshots that were taken meanwhile and at the end."""
    command = [
        sys.executable,
        "-m",
        "gantrain",
        "train",
        "name=film",
        f"checkpoints_dir={folder}/checkpoints",
        *overrides,
    ]
    page, taken = folder / "checkpoints" / "film" / "index.html", list[Path]()
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            if page.exists():
                taken.append(folder / f"{len(taken):04}.png")
                photograph(browser, page, taken[-1])
            time.sleep(seconds)
    if process.returncode:
        raise SystemExit(process.returncode)
    taken.append(folder / f"{len(taken):04}.png")
    photograph(browser, page, taken[-1])
    return taken


def main() -> int:
    """Write the film."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--every", type=float, default=8.0, help="seconds between two frames")
    arguments, overrides = parser.parse_known_args()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("film_page: neither chromium nor google-chrome is on the PATH", file=sys.stderr)
        return 2
    with TemporaryDirectory() as folder:
        images = []
        for path in frames(browser, overrides, arguments.every, Path(folder)):
            with Image.open(path) as image:
                scaled = image.convert("RGB").resize((WIDTH, WIDTH * SIZE[1] // SIZE[0]), Image.Resampling.LANCZOS)
            images.append(scaled.quantize(COLOURS, dither=Image.Dither.NONE))
        durations = [FRAME] * (len(images) - 1) + [LAST_FRAME]
        images[0].save(
            arguments.file, save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
