"""The runs of ``scripts/gpu_check.py``, and what they show."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

LOSSES = ("d", "g", "cycle", "idt", "gradient")  # How the names of logged losses begin.
GRAPH_TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}  # Of losses after 10 steps.
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
        """More than the GPU has ends in one line that names a batch size that fits."""
        done = self.train("memory", "data.load_size=256", "data.batch_size=8192", "trainer.steps=2")
        line = (done.stderr.strip().splitlines() or ["?"])[-1]
        passed = done.returncode == 2 and "Traceback" not in done.stderr and "fits" in line
        return Row("out of memory", passed, line)

    def synchronisations(self, name: str, *overrides: str) -> Row:
        """How often the host waits for the GPU in 100 steps without a log line."""
        steps = ["trainer.steps=140", "trainer.log_every=130", "trainer.image_every=130", "trainer.save_every=130"]
        done = self.train(f"{name}_sync", *overrides, *steps, program=[str(COUNTER)])
        counts = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("synchronisations")]
        passed = done.returncode == 0 and counts == ["0"]
        note = f"{counts[0]} in 100 steps" if counts else (done.stderr.strip().splitlines() or ["?"])[-1]
        return Row(f"{name}, synchronisations", passed, note)


def failure(name: str, done: subprocess.CompletedProcess[str]) -> Row:
    """The row of a process that failed: the last line of its errors."""
    return Row(name, False, (done.stderr.strip().splitlines() or ["?"])[-1])


def folder_name(name: str) -> str:
    """The name of a check in characters that a folder of runs may have."""
    return re.sub(r"\W+", "_", name)
