"""Old names that plug-ins may still use: they keep working, with a DeprecationWarning that gives the new name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module for its old names.

    Args:
        module: ``__name__`` of the module.
        names: Each old name, and the full path of what it has become (``gantrain.config.schema.PositiveInt``).
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new = names[name].rpartition(".")
        warnings.warn(f"{module}.{name} is now {names[name]}", DeprecationWarning, stacklevel=2)
        return getattr(import_module(home), new)

    return get


class RenamedMethod:
    """A method's old name in the class that introduced it; ``rename_overrides`` serves the subclasses.

    Args:
        new: The new name.
    """

    def __init__(self, new: str) -> None:
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, name

    def __get__(self, instance: Any, owner: type) -> Any:
        warnings.warn(f"{owner.__name__}.{self.name} is now {self.new}", DeprecationWarning, stacklevel=2)
        if any(self.name in vars(base) for base in owner.__mro__ if base is not self.owner):
            return vars(self.owner)[self.new].__get__(instance, owner)  # An override has called super().
        return getattr(instance, self.new)


def rename_overrides(cls: type) -> None:
    """Make a method that ``cls`` overrides under an old name override the new one; for ``__init_subclass__``."""
    for name, method in list(vars(cls).items()):
        inherited = (vars(base).get(name) for base in cls.__mro__[1:])
        for old in (each for each in inherited if isinstance(each, RenamedMethod)):
            warnings.warn(f"{cls.__name__}.{name} is now {old.new}", DeprecationWarning, stacklevel=3)
            setattr(cls, old.new, method)
