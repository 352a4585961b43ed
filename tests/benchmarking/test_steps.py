"""The measured times are those of a stopwatch around the steps, divided into their parts."""

from __future__ import annotations

from typing import Any

import pytest
from measured_steps import tiny_steps

from gantrain.data.stream import BatchStream
from gantrain.optim.ema import EMA
from gantrain.optim.updates import SideOptimizer

COSTS = {"data": 2.0, "forward": 3.0, "backward": 5.0, "optimizer": 7.0, "ema": 11.0}


class FakeClock:
    """Seconds that pass only where ``costs`` says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

    def costs(self, owner: Any, name: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        original = getattr(owner, name)

        def costing(*arguments: Any, **options: Any) -> Any:
            self.seconds += seconds
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, costing)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    for owner, name, part in (
        (BatchStream, "__next__", "data"),
        (SideOptimizer, "accumulate", "backward"),
        (SideOptimizer, "step", "optimizer"),
        (EMA, "update", "ema"),
    ):
        clock.costs(owner, name, COSTS[part], monkeypatch)
    return clock


# ``wgan`` makes 5 discriminator updates, each on its own batch, for one of the generator.
@pytest.mark.parametrize(
    ("typed", "batches", "passes", "updates"),
    [(["model=dcgan"], 1, 2, 2), (["model=wgan"], 5, 6, 6), (["trainer.micro_batch=2"], 1, 4, 2)],
)
def test_times_are_those_of_a_stopwatch(typed, batches: int, passes: int, updates: int, clock, monkeypatch) -> None:
    steps = tiny_steps(*typed, "model.ema=0.9", now=clock)
    clock.costs(steps.trainer.model.generator, "forward", COSTS["forward"], monkeypatch)
    before, taken = 0.0, 0
    take_step = steps.trainer.take_step

    def watched() -> Any:
        nonlocal before, taken
        taken += 1
        if taken == 3 + 1:
            before = clock.seconds  # The stopwatch starts.
        return take_step()

    monkeypatch.setattr(steps.trainer, "take_step", watched)
    measured = steps.measure(warmup=3, steps=4)
    assert taken == 7
    assert measured.seconds == pytest.approx((clock.seconds - before) / 4)
    assert measured.parts == pytest.approx(
        {
            "data": COSTS["data"] * batches,
            "forward": COSTS["forward"] * passes,
            "backward": COSTS["backward"] * passes,
            "optimizer": COSTS["optimizer"] * updates + COSTS["ema"],
        }
    )
    assert measured.images == 4 * batches
    assert sum(measured.parts.values()) == pytest.approx(measured.seconds)


def test_micro_batches_are_counted_in_all_threads() -> None:
    whole, parts = (tiny_steps("network.norm=none", *typed) for typed in ([], ["trainer.micro_batch=2"]))
    whole, parts = (steps.measure(warmup=2, steps=1) for steps in (whole, parts))
    assert parts.flops == whole.flops > 0
    assert parts.operations > whole.operations


def test_counts_are_those_of_a_step_after_the_first() -> None:
    few, many = (tiny_steps("model=dcgan").measure(warmup=count, steps=1) for count in (2, 4))
    assert few.operations == many.operations == int(few.operations)
    assert few.flops == many.flops


def test_the_missing_run_folder_makes_no_step_wait_to_be_saved() -> None:
    steps = tiny_steps()
    trainer = steps.trainer
    assert not trainer.parts.context.folder.exists()
    trainer.take_step()
    assert not trainer.update.monitor.poll(sync=False).save
