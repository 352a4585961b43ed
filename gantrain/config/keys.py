"""The keys of the configuration: their meanings from the source code, and their values from the YAML files."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from gantrain.config.overrides import flatten
from gantrain.config.schema import NonNegativeFloat, describe
from gantrain.config.source import GROUPS, Argument, arguments_at, arguments_of, classes_of, loss_names

READERS = {  # Classes that read the keys at a place, besides those that a name chooses.
    "": ["gantrain.config.settings.RunSettings"],
    "objective": ["gantrain.training.objective.ObjectiveSettings"],
    "trainer": ["gantrain.config.settings.TrainerSettings"],
    "network": ["gantrain.config.settings.NetworkSettings"],
    "data": [
        "gantrain.data.stream.BatchStream",
        "gantrain.data.settings.SelectionSettings",
        "gantrain.data.images.cache.Cache",
    ],
    "metrics": ["gantrain.metrics.settings.MetricsSettings"],
}
COMMANDS = {  # The classes that read the keys of other commands, whose files are configs/<command>.yaml.
    "benchmark": "gantrain.benchmark.BenchmarkSettings",
    "test": "gantrain.inference.settings.TestSettings",
    "predict": "gantrain.inference.settings.PredictSettings",
    "evaluate": "gantrain.evaluate.EvaluateSettings",
    "export": "gantrain.export.ExportSettings",
}
OWN = {  # Keys that no class reads.
    "sweep.skip_done": Argument(
        bool, "In a sweep, whether finished runs are skipped; false checks their configuration, as a single run does."
    ),
    "optimizer.discriminator_lr": Argument(NonNegativeFloat, "Learning rate of the discriminator."),
}
OF_FILES = ("network_defaults", "discriminator_defaults", "demo", "hydra", "expected", "defaults")


@dataclass(frozen=True)
class Meaning:
    """What a key means to the options of its group that have it."""

    argument: Argument
    options: list[str]  # ``cyclegan``; empty if the key belongs to no group.


@dataclass(frozen=True)
class Key:
    """A key of the configuration that can be typed.

    Attributes:
        path: ``model.pool_size``.
        meanings: At least one.
        defaults: The values in the files of the key's own group and in those for all, by the path of the file
            without its suffix: ``model/cyclegan``.
        others: The values in the files of other groups, which win over them.
    """

    path: str
    meanings: list[Meaning]
    defaults: dict[str, Any]
    others: dict[str, Any]


def can_be_typed(path: str) -> bool:
    """Whether a key in a YAML file is for users, too."""
    return path.split(".")[0] not in OF_FILES and not re.match(r"(logger|metrics)\.\w+\.name$", path)


def group_of(path: str) -> str:
    """The group whose name chooses the class that reads a key; an empty string for none."""
    place = path.rpartition(".")[0]
    return next((group for group in (place, place.rpartition(".")[0]) if group in GROUPS), "")


def argument_of(path: str, name: str | None) -> Argument | None:
    """The type and the description of a key; None if it has none.

    Args:
        path: ``model.pool_size``.
        name: The class that its group has chosen.
    """
    if path in OWN:
        return OWN[path]
    place, _, leaf = path.rpartition(".")
    group = group_of(path)
    if group and place == group and leaf == GROUPS[group].choose_by:
        text = f"The class; {group.replace('.', '/')}=NAME chooses it with the values that suit it."
        return Argument(Literal[tuple(classes_of(group))], text)
    if group and (found := arguments_of(group, place.rpartition(".")[2] if place != group else str(name)).get(leaf)):
        if path == "model.loss":
            return found._replace(annotation=Literal[tuple(loss_names())])
        return found
    for reader in READERS.get(place, ()):
        if found := arguments_at(reader).get(leaf):
            if path == "metrics.features":
                return found._replace(annotation=Literal[tuple(classes_of(path))] | None)
            return found
    return None


def name_in(flat: Mapping[str, Any], path: str) -> str | None:
    """The class that the group of a key has chosen in a flattened configuration."""
    group = group_of(path)
    return flat.get(f"{group}.{GROUPS[group].choose_by}") if group else None


def allowed(argument: Argument) -> str:
    """What a value may be, in words: ``a whole number at least 1 or null``."""
    return describe(argument.annotation).replace("'", "") if argument.annotation is not None else "any value"


def choices(annotation: Any) -> list[str]:
    """The values that can be listed, as they are typed; empty if a value may be any number or text."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return [str(choice) for choice in arguments]
    if origin in (typing.Union, types.UnionType):
        return [choice for each in arguments for choice in choices(each)]
    return {bool: ["true", "false"], type(None): ["null"]}.get(annotation, [])


# ---- the YAML files


@cache
def files() -> dict[str, dict[str, Any]]:
    """The values that each YAML file of the package sets itself, by key; the files by path without their suffix."""
    folder = Path(str(resources.files("gantrain.configs")))
    found = {}
    for file in sorted(folder.rglob("*.yaml")):
        name = file.relative_to(folder).with_suffix("").as_posix()
        text = file.read_text(encoding="utf-8")
        content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
        package = re.match(r"# @package (\S+)", text)
        place = package[1] if package else name.rpartition("/")[0].replace("/", ".")
        prefix = "" if place in ("", "_global_") else f"{place}."
        own = {f"{prefix}{key}": value for key, value in flatten(content).items() if key.split(".")[0] != "defaults"}
        parents = [each for each in content.get("defaults") or () if isinstance(each, str) and each != "_self_"]
        found[name] = own | ({"defaults": parents} if parents and "/" in name else {})
    return found


def _with_parents(name: str) -> dict[str, Any]:
    """The values of a file and of those of its group that it inherits from."""
    own = files()[name]
    values: dict[str, Any] = {}
    for parent in own.get("defaults", ()):
        values |= _with_parents(f"{name.rpartition('/')[0]}/{parent}")
    return values | own


@cache
def keys() -> dict[str, Key]:
    """All keys of ``gantrain train``, by path, in the order of the files."""
    values = {name: _with_parents(name) for name in files() if name not in COMMANDS}
    paths = dict.fromkeys(path for each in values.values() for path in each)
    found = {}
    for path in sorted(paths, key=lambda path: (path.count(".") > 0, path.rpartition(".")[0])):
        if not can_be_typed(path):
            continue
        group = group_of(path)
        folder = f"{(group or path.rpartition('.')[0]).replace('.', '/')}/"
        own = {name: each[path] for name, each in values.items() if name.startswith(folder) and path in each}
        base = {name: files()[name][path] for name in ("train", "measuring") if path in files()[name]}
        others = {n: each[path] for n, each in files().items() if path in each and n not in (*own, *base)}
        meanings: dict[str, Meaning] = {}
        for name in own or [""]:
            argument = argument_of(path, name_in(values.get(name, {}), path))
            if argument is not None:
                same = meanings.setdefault(f"{argument}", Meaning(argument, []))
                same.options.extend([name.rpartition("/")[2]] if own and group else [])
        if meanings:
            found[path] = Key(path, [*meanings.values()], base | own, others)
    return found
