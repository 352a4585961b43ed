"""``gantrain data check`` for tests, and data sets without defects."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gantrain.cli.main import main

SMALL = ["data.load_size=8", "data.crop_size=8"]


def save(
    path: str | Path, seed: int = 0, *, size: tuple[int, int] = (10, 12), channels: int = 3, depth: Any = np.uint8
) -> Path:
    """An image of noise; (H, W)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, channels) if channels > 1 else size
    largest = np.iinfo(depth).max
    pixels = np.random.default_rng(seed).integers(0, largest, shape, depth, endpoint=True)
    Image.fromarray(pixels).save(path)
    return path


def two_domains(root: str = "set", count: int = 3, **keys: Any) -> None:
    """Images without defects."""
    for number, folder in enumerate(("trainA", "trainB", "testA", "testB")):
        for index in range(count):
            save(f"{root}/{folder}/{index}.png", 100 * number + index, **keys)


def check(*words: str) -> tuple[int, str]:
    """The exit status of ``gantrain data check`` and what it prints."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        status = main(["data", "check", *words])
    return status, printed.getvalue()


def row(printed: str, name: str) -> list[str]:
    """The cells of a line of the table."""
    line = next(line for line in printed.splitlines() if line.startswith(f"{name}  "))
    return re.split(r"  +", line)[1:]


def findings(printed: str) -> dict[str, list[str]]:
    """What is listed under each finding."""
    found: dict[str, list[str]] = {}
    for line in printed.splitlines():
        if line.startswith(("would stop training: ", "warning: ")):
            found[line] = []
        elif line.startswith("  ") and found:
            found[list(found)[-1]].append(line.strip())
    return found
