"""Runs whose pages tests open in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from browsing import Browser
from pages import HOSTILE

from gantrain.report import Report

KINDS = ["real_a", "fake_b", "real_b"]
RUNS = Path("runs")


def colours(step: int, rows: int = 2) -> dict[str, torch.Tensor]:
    """Images of one colour each: red encodes the kind, green the row, blue the step."""
    values = torch.empty(len(KINDS), rows, 3, 8, 8)
    for kind in range(len(KINDS)):
        for row in range(rows):
            values[kind, row] = torch.tensor([kind / 2, row / 2, step / 100])[:, None, None]
    return dict(zip(KINDS, values * 2 - 1, strict=True))


def run(name: str = "run", *, steps: int = 100, total: int = 200, every: int = 20, **keys: Any) -> Report:
    """A run that has logged every tenth step, as far as ``steps``."""
    config = {"model": {"name": "pix2pix", "lambda_l1": 100.0}, "data": {"mode": "edges", "root": HOSTILE}, "seed": 0}
    given: dict[str, Any] = {
        "command": "gantrain train model=pix2pix",
        "config": config,
        "columns": None,
        "loggers": {},
        "advice": lambda: "",
        "active": True,
        "home": RUNS,
        "defaults": lambda: {**config, "model": {"name": "pix2pix", "lambda_l1": 10.0}},
        "facts": {"seed": "0"},
        "networks": {"generator": 1234567},
    }
    report = Report(RUNS / name, **given | keys)
    report.open(0, done=0, total=total, unit="step")
    train_on(report, 0, steps, every)
    return report


def train_on(report: Report, start: int, end: int, every: int = 20) -> None:
    for step in range(start + 10, end + 1, 10):
        report.advance(step)
        losses = {"g_gan": 1 + step / 100, "g_class": 100 / step, "d_real": 0.5, "lr_generator": 2e-4}
        report.log(step=step, epoch=step / 50, images=step * 4, losses=losses, waited=0.0)
        if step % every == 0:
            report.images(step, colours(step))


READY = "document.querySelectorAll('.chart').length && !document.querySelector('#samples').hidden"


def shown(browser: Browser, fact: str) -> str:
    """The value of a fact on the open page."""
    script = """return [...document.querySelectorAll("#facts dt")].find((dt) => dt.textContent === arguments[0])
        ?.nextElementSibling?.textContent"""
    return str(browser.run(script, fact))
