"""Upgrades of checkpoints in older formats: missing keys get the values that were fixed in that version."""

from __future__ import annotations

from typing import Any

from gantrain.config.overrides import command_line

FORMAT = 9


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


def _to_format_4(state: dict[str, Any]) -> dict[str, Any]:
    """Segments: a run had one, and its schedule ran over all of it. Several loggers, each under its own name.

    The discriminator of ACGAN always classified generated images.
    """
    logger = state["config"].get("logger", {})
    if "name" in logger:
        logger = {} if logger["name"] == "none" else {logger["name"]: logger}
    model = state["config"].get("model", {})
    if model.get("name") == "acgan":
        model = {"classify_generated": True, **model}
    trainer, step = state["config"]["trainer"], state["step"]
    images = state["position"] * state["config"]["data"]["batch_size"]
    unit, done, total = "step", step, trainer.get("steps")
    if total is None:
        epochs, kimg = trainer.get("epochs"), trainer.get("kimg")
        unit, done, total = "image", images, epochs * state["images"] if epochs is not None else kimg * 1000
    last = max(0.0, (done - done / step) / total) if step else 0.0  # The progress before the newest step.
    return {
        "origin": {"number": 0, "images": 0, "epochs": 0.0},
        "plan": {"unit": unit, "start": 0, "end": total, "last": last},
        "segments": [{"step": 0, "command": command_line("train", state["overrides"]), "changes": {}}],
        "working_folder": None,
        **state,
        "config": {**state["config"], "logger": logger, "model": model},
    }


def _to_format_5(state: dict[str, Any]) -> dict[str, Any]:
    """Metrics. The generator of SGAN had the weight 1, and the held-out accuracy of its critic another name."""
    config, objective = state["config"], state.get("objective", {})
    names = objective.get("names", {})
    model = config.get("model", {})
    if model.get("name") == "sgan":
        model = {"lambda_class": 1.0, **model}
        if objective.get("metric") == "accuracy":
            objective = {**objective, "metric": "held_out_accuracy"}
        names = {kind: [each.replace("accuracy", "held_out_accuracy") for each in own] for kind, own in names.items()}
    chosen = config.get("objective", {})
    if chosen.get("metric") == "accuracy":
        chosen = {**chosen, "metric": "held_out_accuracy"}
    objective = {"best_at": 0, "stale": 0, "protocol": "", **objective, "names": names}
    return {**state, "objective": objective, "config": {**config, "model": model, "objective": chosen}}


def _to_format_6(state: dict[str, Any]) -> dict[str, Any]:
    """Augmentation of what adversarial models' discriminators see; R1 of all, R2, and no ramp-up of averages.

    Classes were not balanced.
    """
    config = state["config"]
    model = config.get("model", {})
    if "gradient_penalty" in model:
        rampup = 0.0 if model["ema"] else 0.05  # It has no effect without averages, and would differ from new runs.
        model = {"r1": 0.0, "r2": 0.0, "r1_every": 1, "ema_rampup": rampup, "augment": [], **model}
    data = {"balance": False, **config.get("data", {})}
    state = {**state, "config": {**config, "model": model, "data": data}}
    if state.get("updates", {}).get("averages") is not None:
        state["updates"] = {**state["updates"], "averaged_updates": state["step"]}
    return state


def _to_format_7(state: dict[str, Any]) -> dict[str, Any]:
    """Adaptive augmentation, feature matching, perceptual losses; scales and filters of networks; micro-batches."""
    config = dict(state["config"])
    model = config.get("model", {})
    if "augment" in model:
        model = {"augment_target": 0.6, "augment_every": 4, "augment_kimg": 500.0, **model}
    if "lambda_l1" in model or "cycle_loss" in model:
        model = {"lambda_features": 0.0, **({"lambda_lpips": 0.0} if "lambda_l1" in model else {}), **model}
    if network := config.get("network"):
        config["network"] = network = {"antialias": False, **network}
        new: dict[Any, dict[str, Any]] = {"resnet": {"antialias": False}, "patchgan": {"antialias": False, "scales": 1}}
        for side in ("generator", "discriminator"):
            if side in network:
                network[side] = {**new.get(network[side].get("name"), {}), **network[side]}
    if "trainer" in config:
        config["trainer"] = {"micro_batch": None, "threads": "auto", **config["trainer"]}
    return {**state, "config": {**config, "model": model}}


def _to_format_8(state: dict[str, Any]) -> dict[str, Any]:
    """The critic of SGAN had the weight 1 for classes. Steps were not captured."""
    config = dict(state["config"])
    if config.get("model", {}).get("name") == "sgan":
        config["model"] = {"critic_lambda_class": 1.0, **config["model"]}
    if "trainer" in config:
        config["trainer"] = {"cuda_graphs": False, **config["trainer"]}
    return {**state, "config": config}


def _to_format_9(state: dict[str, Any]) -> dict[str, Any]:
    """Images were decoded on the CPU."""
    data = {"decode_device": "cpu", **state["config"].get("data", {})}
    return {**state, "config": {**state["config"], "data": data}}


UPGRADES = (
    _to_format_2,
    _to_format_3,
    _to_format_4,
    _to_format_5,
    _to_format_6,
    _to_format_7,
    _to_format_8,
    _to_format_9,
)
