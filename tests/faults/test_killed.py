"""Runs that are killed at random moments end bit-identical to an uninterrupted one: 8 kills in all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from killing import survive
from warm import Warm

from gantrain.data.sets.digit_sets import Digits2Stripes


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize(("model", "kills"), [("dcgan", 5), ("cyclegan", 3)])
def test_a_killed_run_ends_like_an_uninterrupted_one(model: str, kills: int, warm: Warm, workplace: Path) -> None:
    if model == "cyclegan":
        Digits2Stripes.write(workplace / "runs" / "data", 24)
    survival = survive(warm, model, kills, random.Random(model), workplace / "runs")
    assert survival.kills == kills
    assert survival.starts == survival.kills + survival.ends
    assert survival.differences == []
