"""Wrong values are refused before torch is imported, which takes seconds.

The constructors of the classes are the schema, as ever, but their annotations are read from the source code. What can't
be found there is checked when the objects are built.
"""

from __future__ import annotations

import ast
import builtins
import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gantrain.config import schema, settings
from gantrain.config.schema import checked, construct
from gantrain.config.settings import RunSettings, TrainerSettings
from gantrain.errors import ConfigError, nearest

PACKAGE = Path(schema.__file__).parent.parent
GROUPS = {  # The folder of the classes that a group of keys chooses from, and the key with the name.
    "model": ("models", "name"),
    "optimizer": ("optim", "name"),
    "schedule": ("optim", "name"),
    "network.generator": ("networks", "name"),
    "network.discriminator": ("networks", "name"),
    "data": ("data", "mode"),
}
REGISTRIES = {
    **{"model": "MODELS", "optimizer": "OPTIMIZERS", "schedule": "SCHEDULES", "data": "DATASETS"},
    **{"network.generator": "GENERATORS", "network.discriminator": "DISCRIMINATORS"},
}


def check_values(config: Mapping[str, Any], *, also: Mapping[str, str]) -> None:
    """Refuse values of a composed configuration by their annotations.

    Args:
        config: All of it.
        also: Further classes that read the keys of a group, by the group: ``module.Class``.

    Raises:
        ConfigError: The first that does not fit.
    """
    construct(RunSettings, {**config, "name": config["name"] or "run"}, key="")
    construct(TrainerSettings, config["trainer"], key="trainer")
    for key, (_, choose_by) in GROUPS.items():
        values: Any = config
        for part in key.split("."):
            values = values.get(part) if isinstance(values, Mapping) else None
        if not isinstance(values, Mapping):
            continue  # It is refused later.
        annotations = annotations_of(key, str(values.get(choose_by)))
        if key in also:
            module, _, name = also[key].rpartition(".")
            annotations = _Module.of(module).annotations(name) | annotations
        for name, value in values.items():
            if name in annotations:
                checked(value, annotations[name], f"{key}.{name}")
    loss, known = config["model"].get("loss"), loss_names()
    if loss is not None and loss not in known and not config.get("plugins"):  # A plug-in may add others.
        raise ConfigError(f"model.loss: no adversarial loss '{loss}'; {nearest(str(loss), known)}")
    checked(config["optimizer"].get("lr", 0), schema.NonNegativeFloat, "optimizer.lr")
    checked(config["optimizer"].get("discriminator_lr"), schema.NonNegativeFloat | None, "optimizer.discriminator_lr")


@cache
def loss_names() -> list[str]:
    """The names of the adversarial losses, read from the source of their table."""
    tree = ast.parse((PACKAGE / "models" / "losses" / "adversarial.py").read_text(encoding="utf-8"))
    tables = (node.value for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict))
    return [str(key.value) for table in tables for key in table.keys if isinstance(key, ast.Constant)]


class _Module:
    """The classes and type aliases of a module of the package, read from its source."""

    def __init__(self, name: str) -> None:
        path = PACKAGE.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        self._classes: dict[str, ast.ClassDef] = {}
        self._imported: dict[str, str] = {}  # The module that each name is imported from.
        self._names: dict[str, Any] = {"__builtins__": builtins}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                self._classes[node.name] = node
            elif isinstance(node, ast.ImportFrom) and node.module:
                self._imported |= {alias.asname or alias.name: node.module for alias in node.names}
            elif isinstance(node, ast.AnnAssign) and node.value and ast.unparse(node.annotation) == "TypeAlias":
                self._names |= self._evaluated(ast.unparse(node.target), node.value)

    @classmethod
    @cache
    def of(cls, name: str) -> _Module:
        """The module with that name, which is read once."""
        return cls(name)

    def registered(self, word: str) -> str:
        """The class that is decorated by ``word``; an empty string for none."""
        decorated = (node for node in self._classes.values() if word in map(ast.unparse, node.decorator_list))
        return next((node.name for node in decorated), "")

    def annotations(self, name: str) -> dict[str, Any]:
        """The annotations of a constructor's arguments; its parents' too, if it has ``**others`` or is inherited."""
        origin = self._imported.get(name, "")
        if name not in self._classes:
            return _Module.of(origin).annotations(name) if origin.startswith("gantrain.") else {}
        node = self._classes[name]
        found: dict[str, Any] = {}
        own = next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)
        if own is None or own.args.kwarg is not None:
            for base in reversed(node.bases):
                found |= self.annotations(ast.unparse(base).partition("[")[0])
        is_dataclass = any(ast.unparse(each).startswith("dataclass") for each in node.decorator_list)
        for field in node.body if is_dataclass else ():
            if isinstance(field, ast.AnnAssign):
                found |= self._evaluated(ast.unparse(field.target), field.annotation)
        for argument in (*own.args.args, *own.args.kwonlyargs) if own is not None else ():
            found.pop(argument.arg, None)
            if argument.annotation is not None:
                found |= self._evaluated(argument.arg, argument.annotation)
        return found

    def type_named(self, name: str) -> Any:
        """A type by its name in this module; None if that needs an import."""
        if name not in self._names and (origin := self._imported.get(name)):
            if origin in ("typing", schema.__name__, settings.__name__):
                self._names[name] = getattr(importlib.import_module(origin), name)
            elif origin.startswith("gantrain."):
                self._names[name] = _Module.of(origin).type_named(name)
        return self._names.get(name)

    def _evaluated(self, name: str, node: ast.expr) -> dict[str, Any]:
        """The value of a type by ``name``; nothing if it needs what only an import would bring."""
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and not hasattr(builtins, each.id) and self.type_named(each.id) is None:
                return {}
        return {name: eval(compile(ast.Expression(node), "annotation", "eval"), dict(self._names))}


@cache
def annotations_of(group: str, name: str) -> dict[str, Any]:
    """The annotations of the class that a group of keys selects by a name; empty for a plug-in's."""
    for path in sorted((PACKAGE / GROUPS[group][0]).rglob("*.py")):
        module = _Module.of(".".join(["gantrain", *path.relative_to(PACKAGE).with_suffix("").parts]))
        if found := module.registered(f"{REGISTRIES[group]}.register({name!r})"):
            return module.annotations(found)
    return {}
