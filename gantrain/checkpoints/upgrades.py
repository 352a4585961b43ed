"""Upgrades of checkpoints in older formats: missing keys get the values that were fixed in that version."""

from __future__ import annotations

from typing import Any

FORMAT = 3


def upgraded(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint in the newest format; ``state`` itself is not changed."""
    for version, upgrade in enumerate(UPGRADES, start=2):
        if state["format"] < version:
            state = {**upgrade(state), "format": version}
    return state


def _to_format_2(state: dict[str, Any]) -> dict[str, Any]:
    """Networks for translation, and images of any depth."""
    network = {"norm": "batch", "dropout": 0.0, **state["config"]["network"]}
    data = state["config"]["data"]
    if data["mode"] == "single":
        data = {"preprocess": None, "range": None, "depth": "auto", **data}
    config = {**state["config"], "network": network, "data": data}
    return {**state, "config": config, "spec": {"ranges": {}, **state["spec"]}}


def _to_format_3(state: dict[str, Any]) -> dict[str, Any]:
    """Objectives, rollbacks, and selections of data."""
    data = {"fraction": None, **state["config"]["data"]}
    if data["mode"] in ("single", "aligned", "unaligned", "edges2digits", "digits2stripes"):
        data = {"decoder": "exact", **data}
    if data["mode"] == "single":
        data = {"list": None, **data}
    objective = {"metric": None, "mode": "min", "value": None, "best": None, "fresh": False}
    return {"objective": objective, "rollbacks": 0, **state, "config": {**state["config"], "data": data}}


UPGRADES = (_to_format_2, _to_format_3)
