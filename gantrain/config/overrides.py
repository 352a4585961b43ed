"""Overrides and the keys they set: which of them may change when a run resumes, and commands with other overrides."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gantrain.errors import ConfigError

# Keys that change where, how fast or how visibly a run runs, but not what it computes: they may change on resume.
RUNTIME_ONLY_KEYS = {
    *("name", "checkpoints_dir", "resume", "dry_run", "sweep.skip_done", "plugins", "init_from"),
    *("trainer.accelerator", "trainer.devices", "trainer.deterministic", "trainer.compile", "trainer.channels_last"),
    *("trainer.log_every", "trainer.image_every", "trainer.save_every", "trainer.save_minutes"),
    *("trainer.keep", "trainer.keep_every", "trainer.max_minutes", "trainer.on_divergence", "trainer.rollbacks"),
    *("data.cache", "data.cache_limit", "data.num_workers", "data.on_error", "data.root"),
}
RUNTIME_ONLY_GROUPS = ("logger.", "objective.")
LENGTH = ("trainer.steps", "trainer.epochs", "trainer.kimg")


def split_override(override: str) -> tuple[str, str]:
    """``++a.b=c`` to ``("a.b", "c")``."""
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


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
    """A line for each key that differs between two configurations and changes the computation, except the length."""
    before, after = flatten(old), flatten(new)
    keys = sorted((before.keys() | after.keys()).difference(RUNTIME_ONLY_KEYS, LENGTH))
    values = {
        key: (before.get(key, "(not set)"), after.get(key, "(not set)"))
        for key in keys
        if not key.startswith(RUNTIME_ONLY_GROUPS)
    }
    return [f"  {key}: {a} in the checkpoint, {b} now" for key, (a, b) in values.items() if a != b]


def command_line(name: str, overrides: Sequence[str], *changes: str) -> str:
    """A command of gantrain, quoted for a shell; ``changes`` replace overrides of the same keys."""
    changed = {change.split("=")[0] for change in changes}
    unchanged = [override for override in overrides if split_override(override)[0] not in changed]
    return shlex.join(["gantrain", name, *unchanged, *changes])


def check_compatible(
    state: Mapping[str, Any], now: Mapping[str, Any], *, folder: Path, depends_on_length: bool
) -> None:
    """Refuse to resume from ``state`` with settings that change the computation.

    Args:
        state: A checkpoint.
        now: The entries that this run would write into its checkpoints: config, overrides, spec, images, fingerprint.
        folder: The run folder.
        depends_on_length: Whether the learning rate schedule depends on the length of the run.

    Raises:
        ConfigError: There are such settings; the message lists them, and commands that work.
    """
    config, overrides, spec = now["config"], now["overrides"], now["spec"]
    place = [f"{key}={value}" for key, value in map(split_override, overrides) if key == "checkpoints_dir"]
    same, other = [f"name={folder.name}", *place], f"name={folder.name}_2"
    found = differences(state["config"], config)
    found += [
        f"  {key}: {state['spec'][key]} in the checkpoint, {spec[key]} now"
        for key in spec
        if state["spec"][key] != spec[key]
    ]
    if state["images"] != now["images"]:
        found.append(f"  training images: {state['images']} in the checkpoint, {now['images']} now")
    elif state["fingerprint"] != now["fingerprint"]:
        found.append("  training images: the same number, but other names")
    if found:
        raise ConfigError(
            f"{folder} was trained with other settings, so it can't resume with these:",
            *found,
            f"Resume with its own settings:  {command_line('train', state['overrides'], *same)}",
            f"Start another run:             {command_line('train', overrides, other)}",
            f"Start this run over:           {command_line('train', overrides, 'resume=never')}",
        )
    before, after = (flatten(c) for c in (state["config"], config))
    lengths = [{key: flat[key] for key in LENGTH if flat.get(key) is not None} for flat in (before, after)]
    if depends_on_length and lengths[0] != lengths[1]:
        old, new = (", ".join(f"{key}={value}" for key, value in length.items()) for length in lengths)
        raise ConfigError(
            f"{folder} was planned for {old}, on which its learning rates depend "
            f"(schedule={config['schedule']['name']}), so it can't resume with {new}:",
            f"Finish it as planned:            {command_line('train', state['overrides'], *same)}",
            "Start a run from its networks:   " + command_line("train", overrides, f"init_from={folder}", other),
        )
