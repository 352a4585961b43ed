"""The constructors of the package read from its source code: what help and early checks know without importing torch.

A constructor's annotations are the types of its keys. The section ``Args`` of its class's docstring describes them, or,
in a dataclass, the comment beside or above a field.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from gantrain.config import schema, settings

PACKAGE = Path(schema.__file__).parent.parent


class Group(NamedTuple):
    """A group of keys whose name chooses a registered class."""

    folder: str  # Of the classes, in the package.
    registry: str
    choose_by: str = "name"  # The key with the name.


GROUPS = {
    "model": Group("models", "MODELS"),
    "network.generator": Group("networks", "GENERATORS"),
    "network.discriminator": Group("networks", "DISCRIMINATORS"),
    "data": Group("data", "DATASETS", "mode"),
    "optimizer": Group("optim", "OPTIMIZERS"),
    "schedule": Group("optim", "SCHEDULES"),
    "logger": Group("report/loggers", "LOGGERS"),
    "metrics": Group("metrics", "METRICS"),
    "metrics.features": Group("metrics/features", "FEATURES"),
}


class Argument(NamedTuple):
    """A keyword argument of a constructor, which is a key of the configuration."""

    annotation: Any  # None if it can't be known without an import.
    text: str  # Its description, in one line; empty if there is none.


class Module:
    """The classes and type aliases of a module of the package, read from its source."""

    def __init__(self, name: str) -> None:
        path = PACKAGE.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        text = path.read_text(encoding="utf-8")
        self._lines = text.splitlines()
        self._classes: dict[str, ast.ClassDef] = {}
        self._imported: dict[str, str] = {}  # The module that each name is imported from.
        self._names: dict[str, Any] = {"__builtins__": builtins}
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                self._classes[node.name] = node
            elif isinstance(node, ast.ImportFrom) and node.module:
                self._imported |= {alias.asname or alias.name: node.module for alias in node.names}
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                self._names |= {ast.unparse(target): node.value.value for target in node.targets}
            elif isinstance(node, ast.AnnAssign) and node.value and ast.unparse(node.annotation) == "TypeAlias":
                self._names |= self._evaluated(ast.unparse(node.target), node.value)

    @classmethod
    @cache
    def of(cls, name: str) -> Module:
        """The module with that name, which is read once."""
        return cls(name)

    def registered(self, registry: str) -> Iterator[tuple[str, str]]:
        """The names under which classes of this module are registered there, each with its class."""
        for node in self._classes.values():
            for word in map(ast.unparse, node.decorator_list):
                if found := re.fullmatch(rf"{registry}\.register\('(\w+)'\)", word):
                    yield found[1], node.name

    def arguments(self, name: str) -> dict[str, Argument]:
        """The arguments of a constructor; its parents' too, if it has ``**others`` or is inherited.

        Their descriptions may be in the docstring of any class that they pass through; the most derived one is used.
        """
        origin = self._imported.get(name, "")
        if name not in self._classes:
            return Module.of(origin).arguments(name) if origin.startswith("gantrain.") else {}
        node = self._classes[name]
        found: dict[str, Argument] = {}
        own = next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)
        if own is None or own.args.kwarg is not None:
            for base in reversed(node.bases):
                found |= self.arguments(ast.unparse(base).partition("[")[0])
        is_dataclass = any(ast.unparse(each).startswith("dataclass") for each in node.decorator_list)
        for field in node.body if is_dataclass else ():
            if isinstance(field, ast.AnnAssign):
                key = ast.unparse(field.target)
                found[key] = Argument(self._type(field.annotation), self._comment(field))
        for argument in (*own.args.args, *own.args.kwonlyargs) if own is not None else ():
            if argument.arg != "self":
                annotation = self._type(argument.annotation) if argument.annotation is not None else None
                found[argument.arg] = Argument(annotation, "")
        texts = described(ast.get_docstring(node) or "")
        return {key: each._replace(text=texts.get(key, each.text)) for key, each in found.items()}

    def type_named(self, name: str) -> Any:
        """A type by its name in this module; None if that needs an import."""
        if name not in self._names and (origin := self._imported.get(name)):
            if origin in ("typing", schema.__name__, settings.__name__):
                self._names[name] = getattr(importlib.import_module(origin), name)
            elif origin.startswith("gantrain."):
                self._names[name] = Module.of(origin).type_named(name)
        return self._names.get(name)

    def _type(self, node: ast.expr) -> Any:
        return self._evaluated("type", node).get("type")

    def _evaluated(self, name: str, node: ast.expr) -> dict[str, Any]:
        """The value of a type by ``name``; nothing if it needs what only an import would bring."""
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and not hasattr(builtins, each.id) and self.type_named(each.id) is None:
                return {}
        return {name: eval(compile(ast.Expression(node), "annotation", "eval"), dict(self._names))}

    def _comment(self, field: ast.AnnAssign) -> str:
        """The comment at the end of a field's line, or else the lines of comments above it."""
        _, beside, text = self._lines[(field.end_lineno or field.lineno) - 1].partition("  # ")
        above: list[str] = []
        for line in reversed(self._lines[: field.lineno - 1] if not beside else ()):
            if not line.strip().startswith("# "):
                break
            above.insert(0, line.strip().removeprefix("# "))
        return text or " ".join(above)


def described(docstring: str) -> dict[str, str]:
    """The entries of the section ``Args`` of a cleaned docstring; those for ``a, b`` describe both."""
    found: dict[str, str] = {}
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", docstring, re.MULTILINE)
    for entry in re.finditer(r"^    ([\w, ]+): (.*(?:\n     .*)*)", section[1] if section else "", re.MULTILINE):
        found |= dict.fromkeys(entry[1].split(", "), " ".join(entry[2].split()))
    return found


def _module_at(path: Path) -> Module:
    return Module.of(".".join(["gantrain", *path.relative_to(PACKAGE).with_suffix("").parts]))


@cache
def classes_of(group: str) -> dict[str, tuple[Module, str]]:
    """The registered classes of a group of the package, by name, each with its module."""
    found: dict[str, tuple[Module, str]] = {}
    for path in sorted((PACKAGE / GROUPS[group].folder).rglob("*.py")):
        module = _module_at(path)
        found |= {name: (module, class_name) for name, class_name in module.registered(GROUPS[group].registry)}
    return found


@cache
def arguments_of(group: str, name: str) -> dict[str, Argument]:
    """The arguments of the class that a group of keys selects by a name; empty for a plug-in's."""
    folder, registry = GROUPS[group].folder, GROUPS[group].registry
    for path in (PACKAGE / folder).rglob("*.py"):
        if f'{registry}.register("{name}")' in path.read_text(encoding="utf-8"):  # Only this one is parsed.
            module = _module_at(path)
            return module.arguments(dict(module.registered(registry))[name])
    return {}


def arguments_at(place: str) -> dict[str, Argument]:
    """The arguments of a class by its path: ``gantrain.config.settings.TrainerSettings``."""
    module, _, name = place.rpartition(".")
    return Module.of(module).arguments(name)


@cache
def loss_names() -> list[str]:
    """The names of the adversarial losses, read from the source of their table."""
    tree = ast.parse((PACKAGE / "models" / "losses" / "adversarial.py").read_text(encoding="utf-8"))
    tables = (node.value for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict))
    return [str(key.value) for table in tables for key in table.keys if isinstance(key, ast.Constant)]
