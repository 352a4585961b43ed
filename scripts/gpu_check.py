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
import csv
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

LATENT = ("gan", "dcgan", "lsgan", "wgan", "wgan_gp", "cgan", "acgan", "sgan", "infogan", "sngan", "sagan")
TRANSLATORS = ("pix2pix", "cyclegan", "discogan", "cut", "fastcut")
GRAPHED = ("dcgan", "wgan_gp", "pix2pix", "cyclegan")
LOSSES = ("d", "g", "cycle", "idt", "gradient")  # How the names of logged losses begin.
GRAPH_TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}  # Of losses after 10 steps.
PRECISIONS = ("float32", "bfloat16", "float16")
COUNTER = Path(__file__).with_name("count_synchronisations.py")
LOOP = Path(__file__).parents[1] / "benchmarks" / "loop.py"
SLOWEST = 1.25  # Times the wall time of a step written by hand.


@dataclass(frozen=True)
class Row:
    """One check: its name, whether it passed, and what was measured or went wrong."""

    name: str
    passed: bool
    note: str


class Check:
    """Runs ``gantrain train`` in a temporary folder.

    Args:
        folder: Where runs are stored.
        accelerator: ``cuda`` or ``cpu``.
    """

    def __init__(self, folder: Path, accelerator: str) -> None:
        self.folder = folder
        self.accelerator = accelerator

    def train(
        self, name: str, *overrides: str, program: Sequence[str] = ("-m", "gantrain")
    ) -> subprocess.CompletedProcess[str]:
        """The finished process of a run called ``name``; ``program`` is run instead of the command."""
        own = [f"name={folder_name(name)}", f"trainer.accelerator={self.accelerator}", "data.num_workers=0"]
        return self.run(*program, "train", *own, *overrides)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The finished process of Python with arguments."""
        environment = {**os.environ, "OMP_NUM_THREADS": "2"}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def losses(self, name: str) -> list[dict[str, float]]:
        """The logged lines of a run."""
        path = self.folder / "checkpoints" / folder_name(name) / "losses.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def short(self, name: str, *overrides: str) -> Row:
        """Three steps; passed if they end well with finite losses."""
        start = time.monotonic()
        done = self.train(name, "trainer.steps=3", "trainer.log_every=1", *overrides)
        if done.returncode:
            return failure(name, done)
        finite = all(math.isfinite(value) for line in self.losses(name) for value in line.values())
        return Row(name, finite, f"{time.monotonic() - start:.0f} s" if finite else "losses are not finite")

    def falls(self, model: str, steps: int, metric: str) -> Row:
        """A run with metrics on the device; passed if all are finite and ``metric`` falls in its second half."""
        name = f"{model}, metrics"
        often = [f"trainer.image_every={steps}", f"metrics.every={steps // 2}", "metrics.samples=200"]
        extra = ["metrics=[fid,kid,is,prdc,swd]"] if model == "dcgan" else []
        done = self.train(name, f"model={model}", f"trainer.steps={steps}", *often, *extra)
        if done.returncode:
            return failure(name, done)
        path = self.folder / "checkpoints" / folder_name(name) / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        finite = all(math.isfinite(value) for line in lines for value in line.values() if isinstance(value, float))
        half, end = lines[0][metric], lines[-1][metric]
        return Row(name, finite and end < half, f"{metric} {half:.3g} halfway, {end:.3g} at the end")

    def used(self, run: str, command: str, *arguments: str) -> Row:
        """Another command with a run of this check."""
        name = f"{run}, {command}"
        done = self.run("-m", "gantrain", command, f"run={folder_name(run)}", *arguments)
        if done.returncode:
            return failure(name, done)
        return Row(name, True, (done.stdout.strip().splitlines() or ["no output"])[-1])

    def speed(self, name: str, steps: int, *overrides: str) -> Row:
        """``gantrain benchmark`` of a model in several precisions; passed if no step waits for the device."""
        out = self.folder / folder_name(name)
        typed = [f"trainer.accelerator={self.accelerator}", f"steps={steps}", f"out={out}", *overrides]
        done = self.run("-m", "gantrain", "benchmark", *typed)
        if done.returncode:
            return failure(name, done)
        with (out / "benchmark.csv").open(newline="") as file:
            found = list(csv.DictReader(file))
        speeds = []
        for line in found:
            graphs = " with graphs" * ("cuda_graphs=True" in line["settings"])
            speeds.append(f"{line['precision']}{graphs} {float(line['images_per_second']):.4g}")
        waits = [line["host_reads"] for line in found]
        return Row(
            name, set(waits) == {"0"}, f"images/s: {', '.join(speeds)}; host synchronisations: {', '.join(waits)}"
        )

    def loops(self, steps: int, repeats: int) -> Iterator[Row]:
        """Training beside steps written by hand, in one process; passed on a GPU if it is hardly slower."""
        out = self.folder / "loop.csv"
        sizes = ["--steps", str(steps), "--repeats", str(repeats)]
        done = self.run(str(LOOP), "--accelerator", self.accelerator, *sizes, "--csv", str(out))
        if done.returncode:
            yield failure("steps by hand", done)
            return
        with out.open(newline="") as file:
            found = {(line["case"], line["way"]): float(line["wall_ms"]) for line in csv.DictReader(file)}
        for case in dict.fromkeys(case for case, _ in found):
            times = {
                way: found[case, way]
                for way in ("by hand", "Trainer.fit", "trainer.cuda_graphs=true")
                if (case, way) in found
            }
            quick = self.accelerator == "cpu" or times["Trainer.fit"] < SLOWEST * times["by hand"]
            yield Row(case, quick, "ms per step: " + ", ".join(f"{way} {time:.4g}" for way, time in times.items()))

    def graphed(self, model: str, precision: str) -> Row:
        """A deterministic run with CUDA graphs has the losses of one without, but for rounded learning rates."""
        name = f"{model}, {precision}, CUDA graphs"
        typed = [f"model={model}", f"trainer.precision={precision}", "trainer.deterministic=true", "trainer.steps=10"]
        for graphs in ("false", "true"):
            run = f"{name} {graphs}"
            done = self.train(run, *typed, "trainer.log_every=1", f"trainer.cuda_graphs={graphs}")
            if done.returncode:
                return failure(name, done)
        reasons = [line for line in done.stderr.splitlines() if "trainer.cuda_graphs=true" in line]
        plain, graphed = (self.losses(f"{name} {graphs}") for graphs in ("false", "true"))
        pairs = zip(plain, graphed, strict=True)
        farthest = max(abs(one[key] - other[key]) for one, other in pairs for key in one if key.split("_")[0] in LOSSES)
        note = reasons[0] if reasons else f"losses of 10 steps differ by at most {farthest:.1e}"
        return Row(name, not reasons and farthest < GRAPH_TOLERANCE[precision], note)

    def resumed(self, model: str, *more: str) -> Row:
        """A deterministic run in two parts has the weights of one in one part."""
        name = ", ".join([model, "resumed", *more])
        # a schedule that depends on the length would refuse the longer second part
        settings = [f"model={model}", "trainer.deterministic=true", "trainer.log_every=1", "schedule=constant", *more]
        runs = {part: folder_name(f"{name} {part}") for part in ("whole", "parts")}
        for part, lengths in (("whole", (8,)), ("parts", (4, 8))):
            for steps in lengths:
                done = self.train(runs[part], *settings, f"trainer.steps={steps}")
                if done.returncode:
                    return failure(name, done)
        paths = [self.folder / "checkpoints" / run / "step_8.pt" for run in runs.values()]
        whole, parts = (torch.load(path, map_location="cpu", weights_only=True)["model"] for path in paths)
        same = all(torch.equal(whole[key], parts[key]) for key in whole if isinstance(whole[key], torch.Tensor))
        return Row(name, same, "bit-identical" if same else "weights differ")

    def out_of_memory(self) -> Row:
        """More than the GPU has ends in one line."""
        done = self.train("memory", "data.load_size=256", "data.batch_size=2048", "trainer.steps=2")
        lines = [line for line in done.stderr.strip().splitlines() if "memory" in line]
        passed = done.returncode == 2 and "Traceback" not in done.stderr and bool(lines)
        return Row("out of memory", passed, lines[-1] if lines else done.stderr.strip()[-200:])

    def synchronisations(self, name: str, *overrides: str) -> Row:
        """How often the host waits for the GPU in 100 steps without a log line."""
        steps = ["trainer.steps=140", "trainer.log_every=130", "trainer.image_every=130", "trainer.save_every=130"]
        done = self.train(f"{name}_sync", *overrides, *steps, program=[str(COUNTER)])
        counts = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("synchronisations")]
        passed = done.returncode == 0 and counts == ["0"]
        note = f"{counts[0]} in 100 steps" if counts else (done.stderr.strip().splitlines() or ["?"])[-1]
        return Row(f"{name}, synchronisations", passed, note)


def rows(check: Check, *, small: bool) -> Iterator[Row]:
    """All checks: those of speed and of memory one after the other, the others side by side."""
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
        yield check.speed("dcgan, speed", 2, "model=dcgan", "network.width=4")
        yield from check.loops(2, 1)
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
    yield from check.loops(20, 5)


def failure(name: str, done: subprocess.CompletedProcess[str]) -> Row:
    """The row of a process that failed: the last line of its errors."""
    return Row(name, False, (done.stderr.strip().splitlines() or ["?"])[-1])


def folder_name(name: str) -> str:
    """The name of a check in characters that a folder of runs may have."""
    return re.sub(r"\W+", "_", name)


def main() -> int:
    """Run the checks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", action="store_true", help="a small part, on the CPU")
    arguments = parser.parse_args()
    device = "CPU" if arguments.cpu else torch.cuda.get_device_name()
    print(f"{device}, torch {torch.__version__}")
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="gantrain-gpu-") as folder:
        for row in rows(Check(Path(folder), "cpu" if arguments.cpu else "cuda"), small=arguments.cpu):
            print(f"{row.name:<48}  {'passed' if row.passed else 'FAILED'}  {row.note}", flush=True)
            passed, failed = passed + row.passed, failed + (not row.passed)
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
