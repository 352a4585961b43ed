#!/usr/bin/env python3
"""What gantrain's loop costs beyond the bare model, on the CPU.

    OMP_NUM_THREADS=1 python benchmarks/loop.py --steps 50 --repeats 11

For each model, one training step in three ways, in turns within one run: in a loop written by hand as for a single
script (the same networks, losses, optimizers and batches, and nothing else), in ``Trainer.fit`` with its logs and its
progress bar, and in ``Trainer.fit`` with a model that does nothing, which is the loop alone and hardly noisy. All have
their batches ready; what it costs to draw one from ``BatchStream`` is a row of its own, and images and checkpoints,
which come at intervals that one chooses, are left out.

Prints a table: medians over the repeats, of wall-clock time and of the CPU time of the whole process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from gantrain.checkpoints.store import Checkpoints
from gantrain.config.schema import construct
from gantrain.config.settings import RunSettings, TrainerSettings, set_up_torch
from gantrain.data.base import Batch
from gantrain.data.stream import BatchStream
from gantrain.models.pool import ImagePool
from gantrain.report import Report
from gantrain.training.build import Parts
from gantrain.training.trainer import Clock, Trainer

CPU = torch.device("cpu")
READY = 16  # batches, used over and over
WARM_UP = 5  # steps that are not timed
CASES = {
    "dcgan, digits of 32 pixels, batches of 64": ["model=dcgan", "data=digits", "model.ema=0"],
    "cyclegan, stripes of 64 pixels, batches of 1": [
        "model=cyclegan",
        "data=digits2stripes",
        "data.load_size=64",
        "data.batch_size=1",
        "model.lambda_identity=0",
    ],
}
Times = tuple[float, float]  # seconds of the wall clock and of the CPU


def build(overrides: list[str]) -> tuple[Parts, TrainerSettings]:
    """The parts of a run, as the command builds them."""
    with initialize_config_module("gantrain.configs", version_base="1.3"):
        config = OmegaConf.to_container(compose("train", [*overrides, "trainer.accelerator=cpu"]), resolve=True)
    of_composition = ("demo", "discriminator_defaults", "sweep")
    config = {key: value for key, value in config.items() if key not in of_composition} | {"name": "benchmark"}
    settings = construct(RunSettings, config, key="")
    trainer = construct(TrainerSettings, settings.trainer, key="trainer")
    set_up_torch(trainer, CPU)
    return Parts.build(config, settings, trainer, CPU, world_size=1), trainer


# ---- by hand


def bare_dcgan(parts: Parts) -> Callable[[Batch], dict[str, Tensor]]:
    """One step of DCGAN as in a script of its own."""
    generator, discriminator = parts.model.generator, parts.model.discriminator
    optimizer_g, optimizer_d = (player.optimizer for player in parts.update.players)

    def step(batch: Batch) -> dict[str, Tensor]:
        real = batch["image"]
        with torch.no_grad():
            fake = generator(torch.randn(len(real), parts.model.latent_dim), None)
        d_real = F.softplus(-discriminator(real)).mean()
        d_fake = F.softplus(discriminator(fake)).mean()
        optimizer_d.zero_grad()
        (d_real + d_fake).backward()
        optimizer_d.step()
        set_gradients(discriminator, False)
        g = F.softplus(-discriminator(generator(torch.randn(len(real), parts.model.latent_dim), None))).mean()
        optimizer_g.zero_grad()
        g.backward()
        optimizer_g.step()
        set_gradients(discriminator, True)
        return {"d_real": d_real.detach(), "d_fake": d_fake.detach(), "g": g.detach()}

    return step


def bare_cyclegan(parts: Parts) -> Callable[[Batch], dict[str, Tensor]]:
    """One step of CycleGAN without identity loss as in a script of its own."""
    model: Any = parts.model
    g_ab, g_ba, d_a, d_b = model.generator_ab, model.generator_ba, model.discriminator_a, model.discriminator_b
    optimizer_g, optimizer_d = (player.optimizer for player in parts.update.players)
    pool_a, pool_b = ImagePool(model.pool_a.size), ImagePool(model.pool_b.size)

    def mse(logits: Tensor, target: float) -> Tensor:
        return (logits - target).square().mean()

    def step(batch: Batch) -> dict[str, Tensor]:
        a, b = batch["a"], batch["b"]
        set_gradients(d_a, False)
        set_gradients(d_b, False)
        fake_b, fake_a = g_ab(a), g_ba(b)
        losses = {
            "g_a": mse(d_b(fake_b), 1.0),
            "g_b": mse(d_a(fake_a), 1.0),
            "cycle_a": 10 * F.l1_loss(g_ba(fake_b), a),
            "cycle_b": 10 * F.l1_loss(g_ab(fake_a), b),
        }
        optimizer_g.zero_grad()
        sum(losses.values()).backward()
        optimizer_g.step()
        set_gradients(d_a, True)
        set_gradients(d_b, True)
        (old_b,), (old_a,) = pool_b(fake_b), pool_a(fake_a)
        losses["d_a"] = (mse(d_b(b), 1.0) + mse(d_b(old_b), 0.0)) / 2
        losses["d_b"] = (mse(d_a(a), 1.0) + mse(d_a(old_a), 0.0)) / 2
        optimizer_d.zero_grad()
        (losses["d_a"] + losses["d_b"]).backward()
        optimizer_d.step()
        return {name: loss.detach() for name, loss in losses.items()}

    return step


def set_gradients(network: nn.Module, wanted: bool) -> None:
    """Whether the parameters receive gradients."""
    for parameter in network.parameters():
        parameter.requires_grad_(wanted)


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
    """

    def __init__(self, timed: int) -> None:
        self._timed = timed
        self._done = 0
        self._clocks: list[Times] = []

    def __call__(self) -> bool:
        """Never."""
        self._done += 1
        if self._done in (WARM_UP, WARM_UP + self._timed):
            self._clocks.append((time.perf_counter(), time.process_time()))
        return False

    def per_step(self) -> Times:
        """Of the steps after the warm-up."""
        (wall, cpu), (wall_end, cpu_end) = self._clocks
        return (wall_end - wall) / self._timed, (cpu_end - cpu) / self._timed


def by_hand(step: Callable[[Batch], dict[str, Tensor]], batches: list[Batch], steps: int) -> Times:
    """Seconds per step."""
    laps = Laps(steps)
    for batch in islice(cycle(batches), WARM_UP + steps):
        step(batch)
        laps()
    return laps.per_step()


def by_trainer(parts: Parts, settings: TrainerSettings, stream: Any, steps: int) -> Times:
    """Seconds per step, logs and progress bar included."""
    laps = Laps(steps)
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
        trainer = WithoutImages(
            model=parts.model,
            update=parts.update,
            stream=stream,
            clock=Clock(WARM_UP + steps, "step"),
            report=report,
            checkpoints=Checkpoints(Path(folder) / "run", keep=1),
            constants={},
            held_out=parts.held_out,
            preview=parts.preview,
            log_every=settings.log_every,
            image_every=settings.image_every,
            save_every=settings.save_every,
            save_minutes=None,
            objective=parts.objective,
        )
        parts.update.watch.wants_stop = laps
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
    stream = Ready(parts.stream)
    step = (bare_dcgan if "model=dcgan" in overrides else bare_cyclegan)(hand)
    losses = step(stream.batches[0])
    idle, _ = build(overrides)

    def nothing(batches: Iterator[Batch], update: Any) -> dict[str, Tensor]:
        next(batches)
        return losses

    idle.model.train_step = nothing
    ways: dict[str, Callable[[], Times]] = {
        "by hand": lambda: by_hand(step, stream.batches, steps),
        "Trainer.fit": lambda: by_trainer(parts, settings, stream, steps),
        "the loop alone": lambda: by_trainer(idle, settings, stream, 10 * settings.log_every),
        "drawing a batch": lambda: drawing(hand.stream, 2 * READY),
    }
    found: dict[str, list[Times]] = {way: [] for way in ways}
    for repeat in range(repeats):
        for way in list(ways)[:: 1 if repeat % 2 else -1]:
            found[way].append(ways[way]())
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=50, help="timed at a time")
    parser.add_argument("--repeats", type=int, default=11, help="of every way")
    typed = parser.parse_args()
    os.chdir(tempfile.mkdtemp())  # the stripes are written where one stands
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {typed.repeats} times {typed.steps} steps\n")
    print("| ms per step, median | wall | CPU | beyond the bare step, of its CPU time |")
    print("|---|---:|---:|---:|")
    for case, overrides in CASES.items():
        found = measure(overrides, typed.steps, typed.repeats)
        bare = statistics.median(cpu for _, cpu in found["by hand"])
        print(f"| **{case}** | | | |")
        for way, times in found.items():
            wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
            pairs = zip(times, found["by hand"], strict=True)
            share = statistics.median(mine / its - 1 for (_, mine), (_, its) in pairs)
            beyond = {"by hand": "", "Trainer.fit": f"{share:+.2%}"}.get(way, f"{cpu / bare:.2%}")
            print(f"| {way} | {wall * 1e3:.3f} | {cpu * 1e3:.3f} | {beyond} |", flush=True)


if __name__ == "__main__":
    main()
