"""Random numbers depend only on the seed, the step and their purpose."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gantrain.runtime.seeding import StepRandom, derive_seed

CPU = torch.device("cpu")


def draw_all(draws: StepRandom, count: int) -> list[Tensor]:
    return [draws.normal(count, 3), draws.uniform(count), draws.integers(count, 10), draws.normal(count, 2, 2)]


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_draws_of_all_ranks_together_are_those_of_one_rank(world_size: int) -> None:
    alone = StepRandom(5, CPU)
    ranks = [StepRandom(5, CPU, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step in (0, 3):
        for draws in (alone, *ranks):
            draws.start(step)
        whole = draw_all(alone, 12)
        shares = [draw_all(draws, 12 // world_size) for draws in ranks]
        for expected, *parts in zip(whole, *shares, strict=True):
            assert torch.equal(torch.cat(parts), expected)


def test_draws_of_a_step_do_not_depend_on_earlier_draws() -> None:
    fresh, used = StepRandom(5, CPU), StepRandom(5, CPU)
    used.normal(100)
    for draws in (fresh, used):
        draws.start(8)
    assert torch.equal(used.normal(4), fresh.normal(4))


def test_steps_and_seeds_draw_differently() -> None:
    draws = StepRandom(5, CPU)
    first = draws.normal(4)
    draws.start(1)
    assert not torch.equal(draws.normal(4), first)
    assert not torch.equal(StepRandom(6, CPU).normal(4), first)


def test_the_global_generator_of_torch_is_not_used() -> None:
    before = torch.get_rng_state()
    draw_all(StepRandom(5, CPU), 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_have_the_named_distributions() -> None:
    draws = StepRandom(5, CPU)
    normal, uniform, integers = draws.normal(40_000), draws.uniform(40_000), draws.integers(40_000, 4)
    # Standard errors: 1 / sqrt(40000) = 0.005 of a mean, about 0.004 of a standard deviation.
    torch.testing.assert_close(normal.mean(), torch.tensor(0.0), atol=0.025, rtol=0)
    torch.testing.assert_close(normal.std(), torch.tensor(1.0), atol=0.02, rtol=0)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    torch.testing.assert_close(uniform.mean(), torch.tensor(0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(uniform.std(), torch.tensor(12**-0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(integers.bincount() / 40_000, torch.full((4,), 0.25), atol=0.015, rtol=0)


def test_a_derived_seed_depends_on_every_part_and_on_their_order() -> None:
    variants = [
        (1, "order", 2),
        (2, "order", 1),
        ("order", 1, 2),
        (1, "item", 2),
        (1, "order"),
        (1, "order", "2"),
        (12,),
    ]
    assert len({derive_seed(*parts) for parts in variants}) == len(variants)


def test_a_derived_seed_is_the_same_in_every_process_and_fits_torch() -> None:
    # Runs of older versions depend on it: blake2b of "(1, 'order', 2)", 8 bytes, little endian, halved.
    assert derive_seed(1, "order", 2) == 1671847539343688486
    for number in range(200):
        assert 0 <= derive_seed(number) < 2**63
        torch.Generator().manual_seed(derive_seed(number))
