"""What a step has seen: divergence, wishes to stop and to save, and all of it agreed on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gantrain.optim.monitor import NORMS, RunMonitor, StepStatus
from gantrain.runtime import distributed

CPU = torch.device("cpu")
NAN, INF = math.nan, math.inf


def step(
    watch: RunMonitor, number: int, *, loss: float = 1.0, gradient: float = 1.0, may_be_infinite: bool = False
) -> None:
    """One update in step ``number`` (from 1)."""
    watch.begin(number - 1)
    update(watch, loss=loss, gradient=gradient, may_be_infinite=may_be_infinite)


def update(watch: RunMonitor, *, loss: float = 1.0, gradient: float = 1.0, may_be_infinite: bool = False) -> None:
    message = watch.message(torch.tensor(loss))
    watch.record_update(message, "generator", [torch.tensor([gradient, 0.0])], may_be_infinite=may_be_infinite)


@pytest.mark.parametrize("bad", [{"loss": NAN}, {"loss": INF}, {"loss": -INF}, {"gradient": NAN}, {"gradient": -INF}])
def test_what_is_not_finite_is_known_one_step_later_or_at_once(bad: dict[str, float]) -> None:
    watch = RunMonitor(CPU)
    step(watch, 7, **bad)
    assert watch.poll(sync=False) == StepStatus()
    step(watch, 8)
    assert watch.poll(sync=False) == StepStatus(diverged=7)
    step(watch, 9)
    assert watch.poll(sync=True) == StepStatus()
    step(watch, 10, **bad)
    assert watch.poll(sync=True) == StepStatus(diverged=10)


def test_of_two_steps_the_first_is_named() -> None:
    watch = RunMonitor(CPU)
    step(watch, 1, loss=NAN)
    watch.poll(sync=False)
    step(watch, 2, loss=NAN)
    assert watch.poll(sync=True) == StepStatus(diverged=1)


def test_every_update_of_a_step_counts() -> None:
    watch = RunMonitor(CPU)
    step(watch, 1)
    update(watch, gradient=NAN)
    update(watch)
    assert watch.poll(sync=True) == StepStatus(diverged=1)


def test_gradients_that_a_scaler_rejects_are_no_divergence_but_such_a_loss_is() -> None:
    watch = RunMonitor(CPU)
    step(watch, 1, gradient=INF, may_be_infinite=True)
    assert watch.poll(sync=True) == StepStatus()
    step(watch, 2, loss=NAN, may_be_infinite=True)
    assert watch.poll(sync=True) == StepStatus(diverged=2)


def test_alone_a_wish_is_seen_in_its_own_step_and_the_step_is_looked_at_too() -> None:
    watch = RunMonitor(CPU)
    wishes = {"stop": False, "save": False}
    watch.wants_stop, watch.wants_save = lambda: wishes["stop"], lambda: wishes["save"]
    step(watch, 1)
    assert watch.poll(sync=False) == StepStatus()
    step(watch, 2, loss=NAN)
    wishes["save"] = True
    assert watch.poll(sync=False) == StepStatus(save=True, diverged=2)
    step(watch, 3)
    wishes["stop"] = True
    assert watch.poll(sync=False) == StepStatus(stop=True, save=True)


def test_what_was_seen_before_going_back_is_forgotten() -> None:
    watch = RunMonitor(CPU)
    step(watch, 5, loss=NAN)
    watch.poll(sync=False)
    watch.forget()
    assert watch.gradient_norms() == []
    step(watch, 3)
    assert watch.poll(sync=True) == StepStatus()


def test_the_last_norms_are_remembered() -> None:
    watch = RunMonitor(CPU)
    for number in range(1, NORMS + 3):
        watch.begin(number - 1)
        message = watch.message(torch.tensor(1.0))
        watch.record_update(
            message,
            "discriminator",
            [torch.tensor([3.0 * number]), torch.tensor([[4.0 * number]])],
            may_be_infinite=False,
        )
    norms = watch.gradient_norms()
    assert len(norms) == NORMS
    assert norms[-1] == {
        "step": NORMS + 2,
        "side": "discriminator",
        "norm": 5.0 * (NORMS + 2),
        "finite_loss": True,
    }
    assert norms[0]["step"] == 3


class Ranks:
    """Watches of several ranks in one process, whose messages are averaged as theirs would be."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(distributed, "world_size", lambda: count)
        self.watches = [RunMonitor(CPU) for _ in range(count)]

    def step(self, number: int, losses: list[float], *, sync: bool = False) -> list[StepStatus]:
        messages: list[Tensor] = []
        for watch, loss in zip(self.watches, losses, strict=True):
            watch.begin(number - 1)
            messages.append(watch.message(torch.tensor(float(loss))))
        mean = torch.stack(messages).mean(dim=0)
        for watch in self.watches:
            watch.record_update(mean, "generator", [torch.ones(1)], may_be_infinite=False)
        return [watch.poll(sync=sync) for watch in self.watches]


def test_ranks_stop_and_save_in_the_same_step_whichever_of_them_wants_to(monkeypatch) -> None:
    ranks = Ranks(3, monkeypatch)
    assert ranks.step(1, [1, 1, 1]) == [StepStatus()] * 3
    ranks.watches[1].wants_stop = lambda: True
    assert ranks.step(2, [1, 1, 1]) == [StepStatus()] * 3
    ranks.watches[2].wants_save = lambda: True
    assert ranks.step(3, [1, 1, 1]) == [StepStatus(stop=True, save=True)] * 3


def test_ranks_agree_on_what_one_of_them_has_seen(monkeypatch) -> None:
    ranks = Ranks(2, monkeypatch)
    assert ranks.step(1, [1, NAN]) == [StepStatus()] * 2
    assert ranks.step(2, [1, 1]) == [StepStatus(diverged=1)] * 2
    assert ranks.step(3, [INF, 1], sync=True) == [StepStatus(diverged=3)] * 2
