"""Runs that are killed repeatedly and restarted by the same command, compared with an uninterrupted run."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pages import data_of, lines_of
from warm import Kill, Warm

COMMON = [
    "trainer.accelerator=cpu",
    "data.batch_size=4",
    "data.num_workers=2",
    "network.width=4",
    "model.ema=0.9",
    "metrics=none",
]
COMMON += ["trainer.save_every=3", "trainer.log_every=2", "trainer.image_every=5", "name=run"]
SMALL = ["data.load_size=16", "trainer.steps=14"]
SETTINGS = {
    "dcgan": ["model=dcgan", *SMALL],
    "wgan_gp": ["model=wgan_gp", "model.critic_steps=2", *SMALL],
    "cyclegan": [
        "model=cyclegan",
        "model.pool_size=6",
        "network.generator.blocks=1",
        "data.root=../data",
        "data.load_size=24",
        "trainer.steps=14",
    ],
}


@dataclass
class Survival:
    """The outcome of runs that were killed repeatedly.

    Attributes:
        kills: How often runs were killed.
        starts: How often they were started.
        ends: How many of them finished.
        hits: How often they were killed before or after each operation.
        differences: From the uninterrupted run; empty if all runs are bit-identical.
    """

    kills: int = 0
    starts: int = 0
    ends: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


def survive(warm: Warm, model: str, kills: int, draw: random.Random, folder: Path) -> Survival:
    """Kill runs ``kills`` times in total, let each finish, and compare it with an uninterrupted one.

    Args:
        warm: Starts them.
        model: A key of ``SETTINGS``.
        kills: How often to kill.
        draw: Decides when: half of the time before an operation on the run folder, else up to half a second after one
            begins; in a third of all cases the data workers are killed too.
        folder: Created, for all runs.
    """
    argv = ["train", *SETTINGS[model], *COMMON]
    alone = folder / "alone"
    alone.mkdir(parents=True)
    warm.start(argv, alone, kill=Kill(1 << 30))
    whole = warm.wait()
    assert whole.status == 0, (alone / "log.txt").read_text()
    survival = Survival()
    while survival.kills < kills or survival.ends == 0:
        killed = folder / str(survival.ends)
        killed.mkdir()
        status = -9
        while status == -9:
            operation = draw.randint(1, len(whole.operations)) if survival.kills < kills else 1 << 30
            kill = Kill(operation, draw.choice([0, draw.uniform(0, 0.5)]), group=draw.random() < 1 / 3)
            warm.start(argv, killed, kill=kill)
            ended = warm.wait()
            status = ended.status
            survival.starts += 1
            if status == -9:
                survival.kills += 1
                survival.hits[("after " if kill.delay else "before ") + ended.operations[-1]] += 1
        survival.ends += 1
        if found := [f"status {status}"] * (status != 0) + differences(killed, alone):
            survival.differences += [f"{killed}: {difference}" for difference in found]
    return survival


def differences(killed: Path, alone: Path) -> list[str]:
    """The differences between the run folders in two working directories, apart from times."""
    found = []
    pages = [page_contents(each / "checkpoints/run") for each in (killed, alone)]
    if pages[0] != pages[1]:
        found.append(f"the page shows {pages[0]}, not {pages[1]}")
    everything = [
        {str(path.relative_to(each)) for path in (each / "checkpoints/run").rglob("*")} for each in (killed, alone)
    ]
    names = [{name for name in each if "/index_files/data/" not in name} for each in everything]
    # A run that was killed after its last checkpoint could not remove the previous one.
    more = {name for name in names[0] - names[1] if not re.fullmatch(r".*/step_\d+\.pt", name)}
    if more or names[1] - names[0]:
        found.append(f"files: more {sorted(more)}, fewer {sorted(names[1] - names[0])}")
    for name in sorted(names[0] & names[1]):
        here, there = killed / name, alone / name
        if name.endswith(".pt"):
            states = [{**torch.load(path, weights_only=True), "working_folder": None} for path in (here, there)]
            found += [f"{name}: {place}" for place in unequal(*states)]
        elif name.endswith("speed.jsonl"):
            steps = [[json.loads(line)["step"] for line in path.read_text().splitlines()] for path in (here, there)]
            found += [f"{name}: steps {steps[0]}"] * (steps[0] != sorted(set(steps[0])))
        elif here.is_file() and here.read_bytes().replace(bytes(killed), bytes(alone)) != there.read_bytes():
            found.append(name)
    return found


def page_contents(run: Path) -> tuple[Any, ...]:
    """The contents of the page of a run, apart from times."""
    status = data_of(run, "status")
    tables = [lines_of(run, table) for table in ("losses", "images")]
    steps = [line["step"] for line in lines_of(run, "speed")]
    end = [status.get(key) for key in ("state", "reason", "step", "done", "total", "epoch", "kimg")]
    return (*end, *tables, steps == sorted(set(steps)))


def unequal(one: Any, other: Any, place: str = "") -> list[str]:
    """The paths at which nested states are not bit-identical."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [place]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for key in one for found in unequal(one[key], other[key], f"{place}.{key}")]
    if isinstance(one, (list, tuple)) and type(one) is type(other) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [found for number, pair in pairs for found in unequal(*pair, f"{place}[{number}]")]
    return [] if type(one) is type(other) and one == other else [place]
