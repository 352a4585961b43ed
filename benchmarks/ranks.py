#!/usr/bin/env python3
"""What it brings to send gradients during the backward pass, with two ranks on the CPU.

    OMP_NUM_THREADS=1 python benchmarks/ranks.py --rates none 10gbit 1gbit --repeats 9

Two processes, each with a thread, train one model: after the backward pass, all gradients are sent in one message, or
in buckets while it computes, in turns within one run. A rate limits their connection, which is a virtual cable between
two network namespaces then (Linux, iproute2, as root); ``none`` is the loopback device. Prints a table: medians over
the repeats, of rank 0.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice

import torch

from gantrain.cli.compose import complete, compose_once
from gantrain.config.settings import set_up_torch
from gantrain.optim import buckets
from gantrain.optim.buckets import GradientMean
from gantrain.runtime import distributed
from gantrain.training.build import Parts
from gantrain.training.context import RunContext

CPU = torch.device("cpu")
STEPS = 2  # Timed together.
WAYS = {"after the backward pass": sys.maxsize, "in buckets": buckets.BUCKET_BYTES}
WIDTH = ["network.generator.width=64", "network.discriminator.width=64", "data.load_size=64"]
CASES = {
    "dcgan, 8 images a rank": ["model=dcgan", "data=digits", "data.batch_size=16", *WIDTH],
    "cyclegan, 1 image a rank": ["model=cyclegan", "data=digits2stripes", "data.batch_size=2", *WIDTH],
}


def measure(case: str, repeats: int) -> list[list[float]]:
    """Of each way, the seconds per step by repeat, then those of CPU time; for one of the ranks."""
    typed = [*CASES[case], "trainer.accelerator=cpu"]
    context = replace(RunContext.create(complete(compose_once("train", [], typed))), device=CPU)
    set_up_torch(context.trainer, CPU)
    parts = Parts.build(context, world_size=2)
    means = {}
    for way, size in WAYS.items():
        buckets.BUCKET_BYTES = size
        means[way] = [GradientMean(side.parameters) for side in parts.update.sides]
    batches = cycle(list(islice(parts.stream, 4)))
    parts.model.train()
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    busy: dict[str, list[float]] = {way: [] for way in WAYS}
    for repeat in range(repeats + 1):
        for way in list(WAYS)[:: 1 if repeat % 2 else -1]:
            for side, mean in zip(parts.update.sides, means[way], strict=True):
                side._mean = mean
            distributed.all_gather_object(None)
            start, used = time.perf_counter(), time.process_time()
            for step in range(STEPS):
                parts.update.begin(step, 0.0)
                parts.model.train_step(batches, parts.update)
            seconds[way].append((time.perf_counter() - start) / STEPS)
            busy[way].append((time.process_time() - used) / STEPS)
    parts.stream.close()
    return [times[1:] for times in (*seconds.values(), *busy.values())]


@contextmanager
def connected(rate: str) -> Iterator[list[list[str]]]:
    """What each of two commands begins with, so that their connection has this rate."""
    if rate == "none":
        yield [[], []]
        return
    names = [f"gantrain_{os.getpid()}_{number}" for number in (1, 2)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
            limit = ["root", "tbf", "rate", rate, "burst", "2mb", "latency", "100ms"]
            subprocess.run(["tc", "-n", name, "qdisc", "add", "dev", "eth0", *limit], check=True)
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def ip(*words: str) -> None:
    """Run a command of iproute2."""
    subprocess.run(["ip", *words], check=True)


def compare(case: str, rate: str, repeats: int) -> None:
    """Print the rows of a model and a rate."""
    common = {"WORLD_SIZE": "2", "MASTER_PORT": "29555", "LOCAL_WORLD_SIZE": "2"}
    common["MASTER_ADDR"] = "127.0.0.1" if rate == "none" else "10.77.0.1"
    if rate != "none":
        common["GLOO_SOCKET_IFNAME"] = "eth0"
    common["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # Addresses have no names here.
    command = [sys.executable, __file__, "--case", case, "--repeats", str(repeats)]
    with connected(rate) as starts:
        ranks = [
            subprocess.Popen(
                [*start, *command],
                env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank, start in enumerate(starts)
        ]
        try:
            printed = [rank.communicate()[0] for rank in ranks]
        finally:  # A namespace in use can't be deleted.
            for rank in ranks:
                rank.kill()
                rank.wait()
    times = [list(map(float, line.split())) for line in printed[0].splitlines()]
    pairs = times[:2], times[2:]
    wall, cpu = (statistics.median(new / old for old, new in zip(*pair, strict=True)) for pair in pairs)
    first, second = (statistics.median(each) * 1000 for each in times[:2])
    place = "loopback" if rate == "none" else rate
    print(f"| {case} | {place} | {first:,.0f} | {second:,.0f} | {wall:.2f} | {cpu:.2f} |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", nargs="+", default=["none"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--case", help=argparse.SUPPRESS)  # As one of the ranks.
    options = parser.parse_args()
    if options.case:
        distributed.join(CPU)
        for times in measure(options.case, options.repeats):
            if distributed.rank() == 0:
                print(*times)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # The namespaces are deleted.
    print("| model | connection | ms per step, one message after | in buckets | ratio | of CPU time |")
    print("|---|---|---:|---:|---:|---:|")
    for case in options.cases:
        for rate in options.rates:
            compare(case, rate, options.repeats)


if __name__ == "__main__":
    main()
