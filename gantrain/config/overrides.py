"""Overrides and the keys they set: which of them may change when a run resumes, and commands with other overrides."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gantrain.errors import ConfigError

# Keys that change where, how fast or how visibly a run runs, but not what it computes: they may change on resume.
RUNTIME_ONLY_KEYS = {
    *("name", "checkpoints_dir", "resume", "dry_run", "sweep.skip_done", "plugins", "init_from", "schedule.extend"),
    "expected",
    *("trainer.accelerator", "trainer.devices", "trainer.deterministic", "trainer.compile", "trainer.channels_last"),
    *("trainer.cuda_graphs", "trainer.micro_batch", "trainer.threads"),
    *("trainer.log_every", "trainer.image_every", "trainer.save_every", "trainer.save_minutes"),
    *(
        "trainer.keep",
        "trainer.keep_every",
        "trainer.mirror",
        "trainer.max_minutes",
        "trainer.on_divergence",
        "trainer.rollbacks",
    ),
    *("data.cache", "data.cache_limit", "data.num_workers", "data.on_error", "data.root"),
}
PATHS = {"data.root", "data.list"}  # Relative to the folder in which a run was started.
RUNTIME_ONLY_GROUPS = ("logger.", "objective.", "metrics.")
LENGTH = ("trainer.steps", "trainer.epochs", "trainer.kimg")


def split_override(override: str) -> tuple[str, str]:
    """``++a.b=c`` to ``("a.b", "c")``."""
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def refuse_idle(overrides: Iterable[str], group: str, reasons: Mapping[str, str]) -> None:
    """Refuse an override of one of the keys of ``group`` that change nothing, each with the reason.

    Raises:
        ConfigError: There is one.
    """
    for override in overrides:
        parent, _, key = split_override(override)[0].rpartition(".")
        if parent == group and key in reasons:
            raise ConfigError(f"{override} has no effect: {reasons[key]}")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` to ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The old and the new value of each key that changes the computation, except the length; None if it is missing."""
    before, after = flatten(old), flatten(new)
    keys = sorted((before.keys() | after.keys()).difference(RUNTIME_ONLY_KEYS, LENGTH))
    values = {key: [before.get(key), after.get(key)] for key in keys if not key.startswith(RUNTIME_ONLY_GROUPS)}
    return {key: value for key, value in values.items() if value[0] != value[1]}


def other_length(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The old and the new value of the keys of the length that differ."""
    before, after = flatten(old), flatten(new)
    return {key: [before.get(key), after.get(key)] for key in LENGTH if before.get(key) != after.get(key)}


SHOWN = 5  # The number of settings that a message lists.
LONGEST = 80  # Characters of a value in it.


def change_lines(changes: Mapping[str, Sequence[Any]], form: str) -> list[str]:
    """The first settings that changed, each with its old and new value in this form, and the number of the others."""
    lines = [
        f"{key}: " + form.format(*("(not set)" if value is None else str(value)[:LONGEST] for value in values))
        for key, values in changes.items()
    ]
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"and {more} more"]


def without(overrides: Sequence[str], keys: Iterable[str]) -> list[str]:
    """The overrides that others, of these ``keys``, do not replace.

    A group replaces its keys, except the length of the run, which another length replaces in any unit.
    """
    replaced = set(keys) | (set(LENGTH) if not set(LENGTH).isdisjoint(keys) else set())
    groups = tuple(f"{key.replace('/', '.')}." for key in replaced)
    named = [(override, split_override(override)[0]) for override in overrides]
    return [
        override for override, key in named if key not in replaced and (key in LENGTH or not key.startswith(groups))
    ]


def command_line(name: str, overrides: Sequence[str], *changes: str) -> str:
    """A command of gantrain, quoted for a shell; ``changes`` replace overrides of the same keys."""
    changed = {change.split("=")[0] for change in changes}
    unchanged = [override for override in overrides if split_override(override)[0] not in changed]
    return shlex.join(["gantrain", name, *map(_as_typed, unchanged), *changes])


def _as_typed(override: str) -> str:
    """The override without the quotes that Hydra needs around a path, and that the command adds itself.

    Not those of ``'null'`` and ``'[a]'``, which are other values without quotes.
    """
    return (
        re.sub(r"='(?!\[|null'$)([^',\\]+)'$", r"=\1", override) if split_override(override)[0] in PATHS else override
    )
