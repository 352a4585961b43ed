#!/usr/bin/env python3
"""What it costs to open a category of LSUN: gantrain's data=lsun beside torchvision's LSUN, in one run.

    python benchmarks/lsun_open.py --keys 1000000 --repeats 5

Makes an LMDB of so many keys, 40 hexadecimal digits each as LSUN's, with a tiny WebP image under each, in a temporary
folder that is removed at the end. Both libraries open it in processes of their own, in turns: once without what they
keep for the next time, then again and again. Timed is the constructor alone, not the import before it. Memory is what
the process holds more after it than before it: resident, of which shared with other processes where that is a file that
is mapped; and again when 1,000 random images have been read. *cold* is with neither the database nor the index in
the memory of the system.

Prints a table: medians over the repeats.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

READ = 1000  # images after opening
CHUNK = 100_000  # keys of a transaction


def main() -> None:
    """Make the database, open it in both ways, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--open", nargs=2, metavar=("LIBRARY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.open:
        print(json.dumps(measure(*arguments.open)))
        return
    with tempfile.TemporaryDirectory(prefix="lsun-") as scratch:
        root = Path(scratch)
        size = write(root / "bedroom_train_lmdb", arguments.keys)
        print(f"{arguments.keys:,} keys, {size / 1e6:,.0f} MB, {arguments.repeats} repeats\n")
        rows = [("gantrain", "first, cold"), ("torchvision", "first, cold")]
        found = {row: [in_a_process(row[0], root, cold=True)] for row in rows}
        for _ in range(arguments.repeats):
            for temperature in ("cold", "warm"):
                for library in LIBRARIES:
                    figures = in_a_process(library, root, cold=temperature == "cold")
                    found.setdefault((library, f"again, {temperature}"), []).append(figures)
    print("| opening | library | seconds | memory, MB | of it shared | after reading 1,000 | of it shared |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for library, opening in sorted(found, key=lambda row: (row[1][0] != "f", row[1], row[0])):
        median = [statistics.median(column) for column in zip(*found[library, opening], strict=True)]
        seconds, *memory = median
        print(f"| {opening} | {library} | {seconds:.3f} | " + " | ".join(f"{mega:.0f}" for mega in memory) + " |")


def write(path: Path, count: int) -> int:
    """A database of so many keys; its size in bytes."""
    import lmdb
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "WEBP")
    keys = sorted(hashlib.sha1(str(number).encode()).hexdigest().encode() for number in range(count))
    with lmdb.open(str(path), map_size=count * 4096 + (1 << 26), sync=False) as environment:
        for start in range(0, count, CHUNK):
            with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti([(key, file.getvalue()) for key in keys[start : start + CHUNK]], append=True)
        environment.sync(True)
    return (path / "data.mdb").stat().st_size


def in_a_process(library: str, root: Path, *, cold: bool) -> list[float]:
    """What ``measure`` finds in a new process, whose working folder is ``root``: torchvision keeps its keys there."""
    if cold:
        for path in root.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [sys.executable, str(Path(__file__).resolve()), "--open", library, str(root)]
    where = os.environ.get("PYTHONPATH", "")
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).resolve().parents[1]}:{where}"}
    result = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: list[float] = json.loads(result.stdout)
    return figures


def measure(library: str, root: str) -> list[float]:
    """Seconds to open, and memory in MB, resident and shared, after opening and after reading."""
    opener = LIBRARIES[library]()
    before = memory()
    start = time.perf_counter()
    dataset, read = opener(root)
    seconds = time.perf_counter() - start
    opened = memory()
    choose = random.Random(0)
    for _ in range(READ):
        read(choose.randrange(len(dataset)))
    done = memory()
    return [seconds, *(now - then for after in (opened, done) for now, then in zip(after, before, strict=True))]


def memory() -> tuple[float, float]:
    """Of this process, resident and shared, in MB."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    page = os.sysconf("SC_PAGE_SIZE") / 1e6
    return int(resident) * page, int(shared) * page


def gantrain() -> Callable[[str], tuple[Any, Callable[[int], Any]]]:
    """Opens as the command does."""
    from gantrain.data.settings import build_dataset

    keys = {"channels": 3, "load_size": 8, "crop_size": 8, "crop": "center", "flip": False}

    def open_(root: str) -> tuple[Any, Callable[[int], Any]]:
        dataset = build_dataset({"mode": "lsun", "root": root, "category": "bedroom", **keys}, phase="train")
        return dataset, lambda index: dataset.item(index, 0)

    return open_


def torchvision() -> Callable[[str], tuple[Any, Callable[[int], Any]]]:
    """Opens as its documentation says."""
    from torchvision.datasets import LSUN
    from torchvision.transforms import ToTensor

    def open_(root: str) -> tuple[Any, Callable[[int], Any]]:
        dataset = LSUN(root, classes=["bedroom_train"], transform=ToTensor())
        return dataset, dataset.__getitem__

    return open_


LIBRARIES: dict[str, Callable[[], Callable[[str], tuple[Any, Callable[[int], Any]]]]] = {
    "gantrain": gantrain,
    "torchvision": torchvision,
}

if __name__ == "__main__":
    main()
