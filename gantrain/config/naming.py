"""The default names of the folders of runs, sweeps and results."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from gantrain.config.extras import without_credentials
from gantrain.config.overrides import LENGTH, RUNTIME_ONLY_GROUPS, RUNTIME_ONLY_KEYS, split_override
from gantrain.errors import ConfigError

SWEEPS = "sweeps"  # The folder of all sweeps, beside the runs.
JOBS = "jobs"  # The folder of the records of a sweep's runs, beside these.
RUNS = ("*", f"{SWEEPS}/*/*")  # Where runs are in the folder of all runs.
MAX_CHARACTERS = 59
OLD_MAX_CHARACTERS = 120  # Of names until version 0.1; their digest was added.
DIGEST_BYTES = 3
# The name does not change with the length of a run or its location, but with the images or networks it starts from.
_WHAT = {"model", "data", "experiment"}
_UNNAMED = {*RUNTIME_ONLY_KEYS, *LENGTH, *_WHAT, "logger", "metrics", "launcher", "sweeper"} - {
    "data.root",
    "init_from",
}


def run_name(what: str, overrides: Sequence[str], first: Sequence[str] = ()) -> str:
    """``what`` and the overrides that change the computation, in characters that a shell does not interpret.

    ``optimizer.lr=1e-4`` becomes ``optimizer.lr-0.0001``. If that is too long, it becomes ``lr-0.0001``, and as many
    overrides as fit are named, those of the keys ``first`` before others. If something is replaced or left out, a short
    hash of all makes the name unique.
    """
    parts, pairs, is_exact = _parts(what, overrides)
    if is_exact and len("_".join(parts)) <= MAX_CHARACTERS:
        return "_".join(parts)
    named = sorted(zip(parts[1:], pairs, strict=True), key=lambda each: each[1][0] not in first)
    parts = [parts[0], *(part for part, _ in named)]
    room = MAX_CHARACTERS - len(f"_{_digest(pairs)}")
    if len("_".join(parts)) > room:
        parts = [parts[0], *(part[_end_of_groups(part) :] for part in parts[1:])]
    count = max((n for n in range(2, len(parts) + 1) if len("_".join(parts[:n])) <= room), default=1)
    return f"{'_'.join(parts[:count])[:room]}_{_digest(pairs)}"


def old_run_name(what: str, overrides: Sequence[str]) -> str:
    """The name that a run with these overrides had until version 0.1, whose folder it still uses if that exists."""
    parts, pairs, is_exact = _parts(what, overrides)
    name = "_".join(parts)
    return name if is_exact and len(name) <= OLD_MAX_CHARACTERS else f"{name[:OLD_MAX_CHARACTERS]}_{_digest(pairs)}"


def _digest(pairs: Sequence[tuple[str, str]]) -> str:
    return hashlib.blake2b(repr(pairs).encode(), digest_size=DIGEST_BYTES).hexdigest()


def _end_of_groups(part: str) -> int:
    """The number of characters before the last word of the key: 8 in ``network.width-0.5``."""
    return part.rfind(".", 0, part.find("-")) + 1


def _parts(what: str, overrides: Sequence[str]) -> tuple[list[str], list[tuple[str, str]], bool]:
    """The parts of a name, the keys and values they stand for, and whether they are readable without a change."""
    typed = [(key, _plain_number(value)) for key, value in map(split_override, overrides)]
    # An experiment selects model and data; overriding them changes the name.
    unnamed = _UNNAMED - ({"model", "data"} if any(key == "experiment" for key, _ in typed) else set())
    pairs = sorted(pair for pair in typed if pair[0] not in unnamed and not pair[0].startswith(RUNTIME_ONLY_GROUPS))
    parts = [what.replace("/", "_")]  # An experiment may be in a sub-folder.
    lossy = False
    for key, value in pairs:
        if key in ("data.root", "init_from"):
            value, lossy = without_credentials(value).rstrip("/").rpartition("/")[2], True
        readable = re.sub(r"[^A-Za-z0-9.]+", "_", value.replace("-", "m" if value.startswith("-") else "-")).strip("_")
        plain = re.fullmatch(r"[A-Za-z0-9._]+([-][0-9]+)?", value)
        lossy = lossy or not plain
        parts.append(f"{key.replace('/', '_')}-{value if plain else readable}")
    return parts, pairs, not lossy


def name_of_run(
    overrides: Sequence[str],
    choices: Mapping[str, str | None],
    folder: Path | None = None,
    first: Sequence[str] = (),
) -> str:
    """The default name of a run with these overrides and choices of groups.

    Args:
        folder: The folder of all runs; a run in it that has the name of an older version keeps it.
        first: The keys that are named first.
    """
    what = choices.get("experiment") or f"{choices['model']}_{choices['data']}"
    name, old = run_name(what, overrides, first), old_run_name(what, overrides)
    return old if folder is not None and (folder / old).is_dir() and not (folder / name).is_dir() else name


def home_of(runs_folder: Path) -> Path | None:
    """The folder of all runs, if ``runs_folder`` is it or a sweep in it; None if it is a sweep elsewhere."""
    if not (runs_folder / JOBS).is_dir():
        return runs_folder
    return runs_folder.parent.parent if runs_folder.parent.name == SWEEPS else None


def name_of_sweep(fixed: Sequence[str], swept: Sequence[str]) -> str:
    """The name of a sweep, which does not depend on the values that are tried.

    Args:
        fixed: Overrides that all runs share.
        swept: The keys in which the runs differ.

    Raises:
        ConfigError: Runs would share a folder.
    """
    name = next((value for key, value in map(split_override, fixed) if key == "name"), None)
    unnamed = [key for key in swept if key in _UNNAMED - _WHAT or key.startswith(RUNTIME_ONLY_GROUPS)]
    if "name" not in swept and swept and (unnamed if name is None else "${" not in name):
        key = unnamed[0] if name is None else swept[0]
        why = f"{key} is not part of the names of runs, so" if name is None else f"name={name}:"
        wanted = f"name='{name or 'x'}_{_reference(key)}'"
        raise ConfigError(f"{why} all runs of the sweep would share a folder; give each another name, as with {wanted}")
    what = dict(pair for pair in map(split_override, fixed) if pair[0] in _WHAT)
    chosen = [what["experiment"]] if "experiment" in what else list(what.values())
    return run_name("_".join([*chosen, "+".join(key.replace("/", "_") for key in sorted(swept)) or "sweep"]), fixed)


def _reference(key: str) -> str:
    """The interpolation of a key; of a group, that of its choice."""
    is_group = files("gantrain.configs").joinpath(key).is_dir()
    return f"${{hydra:runtime.choices.{key}}}" if is_group else f"${{{key}}}"


def _plain_number(value: str) -> str:
    """``1e-4`` as Hydra writes it in a sweep, ``0.0001``, so that a run has the same name alone and in a sweep."""
    try:
        return str(float(value)) if not re.fullmatch(r"[-+]?\d+", value) else value
    except ValueError:
        return value


def of_root(data: dict[str, Any] | None, data_name: str | None) -> str:
    """A suffix for results of ``data=single`` and ``data=shards``: ``_photos`` for ``data.root=some/photos/*.jpg``."""
    if data_name not in ("single", "shards") or data is None:
        return ""
    root = os.path.abspath(os.path.expanduser(without_credentials(str(data.get("root")))))
    fixed = root.split("*")[0].split("?")[0].split("[")[0]
    last = root[fixed.rstrip("/").rfind("/") + 1 :]  # Including a pattern.
    safe = re.sub(r"[^\w.+-]+", "_", last).strip("_")
    return f"_{safe}" if safe else ""
