"""Checkpoints of older formats, brought to the newest: keys that they lack get the values that stood for them then."""

from __future__ import annotations

from typing import Any

FORMAT = 3


def upgraded(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as it would be had it been written in the newest format."""
    for version, upgrade in enumerate(UPGRADES, start=2):
        if state["format"] < version:
            state = {**upgrade(state), "format": version}
    return state


def _networks_for_translation_and_images_of_any_depth(state: dict[str, Any]) -> dict[str, Any]:
    network = {"norm": "batch", "dropout": 0.0, **state["config"]["network"]}
    data = state["config"]["data"]
    if data["mode"] == "single":
        data = {"preprocess": None, "range": None, "depth": "auto", **data}
    config = {**state["config"], "network": network, "data": data}
    return {**state, "config": config, "spec": {"ranges": {}, **state["spec"]}}


def _objectives_rollbacks_and_selections_of_data(state: dict[str, Any]) -> dict[str, Any]:
    data = {"fraction": None, **state["config"]["data"]}
    if data["mode"] in ("single", "aligned", "unaligned", "edges2digits", "digits2stripes"):
        data = {"decoder": "exact", **data}
    if data["mode"] == "single":
        data = {"list": None, **data}
    objective = {"metric": None, "mode": "min", "value": None, "best": None, "fresh": False}
    return {"objective": objective, "rollbacks": 0, **state, "config": {**state["config"], "data": data}}


# to format 2, to format 3 ...
UPGRADES = (_networks_for_translation_and_images_of_any_depth, _objectives_rollbacks_and_selections_of_data)
