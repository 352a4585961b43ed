"""The MLflow logger, with a fake of its client."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pages import logged_lines
from PIL import Image

OFTEN = ["trainer.log_every=2", "trainer.image_every=4"]


def package(name: str, monkeypatch: pytest.MonkeyPatch, **contents: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


class FakeMlflow:
    """The methods of an MLflow client that are used."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, SimpleNamespace] = {}

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, f"e{len(self.experiments)}")

    def create_run(self, experiment: str, *, run_name: str) -> Any:
        key = f"r{len(self.runs)}"
        self.runs[key] = SimpleNamespace(name=run_name, points=[], params={}, images=[], status="RUNNING")
        return SimpleNamespace(info=SimpleNamespace(run_id=key))

    def update_run(self, key: str, *, status: str) -> None:
        self.runs[key].status = status

    def set_terminated(self, key: str, *, status: str) -> None:
        self.runs[key].status = status

    def get_run(self, key: str) -> Any:
        run = self.runs[key]
        return SimpleNamespace(data=SimpleNamespace(metrics={p[0]: p[2] for p in run.points}, params=run.params))

    def get_metric_history(self, key: str, name: str) -> list[Any]:
        return [SimpleNamespace(step=step) for metric, step, _ in self.runs[key].points if metric == name]

    def log_param(self, key: str, name: str, value: str) -> None:
        assert name not in self.runs[key].params  # MLflow accepts no other value.
        assert len(value) <= 500
        self.runs[key].params[name] = value

    def log_metric(self, key: str, name: str, value: float, *, timestamp: int, step: int) -> None:
        self.runs[key].points.append((name, step, value))

    def log_image(self, key: str, image: Image.Image, path: str) -> None:
        self.runs[key].images.append(path)


def test_mlflow_gets_all_sessions_and_no_point_twice(monkeypatch, train, capsys) -> None:
    server = FakeMlflow()
    addresses = []

    def client(tracking_uri: str | None) -> FakeMlflow:
        addresses.append(tracking_uri)
        return server

    package("mlflow", monkeypatch, MlflowClient=client)
    train("run", "trainer.steps=2", "schedule=constant", *OFTEN)
    typed = ["logger=mlflow", "logger.mlflow.tracking_uri=http://there", "schedule=constant", *OFTEN]
    train("run", "trainer.steps=6", "trainer.save_every=4", "trainer.keep=0", *typed)
    Path("checkpoints/run/step_6.pt").unlink()
    train("run", "trainer.steps=8", *typed)
    (run,) = server.runs.values()
    assert [(step, value) for name, step, value in run.points if name == "g"] == [
        (line["step"], line["g"]) for line in logged_lines("run")
    ]
    assert (run.name, run.status, run.params["model.name"]) == ("run", "FINISHED", "dcgan")
    assert any(path.startswith("images/step_8_") for path in run.images)
    train("run", "trainer.steps=9000", "trainer.max_minutes=1e-9", *typed)
    assert run.status == "KILLED"
    assert set(addresses) == {"http://there"}
    assert "warning" not in capsys.readouterr().err
    assert list(server.experiments) == ["gantrain"]
