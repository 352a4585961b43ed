"""Old names that plug-ins may still use: they keep working, with a DeprecationWarning that gives the new name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any


def renamed(module: str, old: str, new: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module for its old names.

    Args:
        module: ``__name__`` of the module.
        old: The old names, separated by spaces.
        new: The full path of what each of them has become (``gantrain.config.schema.PositiveInt``).
    """
    paths = dict(zip(old.split(), new.split(), strict=True))

    def get(name: str) -> Any:
        if name not in paths:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, latest = paths[name].rpartition(".")
        _warn(f"{module}.{name}", paths[name])
        return getattr(import_module(home), latest)

    return get


class RenamedMethod:
    """A method's old name in the class that introduced it; ``rename_overrides`` serves the subclasses."""

    def __init__(self, new: str) -> None:
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, name

    def __get__(self, instance: Any, owner: type) -> Any:
        _warn(f"{owner.__name__}.{self.name}", self.new)
        if any(self.name in vars(base) for base in owner.__mro__ if base is not self.owner):
            return vars(self.owner)[self.new].__get__(instance, owner)  # An override has called super().
        return getattr(instance, self.new)


def rename_overrides(cls: type) -> None:
    """Make a method that ``cls`` overrides under an old name override the new one; for ``__init_subclass__``."""
    for name, method in list(vars(cls).items()):
        inherited = (vars(base).get(name) for base in cls.__mro__[1:])
        for old in (each for each in inherited if isinstance(each, RenamedMethod) and each.new not in vars(cls)):
            _warn(f"{cls.__name__}.{name}", old.new)
            setattr(cls, old.new, method)


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=3)
