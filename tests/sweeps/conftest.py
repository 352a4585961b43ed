"""What a sweep trains."""

from __future__ import annotations

from typing import Any

import pytest

import gantrain.train


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that are trained in this process, in order."""
    names: list[str] = []
    train = gantrain.train.train

    def noted(config: dict[str, Any], *others: Any) -> int:
        names.append(config["name"])
        return train(config, *others)

    monkeypatch.setattr(gantrain.train, "train", noted)
    return names
