#!/usr/bin/env python3
"""How fast images arrive: gantrain's stream beside the plain Pillow and torchvision pipeline, in one run.

    OMP_NUM_THREADS=1 python benchmarks/loader.py --images 240 --repeats 5

Photographs as JPEG files, of 256 and of 1024 pixels, are resized to 286, cropped at random to 256, mirrored by chance
and put into [-1, 1], in batches of 16, with 0, 1 and 2 worker processes:

* plain: ``Image.open``, bicubic ``Resize``, ``RandomCrop``, ``RandomHorizontalFlip``, ``ToTensor`` and ``Normalize``
  in a torch ``DataLoader``, as most repositories have it;
* ``data=single`` with its decoders, without a cache;
* ``data=single data.cache=disk``, after the images were decoded once.

The files were read before, so that the disk is not what is measured. Prints a table per size: medians over the repeats,
in which all ways take turns. *per core* are images per second of CPU time of all processes together, which other load
on the machine hardly changes; *per second* are those of the clock on the wall, which it does. *of no workers* is the
speed per core relative to that without workers, measured next to it while a second process does the same: with workers,
several cores are busy as well, and often share a cache, memory or even one physical core.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from gantrain.cli.compose import complete, compose_once
from gantrain.training.build import Parts
from gantrain.training.context import RunContext

LOAD, CROP, BATCH = 286, 256, 16
PHOTOS = (
    "astronaut",
    "coffee",
    "chelsea",
    "rocket",
    "retina",
    "hubble_deep_field",
    "motorcycle_left",
    "immunohistochemistry",
)
GRAIN = 3.0  # standard deviation of the noise that a sensor adds, of 255
WARM_UP = 16  # Batches; more than workers prepare in advance, and until both sides have touched all of their memory.
SECOND = "second"  # The name of the process that keeps a second core busy.
WAYS: dict[str, list[str] | None] = {  # The settings; None for the plain way.
    "plain": None,
    "exact": ["data.decoder=exact", "data.cache=off"],
    "fast": ["data.decoder=fast", "data.cache=off"],
    "draft": ["data.decoder=draft", "data.cache=off"],
    "cached": ["data.decoder=exact", "data.cache=disk"],
}


# ---- the images


def write_photos(folder: Path, side: int, count: int) -> float:
    """Square parts of the photographs that come with scikit-image, scaled to ``side``, with grain; their mean bytes."""
    generator = np.random.default_rng(0)
    photos = [photo(name) for name in PHOTOS]
    folder.mkdir()
    for number in range(count):
        source = photos[number % len(photos)]
        part = int(min(source.size) * generator.uniform(0.6, 1.0))
        left, top = (int(generator.integers(0, edge - part + 1)) for edge in source.size)
        scaled = source.crop((left, top, left + part, top + part)).resize((side, side), Image.Resampling.LANCZOS)
        grain = generator.normal(0, GRAIN, (side, side, 1))
        pixels = (np.asarray(scaled) + grain).round().clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.jpg", quality=90)
    return sum(path.stat().st_size for path in folder.iterdir()) / count


def photo(name: str) -> Image.Image:
    """One of scikit-image's own, in colour."""
    from skimage import data

    pixels = data.stereo_motorcycle()[0] if name == "motorcycle_left" else getattr(data, name)()
    return Image.fromarray(pixels).convert("RGB")


# ---- the ways


class Plain(Dataset[Any]):
    """The folder as most repositories read it."""

    def __init__(self, folder: Path) -> None:
        from torchvision import transforms
        from torchvision.transforms import InterpolationMode

        self.paths = sorted(folder.iterdir())
        self.transform = transforms.Compose(
            [
                transforms.Resize((LOAD, LOAD), InterpolationMode.BICUBIC),
                transforms.RandomCrop(CROP),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            ]
        )

    def __len__(self) -> int:
        """How many images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        """(3, 256, 256) in [-1, 1]."""
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def plain(folder: Path, workers: int) -> Iterator[Any]:
    """Batches without end."""
    ahead = {"prefetch_factor": 2, "persistent_workers": True} if workers else {}
    loader = DataLoader(Plain(folder), BATCH, shuffle=True, num_workers=workers, drop_last=True, **ahead)
    while True:
        yield from loader


def batches_of(way: str, folder: Path, workers: int) -> Iterator[Any]:
    """Batches without end, as a run has them."""
    overrides = WAYS[way]
    if overrides is None:
        return plain(folder, workers)
    typed = ["model=dcgan", "network.width=2", "data=single", f"data.root={folder}", "data.preprocess=resize_and_crop"]
    typed += [f"data.load_size={LOAD}", f"data.crop_size={CROP}", f"data.batch_size={BATCH}"]
    typed += [f"data.num_workers={workers}", "trainer.accelerator=cpu", *overrides]
    context = RunContext.create(complete(compose_once("train", [], typed)))
    parts = Parts.build(context, world_size=1)
    parts.cache_images()
    return parts.stream


# ---- timing


def cpu_seconds() -> float:
    """Of this process and of its workers, which are alive."""
    workers = [child for child in multiprocessing.active_children() if child.name != SECOND]
    # What clock_getcpuclockid(3) returns on Linux; /proc/PID/stat counts in steps of 10 ms.
    clocks = [~worker.pid << 3 | 2 for worker in workers if worker.pid is not None]
    return time.process_time() + sum(map(time.clock_gettime, clocks))


def rates(way: str, folder: Path, workers: int, images: int) -> tuple[float, float]:
    """Images per second of CPU time and of the wall clock, once workers are busy."""
    batches = batches_of(way, folder, workers)
    for _ in range(WARM_UP):
        next(batches)
    wall, cpu = time.perf_counter(), cpu_seconds()
    count = max(1, images * (20 if way == "cached" else 1) // BATCH)
    for _ in range(count):
        next(batches)
    return count * BATCH / (cpu_seconds() - cpu), count * BATCH / (time.perf_counter() - wall)


def without_workers(way: str, folder: Path, images: int) -> float:
    """Images per second of CPU time without workers, while a second process does the same."""
    started = multiprocessing.Event()
    second = multiprocessing.Process(target=draw_forever, args=(way, folder, started), name=SECOND)
    second.start()
    started.wait()
    try:
        return rates(way, folder, 0, images)[0]
    finally:
        second.kill()
        second.join()


def draw_forever(way: str, folder: Path, started: Event) -> None:
    """Draw batches without workers."""
    for _ in batches_of(way, folder, 0):
        started.set()


def measure(folder: Path, workers: int, images: int, repeats: int) -> dict[str, list[tuple[float, ...]]]:
    """Every way in turns, forwards and backwards: both rates and, for workers, the one per core without them."""
    found: dict[str, list[tuple[float, ...]]] = {way: [] for way in WAYS}
    for repeat in range(repeats):
        for way in list(WAYS)[:: 1 if repeat % 2 else -1]:
            below = [without_workers(way, folder, images)] if workers else []
            found[way].append((*rates(way, folder, workers, images), *below))
    return found


def print_table(found: dict[int, dict[str, list[tuple[float, ...]]]]) -> None:
    """A row for each number of workers and each way."""
    print("| workers | way | per core | times plain | of no workers | per second | times plain |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for workers, ways in found.items():
        for way, figures in ways.items():
            cells = []
            for column in (0, 1):
                middle = statistics.median(figure[column] for figure in figures)
                pairs = zip(figures, ways["plain"], strict=True)
                ratio = statistics.median(mine[column] / its[column] for mine, its in pairs)
                cells += [f"{middle:,.0f}", f"{ratio:.2f}"]
            cells.insert(2, f"{statistics.median(figure[0] / figure[2] for figure in figures):.2f}" if workers else "")
            print(f"| {workers} | {way} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=240, help="in a folder, and timed at a time (20 times cached)")
    parser.add_argument("--repeats", type=int, default=5, help="of every way")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    typed = parser.parse_args()
    if typed.images < BATCH:
        parser.error(f"--images: at least {BATCH}, a batch")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("GANTRAIN_CACHE", f"{scratch}/cache")
        print(f"torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores")
        for side in (256, 1024):
            folder = Path(scratch) / f"photos_{side}"
            size = write_photos(folder, side, typed.images)
            print(f"\n{typed.images} JPEG files of {side} pixels, {size / 1000:.0f} kB on average\n")
            print_table({w: measure(folder, w, typed.images, typed.repeats) for w in typed.workers})


if __name__ == "__main__":
    main()
