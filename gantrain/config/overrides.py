"""Whether a run may go on, and what to type if it may not."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from gantrain.errors import ConfigError

# Keys that change where, how fast or how visibly a run runs, but not what it computes. A run may go on under others.
RUNTIME_ONLY_KEYS = (
    "name",
    "resume",
    "dry_run",
    "sweep.skip_done",
    "plugins",
    "init_from",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.deterministic",
    "trainer.compile",
    "trainer.channels_last",
    "trainer.log_every",
    "trainer.image_every",
    "trainer.save_every",
    "trainer.save_minutes",
    "trainer.keep",
    "trainer.keep_every",
    "trainer.max_minutes",
    "trainer.on_divergence",
    "trainer.rollbacks",
    "data.cache",
    "data.cache_limit",
    "data.num_workers",
    "data.on_error",
    "data.root",
)
RUNTIME_ONLY_GROUPS = ("logger.", "objective.")
LENGTH = ("trainer.steps", "trainer.epochs", "trainer.kimg")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` to ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys that differ between two configurations and change the mathematics, each in a line; not the length."""
    before, after = flatten(old), flatten(new)
    keys = sorted(set(before) | set(after))
    counted = [
        key
        for key in keys
        if key not in RUNTIME_ONLY_KEYS and key not in LENGTH and not key.startswith(RUNTIME_ONLY_GROUPS)
    ]
    absent = "(nothing)"
    return [
        f"  {key}: {before.get(key, absent)} there, {after.get(key, absent)} here"
        for key in counted
        if before.get(key, absent) != after.get(key, absent)
    ]


def command(overrides: Sequence[str], *changes: str) -> str:
    """``gantrain train`` with the overrides, those of ``changes`` replacing their namesakes, as a shell takes it."""
    changed = {change.split("=")[0] for change in changes}
    kept = [override for override in overrides if override.split("=")[0].lstrip("+~") not in changed]
    return shlex.join(["gantrain", "train", *kept, *changes])


def check(state: Mapping[str, Any], now: Mapping[str, Any], *, depends_on_length: bool) -> None:
    """Refuse to go on from ``state`` under other mathematics.

    Args:
        state: A checkpoint.
        now: What this run would write into its checkpoints: config, overrides, spec, images, fingerprint.
        depends_on_length: Whether the learning rate schedule does.

    Raises:
        ConfigError: With the differences, and with commands that work.
    """
    config, overrides, spec = now["config"], now["overrides"], now["spec"]
    name = config["name"]
    found = differences(state["config"], config)
    found += [
        f"  {key}: {state['spec'][key]} there, {spec[key]} here" for key in spec if state["spec"][key] != spec[key]
    ]
    if state["images"] != now["images"]:
        found.append(f"  training images: {state['images']} there, {now['images']} here")
    elif state["fingerprint"] != now["fingerprint"]:
        found.append("  training images: as many, but their names are others")
    if found:
        raise ConfigError(
            f"checkpoints/{name} was trained with other settings, so it can't go on with these:",
            *found,
            f"Go on with its own:    {command(state['overrides'], f'name={name}')}",
            f"Start another run:     {command(overrides, f'name={name}_2')}",
            f"Start this one over:   {command(overrides, 'resume=never')}",
        )
    before, after = (flatten(c) for c in (state["config"], config))
    lengths = [{key: flat[key] for key in LENGTH if flat.get(key) is not None} for flat in (before, after)]
    if depends_on_length and lengths[0] != lengths[1]:
        old, new = (", ".join(f"{key}={value}" for key, value in length.items()) for length in lengths)
        raise ConfigError(
            f"checkpoints/{name} was planned for {old}, and its learning rates with it "
            f"(schedule={config['schedule']['name']}), so {new} would be another run:",
            f"Finish it as planned:            {command(state['overrides'], f'name={name}')}",
            "Start a run from its networks:   " + command(overrides, f"init_from=checkpoints/{name}", f"name={name}_2"),
        )
