#!/usr/bin/env python3
"""How long a run takes to its first step, beyond ``import torch``.

    OMP_NUM_THREADS=1 python benchmarks/first_step.py --repeats 7 --against ../older_clone

Starts new processes in turns: one that imports torch, and ``gantrain train`` of this clone, and of another one, up to
the end of the first step. Prints the medians of their CPU time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PLUGIN = """
import os, time
from gantrain.training.trainer import Trainer
take_step = Trainer.take_step

def timed(self):
    take_step(self)
    print(time.process_time(), flush=True)
    os._exit(0)

Trainer.take_step = timed
"""
TORCH = ["-c", "import torch, time; print(time.process_time())"]
TRAIN = ["-m", "gantrain", "train", "model=dcgan", "data=digits", "trainer.steps=1", "plugins=[timed]", "resume=never"]


def seconds(words: list[str], clone: Path, folder: str) -> float:
    """What a process prints that runs in a folder and imports gantrain from a clone."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(clone), folder])}
    command = [sys.executable, *words]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return float(ended.stdout.split()[-1])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--against", type=Path, help="another clone")
    options = parser.parse_args()
    here = Path(__file__).resolve().parent.parent
    cases = {"import torch": (TORCH, here), "first step": (TRAIN, here)}
    if options.against:
        cases[f"first step of {options.against.name}"] = TRAIN, options.against.resolve()
    times: dict[str, list[float]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "timed.py").write_text(PLUGIN)
        for _ in range(options.repeats):
            for case, (words, clone) in cases.items():
                times[case].append(seconds(words, clone, folder))
    print("| until | CPU seconds | beyond import torch |")
    print("|---|---:|---:|")
    for case, found in times.items():
        beyond = [own - torch for own, torch in zip(found, times["import torch"], strict=True)]
        print(f"| {case} | {statistics.median(found):.2f} | {statistics.median(beyond):.2f} |")


if __name__ == "__main__":
    main()
