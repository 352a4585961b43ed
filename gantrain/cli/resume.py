"""``gantrain resume`` and ``gantrain train resume=FOLDER``: the configuration of a run that exists, with changes."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from gantrain.checkpoints.by_url import runs_folder
from gantrain.cli.arguments import split
from gantrain.cli.compose import COMPOSITION_ONLY, compose_once, defaults_of
from gantrain.config.extras import is_url
from gantrain.config.naming import RUNS, SWEEPS
from gantrain.config.overrides import (
    LENGTH,
    PATHS,
    RUNTIME_ONLY_GROUPS,
    RUNTIME_ONLY_KEYS,
    flatten,
    split_override,
    without,
)
from gantrain.errors import ConfigError, nearest


def named_run(typed: Sequence[str]) -> str | None:
    """The run that ``resume=FOLDER`` names; None if there is none."""
    values = [value for key, value in map(split_override, typed) if key == "resume"]
    return values[-1].strip("'\"") if values and values[-1] not in ("auto", "never") else None


def resume(run: str, flags: Sequence[str], typed: Sequence[str]) -> int:
    """Resume a run with its recorded configuration, from the folder in which it was started.

    Args:
        run: The run folder, or the name of a run in ``checkpoints_dir``.
        flags: Hydra's; none is allowed.
        typed: Overrides of the recorded configuration, and ``resume``.

    Returns:
        The exit status of ``train``.
    """
    if flags:
        raise ConfigError(f"{flags[0]} can't be combined with resume={run}, which has its configuration already")
    overrides = [word for word in typed if split_override(word)[0] != "resume"]
    values = dict(map(split_override, overrides))
    folder = _find(run, values.get("checkpoints_dir", "checkpoints").strip("'\""))
    from gantrain.checkpoints.store import Checkpoints
    from gantrain.registry import import_saved
    from gantrain.train import train

    state = Checkpoints(folder).load()
    here, home = Path.cwd(), _working_folder(folder, state)
    parent = folder.parent if home.samefile(here) else folder.absolute().parent
    with _inside(home):
        config = with_overrides(state, [word for word in overrides if not word.startswith("trust_plugins=")])
        saved, given = state["config"].get("plugins", []), config["plugins"] if "plugins" in values else []
        import_saved(saved, folder, given=given, trusted="trust_plugins=true" in overrides)
        config["plugins"] = [*given, *(name for name in saved if name not in given)]
        for group, key in (path.split(".") for path in PATHS if path in values and not home.samefile(here)):
            if isinstance(path := config[group].get(key), str) and not is_url(path):
                config[group][key] = str(here / Path(path).expanduser())
        config |= {"name": folder.name, "checkpoints_dir": str(parent), "resume": str(parent / folder.name)}
        return train(config, [f"resume={run}", *overrides], lambda: _defaults(state, folder.name))


def _defaults(state: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The configuration of the run's model and data alone; None if its command can't be composed any more."""
    with suppress(ConfigError):
        flags, recorded = split(state["overrides"])
        return defaults_of(compose_once("train", flags, recorded).choices, name, flags)
    return None


def _find(run: str, checkpoints_dir: str) -> Path:
    """The folder of a run that is given as a path, or else by its name in ``checkpoints_dir``."""
    home = runs_folder(checkpoints_dir, [run])
    in_sweeps = [] if os.path.isabs(run) else sorted(home.glob(f"{SWEEPS}/*/{glob.escape(run)}"))
    for folder in (Path(run).expanduser(), home / run, *in_sweeps):
        if any(folder.glob("*.pt")):
            return folder if folder.name not in ("", "..") else Path(os.path.abspath(folder))
    known = sorted({path.parent.as_posix() for place in RUNS for path in home.glob(f"{place}/*.pt")})
    expected = "expected 'auto', 'never', or the folder of a run with a checkpoint"
    raise ConfigError(f"resume={run}: {expected}, not '{run}'; {nearest(run, known)}")


def with_overrides(state: Mapping[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """The configuration of a checkpoint with more overrides.

    It is changed in what the overrides change in the composition of the recorded command, so that a value that other
    keys refer to changes them, too.

    Raises:
        ConfigError: An override has an unknown key or a wrong form, or would make it another run.
    """
    keys = [key for key, _ in map(split_override, typed)]
    for word, key in zip(typed, keys, strict=True):
        if key in ("name", "init_from", "launcher", "sweeper") or key.startswith("hydra"):
            raise ConfigError(f"{word}: a run resumes with its own {key}; for another, replace resume with init_from")
    flags, recorded = split(state["overrides"])
    before = after = compose_once("train", [], ["schedule=constant"]).config  # Without a recipe's schedule.
    if typed:
        before = compose_once("train", flags, recorded).config
        after = compose_once("train", flags, [*without(recorded, keys), *typed]).config
    config, old, new = deepcopy(dict(state["config"])), flatten(before), flatten(after)
    known = flatten(config)  # The run may be older than some keys.
    for key in sorted(old.keys() | new.keys()):
        is_new = old.get(key) != new.get(key) or key in keys or _is_missing(key, known)
        if is_new and not key.startswith(COMPOSITION_ONLY):
            _set(config, key, new)
    if typed_lengths := {key for key in keys if key in LENGTH}:  # It replaces the length in any unit.
        config["trainer"] |= {key.removeprefix("trainer."): None for key in LENGTH if key not in typed_lengths}
    return config


def _is_missing(key: str, known: Collection[str]) -> bool:
    """Whether a run is older than a key that it needs; those of metrics and loggers that it has not chosen are not."""
    parent = key.rpartition(".")[0]
    is_chosen = "." not in parent or any(other.startswith(f"{parent}.") for other in known)
    return _is_runtime(key) and key not in known and is_chosen


def _is_runtime(key: str) -> bool:
    return key in RUNTIME_ONLY_KEYS or key.startswith(RUNTIME_ONLY_GROUPS)


def _set(config: dict[str, Any], key: str, values: Mapping[str, Any]) -> None:
    """Set ``key`` of a nested configuration to its value, or remove it if it has none."""
    *groups, name = key.split(".")
    path = [config]
    for group in groups:
        path[-1][group] = dict(path[-1].get(group) or {})
        path.append(path[-1][group])
    if key in values:
        path[-1][name] = values[key]
        return
    path[-1].pop(name, None)
    for above, group, inner in reversed([*zip(path[1:], groups[1:], path[2:], strict=False)]):
        if not inner:  # Such as the keys of a logger that is not used any more.
            del above[group]


def _working_folder(folder: Path, state: Mapping[str, Any]) -> Path:
    """The folder that the relative paths of a run start from: where it was started, or where that folder was moved."""
    config, recorded = state["config"], state["working_folder"]
    home, parent = str(config.get("checkpoints_dir", "")), folder.absolute().parent
    depth = len(Path(home).parts)
    candidates = []
    if home and not os.path.isabs(home) and parent.parts[-depth:] == Path(home).parts:
        candidates = [parent.parents[depth - 1]]
    candidates += [Path(recorded)] if isinstance(recorded, str) else []
    candidates += [Path.cwd()]
    paths = [path for key in PATHS if isinstance(path := flatten(config).get(key), str) and not is_url(path)]
    existing = [each for each in candidates if each.is_dir()]
    complete = (each for each in existing if all((each / os.path.expanduser(path)).exists() for path in paths))
    return next(complete, existing[0])


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in another folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
