#!/usr/bin/env python3
"""Trains every model for a few steps on the GPU and prints a table; the exit status is 1 if any check fails.

Checked are all models in float32, bfloat16 and float16, compiled networks, CUDA graphs, the channels-last layout, a
deterministic run that is interrupted and resumed (bit-identical to one that is not), host synchronisations per step,
metrics, the commands that use a trained model, and running out of memory. Speed is that of ``gantrain benchmark``,
and that of ``benchmarks/loop.py`` beside steps written by hand.
``--cpu`` runs a small part on the CPU, to try the script itself.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from gpu_runs import GRAPH_TOLERANCE, Check, Row

LATENT = ("gan", "dcgan", "lsgan", "wgan", "wgan_gp", "cgan", "acgan", "sgan", "infogan", "sngan", "sagan")
TRANSLATORS = ("pix2pix", "cyclegan", "discogan", "cut", "fastcut")
GRAPHED = ("dcgan", "wgan_gp", "pix2pix", "cyclegan")
PRECISIONS = ("float32", "bfloat16", "float16")


def checks(check: Check, *, small: bool) -> Iterator[Row]:
    """All checks but those of speed: those of memory one after the other, the others side by side."""
    parallel = max(2, (os.cpu_count() or 2) - 2)
    models = LATENT[:2] if small else (*LATENT, *TRANSLATORS)
    cases: list[tuple[str, ...]] = [
        (f"{model}, {precision}", f"model={model}", f"trainer.precision={precision}")
        for model in models
        for precision in (PRECISIONS[:1] if small else PRECISIONS)
    ]
    if not small:
        cases += [("dcgan, compiled", "trainer.compile=true"), ("dcgan, channels last", "trainer.channels_last=true")]
        cases += [("dcgan, augmented", "model.augment=[color,translation,cutout]", "model.r1=1", "model.r1_every=2")]
        ada = ("model.augment=ada", "model.augment_every=1", "model.augment_kimg=0.1", "model.augment_target=0.0")
        cases += [("dcgan, augmented adaptively", *ada, "model.r1=1", "trainer.precision=float16")]
        cases += [("dcgan, augmented adaptively, deterministic", *ada, "trainer.deterministic=true")]
        scales = ("model=pix2pix", "network.discriminator.layers=1", "network.discriminator.scales=2")
        cases += [("pix2pix, features", *scales, "model.lambda_features=10", "trainer.precision=bfloat16")]
        cases += [("dcgan, automatic precision", "trainer.precision=auto")]
        cases += [("sngan, micro-batches", "model=sngan", "trainer.micro_batch=4", "data.batch_size=16")]
        cases += [("dcgan, relativistic", "model.loss=relativistic", "model.r1=1", "model.r2=1")]
        cases += [("cyclegan, compiled", "model=cyclegan", "trainer.compile=true", "trainer.precision=bfloat16")]
    with ThreadPoolExecutor(1 if small else parallel) as pool:  # all are submitted before any is waited for
        pending: list[Future[Row]] = []
        if not small:
            jobs = [("dcgan", 600, "fid"), ("cyclegan", 400, "fid_a_to_b"), ("pix2pix", 200, "l1")]
            pending += [pool.submit(check.falls, *job) for job in jobs]
            pending += [pool.submit(check.synchronisations, model, f"model={model}") for model in models]
            pending += [pool.submit(check.synchronisations, "dcgan, augmented adaptively", *ada)]
            for model in GRAPHED:
                pending += [pool.submit(check.graphed, model, precision) for precision in GRAPH_TOLERANCE]
                pending += [pool.submit(check.resumed, model, "trainer.cuda_graphs=true")]
        pending += [pool.submit(check.resumed, model) for model in (["dcgan"] if small else GRAPHED)]
        pending += [pool.submit(check.short, *case) for case in cases]
        for future in pending:
            yield future.result()
    if small:
        yield check.used("dcgan, float32", "predict", "num=2", "out=samples", "accelerator=cpu")
        return
    uses: list[tuple[str, ...]] = [
        ("dcgan, metrics", "test"),
        ("dcgan, metrics", "predict", "num=4", "out=noise"),
        ("cyclegan, metrics", "test"),
        ("cyclegan, metrics", "evaluate", "metrics=[fid]", "metrics.channels=[0]"),
        ("cyclegan, metrics", "export", "format=onnx", "direction=a_to_b", "out=cyclegan.onnx"),
        ("dcgan, metrics", "export", "format=pt2", "out=dcgan.pt2"),
    ]
    with ThreadPoolExecutor(parallel) as pool:
        yield from pool.map(lambda use: check.used(*use), uses)
    yield check.out_of_memory()


def speeds(check: Check, *, small: bool) -> Iterator[Row]:
    """Measurements, one after the other."""
    if small:
        yield check.speed("dcgan, speed", 2, "model=dcgan", "network.width=4")
        yield from check.loops(2, 1)
        return
    precisions = f"trainer.precision={','.join(PRECISIONS)}"
    at_256 = ["data.load_size=256", "data.crop_size=256", "data.batch_size=1", "network.width=64"]
    at_64 = ["data.load_size=64", "data.batch_size=64"]
    benchmarks = [
        ("dcgan at 64 pixels", 100, "model=dcgan", *at_64),
        ("wgan_gp at 64 pixels", 20, "model=wgan_gp", *at_64),
        ("pix2pix at 256 pixels", 50, "model=pix2pix", *at_256),
        ("cyclegan at 256 pixels", 20, "model=cyclegan", *at_256, "network/generator=resnet_9blocks"),
    ]
    for name, steps, *typed in benchmarks:
        yield check.speed(name, steps, *typed, precisions, "trainer.cuda_graphs=false,true")
    yield from check.loops(20, 3)


PARTS = {"checks": checks, "speed": speeds}


def main() -> int:
    """Run the checks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", action="store_true", help="a small part, on the CPU")
    parser.add_argument("--part", choices=PARTS, help="only the checks, or only the measurements of speed")
    arguments = parser.parse_args()
    device = "CPU" if arguments.cpu else torch.cuda.get_device_name()
    print(f"{device}, torch {torch.__version__}")
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="gantrain-gpu-") as folder:
        check = Check(Path(folder), "cpu" if arguments.cpu else "cuda")
        parts = [arguments.part] if arguments.part else list(PARTS)
        for row in itertools.chain.from_iterable(PARTS[part](check, small=arguments.cpu) for part in parts):
            print(f"{row.name:<48}  {'passed' if row.passed else 'FAILED'}  {row.note}", flush=True)
            passed, failed = passed + row.passed, failed + (not row.passed)
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
