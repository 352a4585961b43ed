"""Steps of tiny runs on random images, as ``gantrain benchmark`` measures them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from conftest import TINY

from gantrain.benchmark import Case, context_of, steps_of
from gantrain.benchmarking.clock import Clock
from gantrain.benchmarking.steps import Steps
from gantrain.cli.sweep import composed


def tiny_steps(*typed: str, now: Callable[[], float] = time.perf_counter) -> Steps:
    """The steps of a run of ``TINY`` size on random images, measured with the clock ``now``."""
    config, overrides = composed([], [*TINY, *typed])
    return steps_of(context_of(Case("", overrides, config), Path("runs")), Clock(torch.device("cpu"), now))
