"""Segments: the parts of a run that were trained with different settings.

A run begins with one segment. Each time it continues with another length, another learning rate or other images, a new
one begins, whose checkpoints record the step, the command and what changed. A checkpoint thus contains everything that
the rest of its run depends on, and a run of several segments is as repeatable as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gantrain.config.overrides import LENGTH, differences, flatten, other_length

IMAGES = "training images"  # Stands for the data set among the settings that changed.


@dataclass
class Plan:
    """The part of a run that a learning rate schedule is spread over, which may be shorter than the run."""

    unit: Literal["step", "image"]
    start: float  # In steps or images.
    end: float
    last: float = 0.0  # The schedule's progress at the newest step.

    def progress(self, done: float) -> float:
        """The schedule's progress in [0, 1) after ``done`` steps or images; behind the end, that of the last step."""
        now = (done - self.start) / (self.end - self.start)
        if now < 1:
            self.last = now
        return self.last


def changed_settings(state: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The settings that change the computation and differ between a checkpoint and this run, except the length.

    Args:
        state: A checkpoint.
        now: The entries that this run would write into its checkpoints: config, spec, images, fingerprint.

    Returns:
        The old and the new value of each.
    """
    found = differences(state["config"], now["config"])
    before, after = state["spec"], now["spec"]
    found |= {key: [before[key], after[key]] for key in after if before[key] != after[key]}
    if state["images"] != now["images"]:
        found[IMAGES] = [state["images"], now["images"]]
    elif state["fingerprint"] != now["fingerprint"]:
        found[IMAGES] = [f"{state['images']}", f"{now['images']} of other names"]
    return found


def other_settings(state: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """``changed_settings``, the length if it differs, and whether it is extended: what begins a new segment."""
    found = {**other_length(state["config"], now["config"]), **changed_settings(state, now)}
    before, after = (flatten(each["config"]).get("schedule.extend", False) for each in (state, now))
    return {**found, **({"schedule.extend": [before, after]} if after and not before else {})}


def at_new_segment(state: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint without what no longer fits once these settings have changed.

    Other images, or batches of another size, are drawn in a new order from their beginning. Another optimizer starts
    without the moments of the old one.
    """
    if IMAGES in changes or "data.batch_size" in changes:
        state = {**state, "origin": _origin(state), "position": 0}
    if any(key.startswith("optimizer.") for key in changes.keys() - {"optimizer.lr", "optimizer.discriminator_lr"}):
        players = [
            {**player, "optimizer": {**player["optimizer"], "state": {}}} for player in state["updates"]["players"]
        ]
        state = {**state, "updates": {**state["updates"], "players": players}}
    if any(key.startswith("schedule.") for key in changes.keys() - {"schedule.extend"}):
        ranks = [{**rank, "schedule": None} for rank in state["ranks"]]
        state = {**state, "ranks": ranks}
    return state


def _origin(state: Mapping[str, Any]) -> dict[str, Any]:
    """The images and epochs of a checkpoint as the origin from which other images are counted."""
    origin, images = state["origin"], state["position"] * state["config"]["data"]["batch_size"]
    return {
        "number": origin["number"] + 1,
        "images": origin["images"] + images,
        "epochs": origin["epochs"] + images / state["images"],
    }


def next_plan(plan: Plan, changes: Mapping[str, Any], schedule: Mapping[str, Any], rest: Plan) -> Plan:
    """The plan of the schedule in a new segment.

    Args:
        plan: The one so far.
        changes: The settings that changed.
        schedule: The configuration of the schedule.
        rest: A plan from the beginning of the segment to the new end of the run.
    """
    has_other_length = not changes.keys().isdisjoint(LENGTH)
    if schedule.get("extend", False) and (has_other_length or "schedule.extend" in changes):
        return rest
    if any(key.startswith("schedule.") for key in changes):
        return Plan(rest.unit, 0, rest.end)
    progress = (rest.start - plan.start) / (plan.end - plan.start)
    if plan.unit == rest.unit == "image" and not has_other_length and progress < 1:
        # As many epochs of other images: the rest of the schedule is spread over the rest of the run.
        return Plan("image", (rest.start - progress * rest.end) / (1 - progress), rest.end, plan.last)
    return plan
