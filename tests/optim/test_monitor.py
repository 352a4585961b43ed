"""Divergence and requests to stop and to save, on which all ranks agree."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gantrain.optim.monitor import MAX_NORMS, RunMonitor, StepStatus
from gantrain.runtime import distributed

CPU = torch.device("cpu")
NAN, INF = math.nan, math.inf


def step(
    monitor: RunMonitor, number: int, *, loss: float = 1.0, gradient: float = 1.0, may_be_infinite: bool = False
) -> None:
    """One update in step ``number`` (from 1)."""
    monitor.begin(number - 1)
    update(monitor, loss=loss, gradient=gradient, may_be_infinite=may_be_infinite)


def update(monitor: RunMonitor, *, loss: float = 1.0, gradient: float = 1.0, may_be_infinite: bool = False) -> None:
    message = monitor.message(torch.tensor(loss))
    monitor.record_update(message, "generator", [torch.tensor([gradient, 0.0])], may_be_infinite=may_be_infinite)


@pytest.mark.parametrize("bad", [{"loss": NAN}, {"loss": INF}, {"loss": -INF}, {"gradient": NAN}, {"gradient": -INF}])
def test_divergence_is_known_one_step_later_or_after_a_sync(bad: dict[str, float]) -> None:
    monitor = RunMonitor()
    step(monitor, 7, **bad)
    assert monitor.poll(sync=False) == StepStatus()
    step(monitor, 8)
    assert monitor.poll(sync=False) == StepStatus(diverged=7)
    step(monitor, 9)
    assert monitor.poll(sync=True) == StepStatus()
    step(monitor, 10, **bad)
    assert monitor.poll(sync=True) == StepStatus(diverged=10)


def test_the_first_of_two_diverged_steps_is_reported() -> None:
    monitor = RunMonitor()
    step(monitor, 1, loss=NAN)
    monitor.poll(sync=False)
    step(monitor, 2, loss=NAN)
    assert monitor.poll(sync=True) == StepStatus(diverged=1)


def test_every_update_of_a_step_counts() -> None:
    monitor = RunMonitor()
    step(monitor, 1)
    update(monitor, gradient=NAN)
    update(monitor)
    assert monitor.poll(sync=True) == StepStatus(diverged=1)


def test_infinite_scaled_gradients_do_not_count_as_divergence() -> None:
    monitor = RunMonitor()
    step(monitor, 1, gradient=INF, may_be_infinite=True)
    assert monitor.poll(sync=True) == StepStatus()
    step(monitor, 2, loss=NAN, may_be_infinite=True)
    assert monitor.poll(sync=True) == StepStatus(diverged=2)


def test_a_single_process_stops_and_saves_in_the_same_step() -> None:
    monitor = RunMonitor()
    wants = {"stop": False, "save": False}
    monitor.wants_stop, monitor.wants_save = lambda: wants["stop"], lambda: wants["save"]
    step(monitor, 1)
    assert monitor.poll(sync=False) == StepStatus()
    step(monitor, 2, loss=NAN)
    wants["save"] = True
    assert monitor.poll(sync=False) == StepStatus(save=True, diverged=2)
    step(monitor, 3)
    wants["stop"] = True
    assert monitor.poll(sync=False) == StepStatus(stop=True, save=True)


def test_reset_discards_pending_flags_and_norms() -> None:
    monitor = RunMonitor()
    step(monitor, 5, loss=NAN)
    monitor.poll(sync=False)
    monitor.reset()
    assert monitor.gradient_norms() == []
    step(monitor, 3)
    assert monitor.poll(sync=True) == StepStatus()


def test_the_last_norms_are_stored() -> None:
    monitor = RunMonitor()
    for number in range(1, MAX_NORMS + 3):
        monitor.begin(number - 1)
        message = monitor.message(torch.tensor(1.0))
        monitor.record_update(
            message,
            "discriminator",
            [torch.tensor([3.0 * number]), torch.tensor([[4.0 * number]])],
            may_be_infinite=False,
        )
    norms = monitor.gradient_norms()
    assert len(norms) == MAX_NORMS
    assert norms[-1] == {
        "step": MAX_NORMS + 2,
        "side": "discriminator",
        "norm": 5.0 * (MAX_NORMS + 2),
        "finite_loss": True,
    }
    assert norms[0]["step"] == 3


class Ranks:
    """Monitors of several ranks in one process, whose messages are averaged as between processes."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(distributed, "world_size", lambda: count)
        self.monitors = [RunMonitor() for _ in range(count)]

    def step(self, number: int, losses: list[float], *, sync: bool = False) -> list[StepStatus]:
        messages: list[Tensor] = []
        for monitor, loss in zip(self.monitors, losses, strict=True):
            monitor.begin(number - 1)
            messages.append(monitor.message(torch.tensor(float(loss))))
        mean = torch.stack(messages).mean(dim=0)
        for monitor in self.monitors:
            monitor.record_update(mean, "generator", [torch.ones(1)], may_be_infinite=False)
        return [monitor.poll(sync=sync) for monitor in self.monitors]


def test_ranks_stop_and_save_in_the_same_step(monkeypatch) -> None:
    ranks = Ranks(3, monkeypatch)
    assert ranks.step(1, [1, 1, 1]) == [StepStatus()] * 3
    ranks.monitors[1].wants_stop = lambda: True
    assert ranks.step(2, [1, 1, 1]) == [StepStatus()] * 3
    ranks.monitors[2].wants_save = lambda: True
    assert ranks.step(3, [1, 1, 1]) == [StepStatus(stop=True, save=True)] * 3


def test_ranks_agree_on_a_divergence_of_one_of_them(monkeypatch) -> None:
    ranks = Ranks(2, monkeypatch)
    assert ranks.step(1, [1, NAN]) == [StepStatus()] * 2
    assert ranks.step(2, [1, 1]) == [StepStatus(diverged=1)] * 2
    assert ranks.step(3, [INF, 1], sync=True) == [StepStatus(diverged=3)] * 2
