"""Learning rates as functions of a run's progress."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from tiny import adam_updates, build_translator, sgd, translation_batches, updates_of
from tiny_keys import TRANSLATION_KEYS
from torch import Tensor, nn

from gantrain.errors import ConfigError
from gantrain.optim.schedules import Constant, Cosine, Linear, MultiStep, Plateau
from gantrain.registry import SCHEDULES

PLATEAU = {"metric": "g", "mode": "min", "interval": 2, "patience": 1, "threshold": 0.1, "gamma": 0.5}


def plateau(**keys: Any) -> Plateau:
    return Plateau(**(PLATEAU | keys))


def watch(schedule: Plateau, values: list[float]) -> list[float]:
    """The factors after each step with these losses."""
    factors = []
    for value in values:
        schedule.observe({"d": torch.tensor(99.0), "g": torch.tensor(value)})
        factors.append(schedule.factor(0.5))
    return factors


def test_constant_is_one_always() -> None:
    assert [Constant().factor(progress) for progress in (0.0, 0.5, 0.999)] == [1.0, 1.0, 1.0]


def test_linear_is_constant_until_its_start_and_then_falls_to_zero() -> None:
    factors = [Linear(start=0.5, extend=False).factor(progress) for progress in (0.0, 0.25, 0.5, 0.75, 0.875)]
    assert factors == [1.0, 1.0, 1.0, 0.5, 0.25]
    assert Linear(start=0.0, extend=False).factor(0.25) == 0.75


def test_step_multiplies_by_gamma_at_each_milestone() -> None:
    schedule = MultiStep(milestones=[0.25, 0.75], gamma=0.5, extend=False)
    assert [schedule.factor(progress) for progress in (0.0, 0.2499, 0.25, 0.7499, 0.75, 0.99)] == [
        1,
        1,
        0.5,
        0.5,
        0.25,
        0.25,
    ]


def test_cosine_by_hand() -> None:
    # final + (1 - final) (1 + cos(pi p)) / 2 with cos = 1, 1/2, 0, -1/2
    factors = [Cosine(final=0.2, extend=False).factor(progress) for progress in (0.0, 1 / 3, 0.5, 2 / 3)]
    torch.testing.assert_close(factors, [1.0, 0.8, 0.6, 0.4])


@pytest.mark.parametrize(
    "schedule",
    [
        Linear(start=0.0, extend=False),
        Linear(start=0.5, extend=False),
        Cosine(final=0.0, extend=False),
        Cosine(final=0.1, extend=False),
    ],
)
def test_a_decaying_rate_reaches_nearly_zero_at_the_last_step(schedule: Linear | Cosine) -> None:
    steps = 1000
    factors = [schedule.factor(step / steps) for step in range(steps)]
    assert factors[0] == 1.0
    assert all(later <= earlier for earlier, later in pairwise(factors))
    assert all(later < earlier for earlier, later in pairwise(factors[500:]))
    final = getattr(schedule, "final", 0.0)
    assert final < factors[-1] < final + 0.01


def test_a_falling_loss_does_not_change_the_rate() -> None:
    assert watch(plateau(), [5.0 - 0.2 * step for step in range(20)]) == [1.0] * 20


def test_a_constant_loss_lowers_the_rate_after_the_patience() -> None:
    # Intervals of two steps: the first sets the best, the second is within the patience, the third lowers, and so on.
    expected = [1.0] * 5 + [0.5] * 4 + [0.25] * 4 + [0.125]
    assert watch(plateau(), [1.0] * 14) == expected


def test_an_improvement_below_the_threshold_does_not_count() -> None:
    assert watch(plateau(interval=1, patience=0), [1.0, 0.95, 0.91]) == [1.0, 0.5, 0.25]
    assert watch(plateau(interval=1, patience=0), [1.0, 0.85, 0.7]) == [1.0, 1.0, 1.0]


def test_an_improvement_resets_the_patience() -> None:
    assert watch(plateau(interval=1), [1.0, 1.0, 0.5, 0.5, 0.2, 0.2, 0.2]) == [1.0] * 6 + [0.5]


def test_a_plateau_compares_means_of_intervals() -> None:
    # the means fall by 0.5; every last value of an interval is the same
    assert watch(plateau(patience=0), [4.0, 1.0, 3.0, 1.0, 2.0, 1.0]) == [1.0] * 6


def test_a_plateau_can_maximise() -> None:
    assert watch(plateau(interval=1, patience=0, mode="max"), [1.0, 2.0, 3.0, 3.0]) == [1.0, 1.0, 1.0, 0.5]
    assert watch(plateau(interval=1, patience=0, mode="min"), [1.0, 2.0, 3.0, 3.0]) == [1.0, 0.5, 0.25, 0.125]


def test_a_loss_that_the_model_does_not_have_is_refused_with_the_list() -> None:
    with pytest.raises(ConfigError, match=r"^schedule\.metric=h: .* d, g$"):
        watch(plateau(metric="h"), [1.0])


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_plateau_restored_at_any_step_continues_identically(cut: int) -> None:
    generator = torch.Generator().manual_seed(2)
    values = torch.rand(24, generator=generator).tolist()
    whole = plateau()
    factors = watch(whole, values)
    assert len(set(factors)) > 2  # Otherwise the test would be trivial.
    before = plateau()
    assert watch(before, values[:cut]) == factors[:cut]
    state = copy.deepcopy(before.state_dict())
    watch(before, values[cut:])
    after = plateau()
    after.load_state_dict(state)
    assert watch(after, values[cut:]) == factors[cut:]


def test_a_saved_state_does_not_change_when_the_run_continues() -> None:
    schedule = plateau(interval=3)
    watch(schedule, [1.0, 2.0])
    state = schedule.state_dict()
    watch(schedule, [5.0, 5.0])
    assert (state["count"], state["sum"].item()) == (2, 3.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_plateau_sums_in_the_type_of_the_losses(dtype: torch.dtype) -> None:
    schedule = plateau(interval=4)
    value = torch.tensor(0.1, dtype=dtype)
    schedule.observe({"g": value})
    schedule.observe({"g": value})
    torch.testing.assert_close(schedule.state_dict()["sum"], 2 * value)


def test_the_schedule_sets_the_rates_of_both_sides_each_at_its_own_base() -> None:
    sides = [nn.Linear(1, 1), nn.Linear(1, 1)]
    update = updates_of(sgd(sides[:1], lr=0.4), sgd(sides[1:], lr=0.2), schedule=Linear(start=0.5, extend=False))
    for progress, factor in ((0.0, 1.0), (0.75, 0.5), (0.5, 1.0), (0.875, 0.25)):
        update.begin(0, progress)
        rates = [player.optimizer.param_groups[0]["lr"] for player in update.sides]
        torch.testing.assert_close(rates, [0.4 * factor, 0.2 * factor])


def test_a_plateau_lowers_the_rates_of_the_optimizers() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(3.0)
    update = updates_of(sgd([network], lr=0.4), sgd([nn.Linear(1, 1)]), schedule=plateau(interval=1, patience=0))
    positions: list[Tensor] = [network.weight.detach().clone()]
    for step in range(3):
        update.begin(step, step / 3)
        update.generator(network.weight.sum())  # of gradient 1
        update.schedule.observe({"g": torch.tensor(1.0)})
        positions.append(network.weight.detach().clone())
    torch.testing.assert_close(torch.cat(positions).flatten(), torch.tensor([3.0, 2.6, 2.2, 2.0]))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"name": "linear", "extend": False, "start": 1.0}, r"schedule\.start\b.* at least 0 and below 1, got 1\.0$"),
        ({"name": "linear", "extend": False, "start": -0.1}, r"schedule\.start\b.* at least 0 and below 1, got -0\.1$"),
        (
            {"name": "step", "extend": False, "milestones": [0.5, 30], "gamma": 0.1},
            r"schedule\.milestones\b.*above 0 and below 1.*, got \[0\.5, 30\]",
        ),
        (
            {"name": "step", "extend": False, "milestones": [0], "gamma": 0.1},
            r"schedule\.milestones\b.*above 0 and below 1.*, got \[0\]",
        ),
        ({"name": "cosine", "extend": False, "final": 1.5}, r"schedule\.final\b.* at least 0 and at most 1, got 1\.5$"),
        ({"name": "cosine", "extend": False, "final": -1}, r"schedule\.final\b.* at least 0 and at most 1, got -1$"),
        (
            {"name": "plateau", **PLATEAU, "interval": 0},
            r"schedule\.interval\b.* at least 1, got 0$",
        ),
        ({"name": "plateau", **PLATEAU, "mode": "mean"}, r"schedule\.mode\b.*'min', 'max', got 'mean'"),
        ({"name": "linaer"}, r"schedule\.name=linaer: .*'linear'"),
        ({"name": "constant", "start": 0.5}, r"schedule\.start=0\.5: unknown.* name$"),
    ],
)
def test_an_invalid_value_is_refused(config: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        SCHEDULES.build(config)


def test_schedules_that_depend_on_the_length_of_a_run_are_marked() -> None:
    made = [
        Constant(),
        plateau(),
        Linear(start=0.5, extend=False),
        MultiStep(milestones=[0.5], gamma=0.1, extend=False),
        Cosine(final=0.0, extend=False),
    ]
    assert [schedule.depends_on_length for schedule in made] == [False, False, True, True, True]


@pytest.mark.parametrize("names", [("g_l1",), ("cycle_a", "cycle_b")])
def test_a_plateau_watches_reconstructions_where_no_loss_is_g(names: tuple[str, ...], capsys) -> None:
    schedule = plateau(interval=1, patience=0, metric="g")
    factors = []
    for value in (1.0, 0.5, 0.5):
        losses = dict.fromkeys(names, torch.tensor(value)) | {"g_gan": torch.tensor(-value), "d": torch.tensor(0.0)}
        schedule.observe(losses)
        factors.append(schedule.factor(0.0))
    assert factors == [1.0, 1.0, 0.5]
    assert capsys.readouterr().err == f"Note: schedule=plateau watches {' + '.join(names)}\n"


@pytest.mark.parametrize("name", TRANSLATION_KEYS)  # All others log ``g``.
def test_a_plateau_finds_a_loss_of_every_model_that_translates(name: str) -> None:
    model = build_translator(name)
    losses = model.train_step(translation_batches(2, spec=model.spec), adam_updates(model))
    plateau(interval=1, metric="g").observe(losses)
