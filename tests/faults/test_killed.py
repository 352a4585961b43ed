"""Runs that are killed at random moments end in the same bits as one that was left alone: 20 kills in all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import survive
from warm import Warm


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    """One forking process for all tests of a worker."""
    with Warm() as forking:
        yield forking


@pytest.mark.parametrize(("model", "kills"), [("dcgan", 8), ("wgan_gp", 6), ("cyclegan", 6)])
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    model: str, kills: int, warm: Warm, workplace: Path
) -> None:
    survival = survive(warm, model, kills, random.Random(model), workplace / "runs")
    assert survival.kills == kills
    assert survival.starts == survival.kills + survival.ends
    assert survival.differences == []
