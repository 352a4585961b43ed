"""Two ranks: one of them is killed, both get signals, and the loss of one of them is not finite.

A plug-in pauses them in the middle of a step, so that tests do not depend on the speed of the machine.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from conftest import INTRODUCTION, TINY, assert_mentions
from killing import differences
from torch import Tensor
from translated import image
from warm import Warm

from gantrain.checkpoints.store import Checkpoints

PLUGIN = """
import math, os, pathlib, time
from gantrain.runtime.signals import Interruption
from gantrain.optim.updates import Updates

take, begin, generator = Interruption._handle, Updates.begin, Updates.generator
rank = os.environ.get("RANK")

def taken(self, *signal):
    take(self, *signal)
    with open(f"taken_{rank}", "a") as file:
        file.write("1")

def held(self, step, progress):
    begin(self, step, progress)
    pathlib.Path(f"reached_{rank}").write_text(str(step + 1))
    hold = pathlib.Path(f"hold_{rank}")
    if hold.exists() and hold.read_text() == str(step + 1):
        pathlib.Path(f"number_{rank}").write_text(str(os.getpid()))
        pathlib.Path(f"number_{rank}").rename(f"held_{rank}")
        deadline = time.monotonic() + 120  # should the test have failed
        while hold.exists() and time.monotonic() < deadline:
            time.sleep(0.01)

def poisoned(self, loss):
    poison = pathlib.Path(f"poison_{rank}_{self.step + 1}")
    if poison.exists():
        how = poison.read_text()
        poison.unlink()
        loss = loss + math.nan if how == "loss" else loss * math.nan
    generator(self, loss)

Interruption._handle, Updates.begin, Updates.generator = taken, held, poisoned
"""
RUN = ["train", *TINY, "trainer.devices=2", "plugins=[holding]", "model=dcgan", "model.ema=0.9", "name=run"]
RUN += ["data.num_workers=1", "trainer.steps=12", "trainer.log_every=2", "trainer.save_every=4"]
AGAIN = "the same command resumes"
LONG = 120  # seconds, of what takes some


class Runs:
    """Runs of the same command in one folder.

    Args:
        warm: Starts it.
        folder: Made.
    """

    def __init__(self, warm: Warm, folder: Path) -> None:
        self._warm = warm
        self.folder = folder
        self.launcher = 0
        folder.mkdir()
        (folder / "holding.py").write_text(PLUGIN)

    def start(self, *overrides: str, hold: dict[int, int] | None = None) -> None:
        """Start it, and wait until every rank in ``hold`` is paused.

        Args:
            overrides: In addition to those of ``RUN``.
            hold: By rank, the step (from 1) in which it is paused.
        """
        hold = hold or {}
        for rank, step in hold.items():
            for kind in ("held", "taken"):
                self.file(kind, rank).unlink(missing_ok=True)
            self.file("hold", rank).write_text(str(step))
        (self.folder / "log.txt").unlink(missing_ok=True)
        path = os.pathsep.join([str(self.folder), *sys.path])
        first = f"import os, sys; os.environ['PYTHONPATH'] = {path!r}; sys.path.insert(0, {str(self.folder)!r})"
        self.launcher = self._warm.start([*RUN, *overrides], self.folder, first=first, executable=self._warm.python)
        for rank in hold:
            self.wait_for(self.file("held", rank).exists)

    def release(self) -> None:
        """Continue the paused ranks."""
        for rank in (0, 1):
            self.file("hold", rank).unlink(missing_ok=True)

    def end(self) -> int:
        """Wait for the command's end, and return its exit status."""
        self.wait_for(lambda: not is_running(self.launcher))
        return self._warm.wait().status

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONG
        while not condition():
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.01)

    def file(self, kind: str, rank: int) -> Path:
        """The file by which the plug-in and the test communicate about a rank."""
        return self.folder / f"{kind}_{rank}"

    def process(self, rank: int) -> int:
        """The process ID of a paused rank."""
        return int(self.file("held", rank).read_text())

    def taken(self, rank: int) -> int:
        """The number of signals that a rank has received."""
        file = self.file("taken", rank)
        return len(file.read_text()) if file.exists() else 0

    def reached(self) -> list[int]:
        """The step that each rank began last."""
        return [int(self.file("reached", rank).read_text()) for rank in (0, 1)]

    def saved(self) -> list[int]:
        """The steps of the checkpoints."""
        return Checkpoints(self.folder / "checkpoints" / "run").steps()

    @property
    def printed(self) -> str:
        return (self.folder / "log.txt").read_text()

    @property
    def messages(self) -> list[str]:
        """The printed lines without progress, the introduction, the page and the resumed checkpoint."""
        lines = [line.strip() for line in re.split(r"[\r\n]+", self.printed)]
        return [line for line in lines if line and not line.startswith(("run: ", "Resuming ", *INTRODUCTION))]


def status_of(process: int) -> dict[str, str]:
    """The fields of ``/proc/PID/status``; none after the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def is_running(process: int) -> bool:
    return not status_of(process).get("State", "Z").startswith("Z")


def test_two_processes_resume_bit_identically_after_any_end(warm: Warm, workplace: Path) -> None:
    alone, run = Runs(warm, workplace / "alone"), Runs(warm, workplace / "run")
    alone.start()
    assert alone.end() == 0

    # Only the launcher gets the signal, or its ranks too, as from systemd.
    for name, step, all_of_them in (("SIGTERM", 2, True), ("SIGUSR1", 5, False), ("SIGINT", 7, True)):
        run.start(hold={0: step, 1: step})
        for rank in (0, 1) if all_of_them else ():
            os.kill(run.process(rank), getattr(signal, name))
            run.wait_for(lambda rank=rank: run.taken(rank) == 1)
        os.kill(run.launcher, getattr(signal, name))
        for rank in (0, 1):
            run.wait_for(lambda rank=rank, count=1 + all_of_them: run.taken(rank) >= count)
        run.release()
        assert run.end() == 128 + getattr(signal, name)
        (line,) = run.messages
        assert line.startswith(f"Stopped at step {step + 1} and saved ({name}); {AGAIN}: gantrain train")
        assert run.reached() == [step + 1] * 2
        assert run.saved()[-1] == step + 1

    run.start(hold={1: 10})
    os.kill(run.process(1), signal.SIGKILL)
    killed = time.monotonic()
    assert run.end() == 128 + signal.SIGKILL
    assert time.monotonic() < killed + 60
    (line,) = run.messages
    assert_mentions(line, "gantrain: rank 1 was killed by SIGKILL", "memory", "the same command to resume")
    assert run.saved()[-1] == 8

    # A second signal does not wait for the end of a step.
    run.start(hold={0: 10, 1: 10})
    ranks = [run.process(rank) for rank in (0, 1)]
    os.kill(run.launcher, signal.SIGTERM)
    for rank in (0, 1):
        run.wait_for(lambda rank=rank: run.taken(rank) >= 1)
    os.kill(run.launcher, signal.SIGTERM)
    assert run.end() == 128 + signal.SIGTERM
    assert not any(map(is_running, ranks))
    assert run.messages == []
    assert run.saved()[-1] == 8

    # nobody stops the ranks of a launcher that is killed
    run.start(hold={0: 10, 1: 10})
    ranks = [run.process(rank) for rank in (0, 1)]
    os.kill(run.launcher, signal.SIGKILL)
    run.end()
    run.release()
    for rank in ranks:
        run.wait_for(lambda rank=rank: not is_running(rank))
    assert run.saved()[-1] == 11
    (run.folder / "checkpoints/run/step_11.pt").unlink()

    run.start()
    assert run.end() == 0
    assert "Resuming checkpoints/run at step 8" in run.printed
    assert differences(run.folder, alone.folder) == []


def test_divergence_on_one_rank_stops_both_or_rolls_both_back(warm: Warm, workplace: Path) -> None:
    run = Runs(warm, workplace / "run")
    for number in range(8):
        image(run.folder / f"photos/{number}.png", 16, 16)
    run.file("poison_1", 6).write_text("loss")  # Its gradient is finite.
    run.file("poison_1", 11).write_text("gradient")
    run.start("data=single", "data.root=photos", "trainer.on_divergence=rollback", "trainer.rollbacks=1")
    assert run.end() == 2
    back, end = run.messages
    crash = Path("checkpoints/run/crash")
    assert back.startswith("diverged at step 6: the loss of the generator is not finite")
    assert_mentions(back, f"{crash}/step_6.json", "back to step 4", "(rollback 1 of 1)")
    assert end.startswith("gantrain: diverged at step 11: the gradient of the generator is nan")
    assert_mentions(end, f"{crash}/step_11.json", " Try ")
    for step in (6, 11):
        record = json.loads((run.folder / crash / f"step_{step}.json").read_text())
        (norm,) = [norm for norm in record["gradient_norms"] if (norm["step"], norm["side"]) == (step, "generator")]
        assert not norm["finite_loss"]
        assert math.isfinite(norm["norm"]) == (step == 6)
        assert len(set(record["images"])) == 4  # Of both ranks.
    assert run.reached() == [12, 12]  # The step that detects it.
    assert run.saved() == [4, 8]
    for path in (run.folder / "checkpoints" / "run").glob("*.pt"):
        state = torch.load(path, weights_only=True)
        assert all(value.isfinite().all() for value in state["model"].values() if isinstance(value, Tensor))
