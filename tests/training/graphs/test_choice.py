"""Runs whose steps can't be captured train as usual, and a line says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import TINY
from measured_steps import tiny_steps
from recorded_graphs import RecordedGraphs
from tiny import mlp_generator

from gantrain.benchmarking.steps import Steps
from gantrain.cli.main import main
from gantrain.models.latent import DCGAN
from gantrain.optim.optimizers import Adam, RMSprop
from gantrain.optim.updates import SideOptimizer
from gantrain.training.graphs import choice
from gantrain.training.graphs.steps import GraphedSteps


def test_a_run_without_a_gpu_says_so_once_and_trains(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY, "trainer.cuda_graphs=true", "trainer.steps=2", "name=a"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "cuda_graphs" in line]
    assert len(lines) == 1
    assert "cpu" in lines[0]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["trainer.micro_batch=2"], ["trainer.micro_batch=2"]),
        (["optimizer=rmsprop", "trainer.precision=float16"], ["float16", "RMSprop"]),
        ([], []),
    ],
)
def test_settings_that_prevent_a_capture_are_named(typed: list[str], words: list[str]) -> None:
    parts = tiny_steps("network.norm=none", *typed).trainer.parts
    found = choice.obstacle_of(replace(parts, context=replace(parts.context, device=torch.device("cuda"))))
    assert all(word in found for word in words)
    assert bool(found) == bool(words)


@pytest.mark.parametrize(
    ("device", "typed", "advised"),
    [
        ("cuda", [], True),
        ("cpu", [], False),
        ("cuda", ["trainer.cuda_graphs=true"], False),
        ("cuda", ["trainer.compile=true"], False),
        ("cuda", ["trainer.micro_batch=2"], False),
    ],
)
def test_graphs_are_recommended_where_steps_could_be_replayed(device: str, typed: list[str], advised: bool) -> None:
    parts = tiny_steps("network.norm=none", *typed).trainer.parts
    found = choice.advice(replace(parts, context=replace(parts.context, device=torch.device(device))))
    assert ["trainer.cuda_graphs=true" in line for line in found] == [True] * advised


def test_only_optimizers_that_compute_on_the_device_are_captured() -> None:
    parameters = [*mlp_generator().parameters()]

    def obstacle(optimizer: torch.optim.Optimizer) -> str:
        return choice.optimizer_obstacle(SideOptimizer(optimizer, torch.device("cpu"), scaled=False))

    assert not obstacle(Adam(params=parameters, fused=False, lr=0.1, betas=(0.0, 0.9), weight_decay=0.0))
    assert not obstacle(RMSprop(params=parameters, lr=0.1, alpha=0.9, momentum=0.0))
    assert "Adagrad" in obstacle(torch.optim.Adagrad(parameters, lr=0.1))


@pytest.mark.parametrize("method", ["train_step", "generator_loss"])
def test_a_model_with_code_of_its_own_says_which_steps_are_alike(method: str) -> None:
    own: Any = type("Own", (DCGAN,), {method: lambda self, *arguments: ..., "__module__": "my_plugin"})

    class Alike(own):
        def step_kind(self, step: int) -> int:
            return 0

    assert own.step_kind(None, 0) is None  # type: ignore[arg-type]
    assert Alike.step_kind(None, 0) == 0  # type: ignore[arg-type]


def test_a_benchmark_times_replayed_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: Steps = tiny_steps("model=dcgan", "trainer.cuda_graphs=true")
    trainer = steps.trainer
    graphs = RecordedGraphs(trainer.update.draws.generator)
    monkeypatch.setattr(trainer, "_train_step", GraphedSteps(trainer.model, trainer.update, graphs))
    replays: list[int] = []
    monkeypatch.setattr("gantrain.benchmarking.steps.reset_peak_memory", lambda device: replays.append(graphs.replays))
    steps.measure(warmup=2, steps=4)
    assert graphs.captures == 1
    assert graphs.replays == replays[0] + 4
