#!/usr/bin/env python3
"""Memory and time of translating large images: whole, and in strips of rows, on the CPU.

    OMP_NUM_THREADS=1 python benchmarks/predict.py --sides 1024 4096 --networks resnet unet
    OMP_NUM_THREADS=1 python benchmarks/predict.py --sides 10000 --networks resnet --ways strips

``resnet`` is CycleGAN's generator with instance norm (``--blocks 9`` residual blocks), ``unet`` that of pix2pix with
batch norm, both with random weights; the images are noise, of 8 bits.

Every row is measured in a process of its own: the peak of its resident memory (which includes Python and torch, but not
the system's cache of the temporary files of the strips), how much of it the translation added, and the CPU time. With
both ways, the last column is the largest difference of their results, in grey levels.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gantrain.inference.model import Model
from gantrain.models.translation import BareGenerator
from gantrain.networks.resnet import ResnetGenerator
from gantrain.networks.unet import UNetGenerator

GB = 1e6  # Of Linux's kilobytes.


def network(name: str, width: int, blocks: int) -> nn.Module:
    """A generator with random weights, in evaluation mode."""
    torch.manual_seed(0)
    sides = {"input_shape": (3, 256, 256), "shape": (3, 256, 256)}
    others = {"width": width, "dropout": 0.0, "init": "normal", "init_gain": 0.02, "upsample": "transposed"}
    if name == "resnet":
        keys = {
            "blocks": blocks,
            "downsamplings": 2,
            "kernel": 3,
            "stem": 7,
            "padding": "reflection",
            "antialias": False,
        }
        return ResnetGenerator(**sides, **others, **keys, norm="instance").eval().requires_grad_(False)
    return UNetGenerator(**sides, **others, depth=8, skips=True, norm="batch").eval().requires_grad_(False)


def measure(name: str, side: int, way: str, width: int, blocks: int, result: str) -> None:
    """Translate an image, store the result, and print the memory and the time as JSON."""
    model = Model(BareGenerator(network(name, width, blocks), "a_to_b", {"a": 3, "b": 3}))
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    (made,) = model.translate_pixels([image], "a_to_b", names=[0], network_mode="eval", memory=way)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.save(result, made)
    print(json.dumps({"peak": peak / GB, "more": (peak - before) / GB, "seconds": seconds}))


def main() -> None:
    """Print the table, or measure one row of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[1024])
    parser.add_argument("--networks", nargs="+", default=["resnet", "unet"], choices=["resnet", "unet"])
    parser.add_argument("--ways", nargs="+", default=["whole", "strips"], choices=["whole", "strips"])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--result", help=argparse.SUPPRESS)  # In the process of a row.
    given = parser.parse_args()
    if given.result:
        measure(given.networks[0], given.sides[0], given.ways[0], given.width, given.blocks, given.result)
        return
    print(f"{'network':8} {'side':>6} {'way':8} {'peak GB':>8} {'added GB':>9} {'CPU s':>7}  difference")
    for name in given.networks:
        for side in given.sides:
            row(name, side, given)


def row(name: str, side: int, given: argparse.Namespace) -> None:
    """Measure and print all ways for one network and size."""
    made: list[np.ndarray] = []
    for way in given.ways:
        with tempfile.TemporaryDirectory() as folder:
            result = f"{folder}/made.npy"
            sizes = ["--width", str(given.width), "--blocks", str(given.blocks), "--result", result]
            command = [sys.executable, __file__, "--networks", name, "--sides", str(side), "--ways", way, *sizes]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            start = f"{name:8} {side:6} {way:8}"
            if done.returncode:
                print(start, f"failed with status {done.returncode}: {done.stderr.strip()[-200:]}", flush=True)
                continue
            found = json.loads(done.stdout)
            if Path(result).exists():
                made.append(np.load(result))
        difference = np.abs(made[0].astype(np.int16) - made[1]).max() if len(made) == 2 else ""
        print(start, f"{found['peak']:8.2f} {found['more']:9.2f} {found['seconds']:7.0f}  {difference}", flush=True)


if __name__ == "__main__":
    main()
