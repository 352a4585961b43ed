"""Composing the configuration of a run from its YAML groups and the overrides, and completing it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from gantrain.checkpoints.by_url import localized
from gantrain.cli.arguments import config_flags
from gantrain.cli.config_files import only_safe_files, refuse_shadowed
from gantrain.cli.hydra_errors import in_one_line
from gantrain.cli.shared_keys import DEFAULTS, add_shared_resolver, refuse_unread, unread
from gantrain.config.early import check_values
from gantrain.config.guesses import group_options, typed_choice
from gantrain.config.naming import name_of_run
from gantrain.config.overrides import LENGTH, split_override
from gantrain.errors import ConfigError, nearest

CONFIGS = "gantrain.configs"
COMPOSITION_ONLY = (*DEFAULTS, "sweep")  # Keys that no class reads.


@dataclass(frozen=True)
class Composed:
    """A composed configuration."""

    config: dict[str, Any]  # Plain values.
    overrides: list[str]  # Without those of Hydra's own keys.
    choices: dict[str, Any]  # The option that was chosen from each group.
    unread: dict[str, list[str]]  # The keys directly under ``network`` that would have no effect.

    @classmethod
    def of(cls, config: DictConfig, hydra: Any) -> Composed:
        """Resolve a composed configuration; ``hydra`` is Hydra's own configuration."""
        add_shared_resolver()  # A launcher may have started this process.
        plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
        _refuse_unknown_metrics(hydra.runtime, hydra.overrides.task)
        return cls(localized(plain), list(hydra.overrides.task), dict(hydra.runtime.choices), unread(config))


def _refuse_unknown_metrics(runtime: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse metrics that no file has, which Hydra leaves out, as it does those of a data set that has none."""
    typed = [word.partition("=")[2] for word in overrides if word.startswith("metrics=")]
    chosen = typed[-1] if typed else runtime.choices.get("metrics")  # Hydra's choices have no lists.
    if chosen is None or chosen == runtime.choices.get("data"):
        return
    known = GlobalHydra.instance().config_loader().get_group_options("metrics")
    for source in runtime.config_sources:  # Those of --config-dir are not among the options.
        if source.schema == "file":
            known += [path.stem for path in Path(source.path, "metrics").glob("*.yaml")]
    for name in re.findall(r"[^][\"', ]+", str(chosen)):
        if name not in known:
            raise ConfigError(f"metrics={name}: no such metrics; {nearest(name, known)}")


def is_plain(flags: Sequence[str], typed: Sequence[str]) -> bool:
    """Whether a command needs only a configuration from Hydra: no help, no sweep, none of its own keys."""
    own_keys = ("hydra.", "hydra/", "+hydra", "~hydra")
    folders = all(flag.startswith(("--config-dir", "-cd")) or not flag.startswith("-") for flag in flags)
    return folders and not any(word.startswith(own_keys) for word in typed)


def compose_once(command: str, flags: Sequence[str], typed: list[str]) -> Composed:
    """Compose ``configs/<command>.yaml`` with the overrides; ``flags`` may name folders of more configurations."""
    try:
        with hydra_settings(flags) as search:
            config = compose(command, [*typed, *search], return_hydra_config=True)
            HydraConfig.instance().set_config(config)  # Values may refer to ${hydra:...}.
            with open_dict(config):
                own = config.pop("hydra")
            return Composed.of(config, own)
    except ConfigError:
        raise
    except Exception as error:  # Hydra and OmegaConf raise any type for wrong input.
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise ConfigError(in_one_line(error, command, typed)) from None


def compose_training(
    flags: Sequence[str], typed: Sequence[str]
) -> tuple[dict[str, Any], list[str], Callable[[], dict[str, Any] | None]]:
    """The arguments of ``gantrain.train.train`` for the words of a command."""
    composed = compose_once("train", flags, [*demo_data([*typed], flags), *typed])
    config = complete(composed)
    overrides = [*config_flags(flags), *composed.overrides]
    return config, overrides, lambda: defaults_of(composed.choices, config["name"], flags)


@contextmanager
def restored_hydra() -> Iterator[None]:
    """Restore the global state of Hydra and OmegaConf at the end, which belongs to the caller."""
    state = Singleton.get_state()
    try:
        yield
    finally:
        Singleton.set_state(state)


@contextmanager
def hydra_settings(flags: Sequence[str]) -> Iterator[list[str]]:
    """Hydra's compose API inside, with the override that adds the folders of ``--config-dir``."""
    folders = config_folders(flags)
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder}: no such folder")
    refuse_shadowed(folders)
    GlobalHydra.instance().clear()
    add_resolvers()
    paths = ",".join(f"'file://{folder.absolute()}'" for folder in folders)
    with initialize_config_module(CONFIGS, version_base="1.3"), only_safe_files():
        yield [f"hydra.searchpath=[{paths}]"] if paths else []


def config_folders(flags: Sequence[str]) -> list[Path]:
    """The folders that ``--config-dir`` names."""
    words = config_flags(flags)
    names = [word.partition("=")[2] if "=" in word else word for word in words if word[:1] != "-" or "=" in word]
    return [Path(name).expanduser() for name in names]


def refuse_open_braces(typed: list[str]) -> None:
    """Refuse several shards given as several roots, as a shell expands one pattern; Hydra would use only the last."""
    shards = [word for word in typed if word.startswith("data.root=") and word.endswith(".tar")]
    if len(shards) > 1:
        raise ConfigError(
            f"data.root is given {len(shards)} times, from {shards[0]} to {shards[-1]}: if the shell has expanded a "
            "pattern, quote it: 'data.root=shards/{000..012}.tar'"
        )


def demo_data(typed: list[str], flags: Sequence[str]) -> list[str]:
    """The override for the data that a model's YAML file names as ``demo``, if a model was typed, but no data.

    Hydra's defaults list in the model's file can't select it, as it only overrides groups before its own, and data
    comes after the model. In a sweep whose models name different data, there is none: see ``with_own_demo``.
    """
    model = [word for word in typed if word.startswith("model=")]
    if not model or any(word.startswith(("data=", "experiment=")) for word in typed):
        return []
    folders = [*config_folders(flags), Path(str(resources.files(CONFIGS)))]
    demos = {_demo_of(name, folders) for name in model[-1].removeprefix("model=").split(",")}
    return [f"data={demo}" for demo in demos if demo and len(demos) == 1]


def with_own_demo(composed: Composed, flags: Sequence[str]) -> Composed:
    """A run of a sweep on the data of its own model, if no data was typed and the models of the sweep differ in it."""
    demo = demo_data(composed.overrides, flags)
    if not demo or demo == [f"data={composed.choices['data']}"]:
        return composed
    typed, outer = [*demo, *composed.overrides], HydraConfig.instance().cfg
    if not GlobalHydra.instance().is_initialized():
        return compose_once("train", flags, typed)
    try:
        config = compose("train", typed, return_hydra_config=True)
        HydraConfig.instance().set_config(config)  # Values may refer to ${hydra:...}.
        with open_dict(config):
            own = config.pop("hydra")
        return Composed.of(config, own)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(in_one_line(error, "train", typed)) from None
    finally:
        HydraConfig.instance().cfg = outer


def _demo_of(model: str, folders: Sequence[Path]) -> str | None:
    """The key ``demo`` of a model's file, or of the model that it inherits from."""
    seen: set[str] = set()
    while model not in seen:
        seen.add(model)
        paths = (folder / "model" / f"{model}.yaml" for folder in reversed(folders))
        try:
            file = yaml.safe_load(next(path for path in paths if path.is_file()).read_text(encoding="utf-8"))
        except (StopIteration, OSError, ValueError, yaml.YAMLError, RecursionError):
            return None  # Hydra reports it.
        if not isinstance(file, dict):
            return None
        if isinstance(file.get("demo"), str):
            return str(file["demo"])
        parents = file["defaults"] if isinstance(file.get("defaults"), list) else []
        model = next((name for name in parents if isinstance(name, str) and name != "_self_"), model)
    return None


def defaults_of(choices: Mapping[str, Any], name: str, flags: Sequence[str] = ()) -> dict[str, Any] | None:
    """The configuration of the chosen model and data alone, under the run's name; None if it can't be composed."""
    running = GlobalHydra.instance().is_initialized()  # By ``hydra.main``.
    with (
        suppress(HydraException, OmegaConfBaseException, ConfigError),
        nullcontext(list[str]()) if running else hydra_settings(flags) as search,
    ):
        config = compose("train", [*(f"{group}={choices[group]}" for group in ("model", "data")), *search])
        return {**cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)), "name": name}
    return None


def complete(composed: Composed) -> dict[str, Any]:
    """The final configuration of a run: named, with one length, and with the networks of an ``init_from=FILE.pth``.

    This is the only function that changes a configuration after Hydra has composed it.
    """
    refuse_unread(composed.overrides, composed.unread, composed.config["network"])
    config = {key: value for key, value in composed.config.items() if key not in COMPOSITION_ONLY}
    for side, value in config["network"].items():
        if isinstance(value, str) and (meant := typed_choice(f"network.{side}", value)):
            raise ConfigError(f"network.{side}={value}: a network is chosen as a group; {meant}")
    if config["name"] is None:
        runs_folder = Path(str(config["checkpoints_dir"])).expanduser()
        config["name"] = name_of_run(composed.overrides, composed.choices, runs_folder)
    typed = {split_override(override)[0] for override in composed.overrides}
    if typed.intersection(LENGTH):  # It replaces the length in the file of the data set, in any unit.
        config["trainer"] |= {key.split(".")[1]: None for key in LENGTH if key not in typed}
    check_values(config, also={"data": "gantrain.data.stream.BatchStream"})
    from gantrain.training.init_from import adopt_architecture  # It imports torch.

    return adopt_architecture(config, composed.overrides)


def swept(typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides that all runs of a sweep share, and the keys in which they differ, without Hydra's own."""
    try:
        overrides = OverridesParser.create().parse_overrides(list(typed))
    except HydraException:  # Hydra reports it in more detail.
        return [], []
    own = [override for override in overrides if not override.key_or_group.startswith("hydra")]
    fixed = [str(override.input_line) for override in own if not override.is_sweep_override()]
    return fixed, [override.key_or_group for override in own if override.is_sweep_override()]


def check_plugins(typed: Sequence[str]) -> None:
    """Refuse a launcher or sweeper whose package is missing, with the command that installs it."""
    for word in typed:
        found = re.fullmatch(r"(?:hydra/)?(launcher|sweeper)=(\w+)", word)
        if found is None or found[2] not in group_options(found[1]):
            continue
        extra = found[2].partition("_")[0]
        with suppress(ModuleNotFoundError):  # Without any plug-in of Hydra, the parent package is missing.
            if find_spec(f"hydra_plugins.hydra_{extra}_{found[1]}") is not None:
                continue
        raise ConfigError(f"{word} needs the package hydra-{extra}-{found[1]}: pip install 'gantrain[{extra}]'")


def add_resolvers() -> None:
    """Register the resolvers that the files of launchers, sweepers and networks use.

    ``${gpus:N}`` is the number of GPUs, or N if there is none; ``${direction:METRIC,MODE}`` is Optuna's word for
    the mode of an objective.
    """
    add_shared_resolver()

    def count_gpus(otherwise: int) -> int:
        from gantrain.runtime.gpus import visible_gpus

        return len(visible_gpus()) or otherwise

    OmegaConf.register_new_resolver("gpus", count_gpus, replace=True)
    OmegaConf.register_new_resolver("direction", _direction, replace=True)


def _direction(metric: str | None, mode: Literal["min", "max"] | None) -> str:
    import gantrain.metrics  # noqa: F401 - registers them; it imports torch, which other commands need not
    from gantrain.training.objective import mode_of

    return {"min": "minimize", "max": "maximize"}[mode_of(metric, mode)]
