"""Checkpoints of older formats, brought to the newest: keys that they lack get the values that stood for them then."""

from __future__ import annotations

from typing import Any

FORMAT = 2


def upgraded(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as it would be had it been written in the newest format."""
    if state["format"] == FORMAT:
        return state
    config = dict(state["config"])
    # format 2: networks for translation, and pictures of any depth
    config["network"] = {"norm": "batch", "dropout": 0.0, **config["network"]}
    if config["data"]["mode"] == "single":
        new = {"list": None, "preprocess": None, "range": None, "depth": "auto", "decoder": "exact"}
        config["data"] = new | config["data"]
    return {**state, "format": FORMAT, "config": config, "spec": {"ranges": {}, **state["spec"]}}
