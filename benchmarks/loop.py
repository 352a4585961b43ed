#!/usr/bin/env python3
"""What gantrain's loop costs beyond the bare model.

    OMP_NUM_THREADS=1 python benchmarks/loop.py --steps 50 --repeats 11
    python benchmarks/loop.py --accelerator cuda --steps 20 --repeats 5

For each model, one training step in three ways, in turns within one run: in a loop written by hand as for a single
script (the same networks, losses, optimizers and batches, and nothing else), in ``Trainer.fit`` with its logs and its
progress bar, and in ``Trainer.fit`` with a model that does nothing, which is the loop alone and hardly noisy; on a GPU,
also in ``Trainer.fit`` with ``trainer.cuda_graphs=true``. All have their batches ready; what it costs to draw one from
``BatchStream`` is a row of its own, and images, metrics and checkpoints, which come at intervals that one chooses, are
left out.

Prints a table: medians over the repeats, of wall-clock time and of the CPU time of the whole process. ``--csv`` writes
the same medians to a file.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import steps_by_hand
import torch
from torch import Tensor

from gantrain.benchmarking.clock import Clock
from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.compose import complete, compose_once
from gantrain.config.settings import TrainerSettings, set_up_torch
from gantrain.data.base import Batch
from gantrain.data.stream import BatchStream
from gantrain.report import Report
from gantrain.training.build import Parts
from gantrain.training.context import RunContext
from gantrain.training.trainer import Trainer

READY = 16  # batches, used over and over
WARM_UP = 5  # steps that are not timed
WIDTH = "network.width=64"
CYCLEGAN = ["model=cyclegan", "data=digits2stripes", "model.lambda_identity=0"]
GRAPHS = "trainer.cuda_graphs=true"
CASES = {
    "cpu": {
        "dcgan, 32 pixels, batches of 64": ["model=dcgan", "data.batch_size=64"],
        "cyclegan, 64 pixels, batches of 1": [*CYCLEGAN, "data.load_size=64", "data.batch_size=1"],
    },
    "cuda": {
        "dcgan, 64 pixels, batches of 64": ["model=dcgan", "data.load_size=64", "data.batch_size=64", WIDTH],
        "wgan_gp, 64 pixels, batches of 64": ["model=wgan_gp", "data.load_size=64", "data.batch_size=64", WIDTH],
        "pix2pix, 256 pixels, batches of 1": [
            "model=pix2pix",
            "data=edges2digits",
            "data.load_size=256",
            "data.batch_size=1",
            WIDTH,
        ],
        "cyclegan, resnet_9blocks, 256 pixels, batches of 1": [
            *CYCLEGAN,
            "network/generator=resnet_9blocks",
            "data.load_size=256",
            "data.batch_size=1",
            WIDTH,
        ],
    },
}
Times = tuple[float, float]  # seconds of the wall clock and of the CPU


def build(overrides: list[str]) -> tuple[Parts, TrainerSettings]:
    """The parts of a run, as the command builds them."""
    context = RunContext.create(complete(compose_once("train", [], overrides)))
    set_up_torch(context.trainer, context.device)
    return Parts.build(context, world_size=1), context.trainer


# ---- timing


class Ready:
    """Stands for the stream: its batches are there already."""

    def __init__(self, stream: BatchStream) -> None:
        self._stream = stream
        self.batches = list(islice(stream, READY))
        self._next = cycle(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        self._stream.position += 1
        return next(self._next)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Laps:
    """Asked after each step whether to stop, it looks at the clocks instead.

    Args:
        timed: Steps, after those of the warm-up.
        clock: That of the device, which is waited for.
    """

    def __init__(self, timed: int, clock: Clock) -> None:
        self._timed = timed
        self._clock = clock
        self._done = 0
        self._clocks: list[Times] = []

    def __call__(self) -> bool:
        """Never."""
        self._done += 1
        if self._done in (WARM_UP, WARM_UP + self._timed):
            self._clocks.append((self._clock.idle(), time.process_time()))
        return False

    def per_step(self) -> Times:
        """Of the steps after the warm-up."""
        (wall, cpu), (wall_end, cpu_end) = self._clocks
        return (wall_end - wall) / self._timed, (cpu_end - cpu) / self._timed


def by_hand(step: steps_by_hand.Step, batches: list[Batch], steps: int, clock: Clock) -> Times:
    """Seconds per step."""
    laps, drawn = Laps(steps, clock), cycle(batches)
    for _ in range(WARM_UP + steps):
        step(drawn)
        laps()
    return laps.per_step()


def by_trainer(parts: Parts, settings: TrainerSettings, stream: Any, steps: int) -> Times:
    """Seconds per step, logs and progress bar included."""
    laps = Laps(steps, Clock(parts.context.device))
    with tempfile.TemporaryDirectory() as folder:
        report = Report(
            Path(folder) / "run",
            command="",
            config={},
            columns=parts.model.columns,
            loggers=parts.loggers,
            advice=parts.advice,
            active=True,
        )
        settings = replace(settings, steps=WARM_UP + steps, epochs=None, kimg=None)
        checkpoints = Checkpoints(Path(folder) / "run", keep=1)
        trainer = WithoutImages(parts, settings, report=report, checkpoints=checkpoints, constants={})
        trainer.stream = stream
        parts.update.monitor.wants_stop, parts.update.monitor.wants_save = laps, lambda: False
        trainer.fit()
    return laps.per_step()


class WithoutImages(Trainer):
    """The trainer, which neither shows nor saves."""

    def _show(self) -> None:
        pass

    def _save(self, *, regular: bool) -> None:
        pass


def drawing(stream: BatchStream, count: int) -> Times:
    """Seconds per batch."""
    start = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(stream)
    return (time.perf_counter() - start[0]) / count, (time.process_time() - start[1]) / count


def measure(overrides: list[str], steps: int, repeats: int) -> dict[str, list[Times]]:
    """Every way in turns, forwards and backwards, so that neither gains by what else the machine does."""
    (parts, settings), (hand, _) = build(overrides), build(overrides)
    stream, clock = Ready(parts.stream), Clock(parts.context.device)
    step = getattr(steps_by_hand, overrides[0].removeprefix("model="))(hand)
    losses = step(stream)
    idle, _ = build(overrides)

    def nothing(batches: Iterator[Batch], update: Any) -> dict[str, Tensor]:
        next(batches)
        return losses

    idle.model.train_step = nothing
    ways: dict[str, Callable[[], Times]] = {
        "by hand": lambda: by_hand(step, stream.batches, steps, clock),
        "Trainer.fit": lambda: by_trainer(parts, settings, stream, steps),
        "the loop alone": lambda: by_trainer(idle, settings, stream, 10 * settings.log_every),
        "drawing a batch": lambda: drawing(hand.stream, 2 * READY),
    }
    if parts.context.device.type == "cuda":
        graphed, its_settings = build([*overrides, GRAPHS])
        ways[GRAPHS] = lambda: by_trainer(graphed, its_settings, stream, steps)
    found: dict[str, list[Times]] = {way: [] for way in ways}
    for repeat in range(repeats):
        for way in list(ways)[:: 1 if repeat % 2 else -1]:
            found[way].append(ways[way]())
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--accelerator", choices=CASES, default="cpu", help="where; each has cases of its own")
    parser.add_argument("--steps", type=int, default=50, help="timed at a time")
    parser.add_argument("--repeats", type=int, default=11, help="of every way")
    parser.add_argument("--csv", type=Path, help="a file for the medians")
    typed = parser.parse_args()
    file = None if typed.csv is None else typed.csv.resolve()
    os.chdir(tempfile.mkdtemp())  # the stripes are written where one stands
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {typed.repeats} times {typed.steps} steps\n")
    print("| ms per step, median | wall | CPU | beyond the bare step, of its CPU time |")
    print("|---|---:|---:|---:|")
    medians = []
    for case, overrides in CASES[typed.accelerator].items():
        found = measure(
            [*overrides, "model.ema=0", "metrics=[]", f"trainer.accelerator={typed.accelerator}"],
            typed.steps,
            typed.repeats,
        )
        bare = statistics.median(cpu for _, cpu in found["by hand"])
        print(f"| **{case}** | | | |")
        for way, times in found.items():
            wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
            pairs = zip(times, found["by hand"], strict=True)
            share = statistics.median(mine / its - 1 for (_, mine), (_, its) in pairs)
            beyond = {"by hand": "", "the loop alone": f"{cpu / bare:.2%}", "drawing a batch": f"{cpu / bare:.2%}"}
            print(f"| {way} | {wall * 1e3:.3f} | {cpu * 1e3:.3f} | {beyond.get(way, f'{share:+.2%}')} |", flush=True)
            medians.append({"case": case, "way": way, "wall_ms": wall * 1e3, "cpu_ms": cpu * 1e3})
    if file is not None:
        with file.open("w", newline="") as opened:
            table = csv.DictWriter(opened, list(medians[0]))
            table.writeheader()
            table.writerows(medians)


if __name__ == "__main__":
    main()
