"""Constructors as schemas: keys and values of a configuration, checked against a signature."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union

from gantrain.errors import ConfigError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The values that an annotated number may take: ``Annotated[float, Range(at_least=0, below=1)]``."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Whether ``value`` is inside; never for nan and infinity."""
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        words = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        return " and ".join(f"{word} {bound:,.12g}" for word, bound in words.items() if bound is not None)


MOST = 2**63  # Integers from here on do not fit into a tensor.

NonNegativeInt: TypeAlias = Annotated[int, Range(at_least=0)]
PositiveInt: TypeAlias = Annotated[int, Range(at_least=1)]
NonNegativeFloat: TypeAlias = Annotated[float, Range(at_least=0)]
PositiveFloat: TypeAlias = Annotated[float, Range(above=0)]
Fraction: TypeAlias = Annotated[float, Range(above=0, at_most=1)]
UnitFloat: TypeAlias = Annotated[float, Range(at_least=0, below=1)]

# These have upper bounds against typos that would exhaust the machine.
RepeatCount: TypeAlias = Annotated[int, Range(at_least=1, at_most=1000)]  # Layers, or updates within a step.
RepeatCountOrZero: TypeAlias = Annotated[int, Range(at_least=0, at_most=1000)]
Side: TypeAlias = Annotated[int, Range(at_least=1, at_most=65536)]  # Of an image, in pixels.
BatchSize: TypeAlias = Annotated[int, Range(at_least=1, at_most=1_000_000)]
ProcessCount: TypeAlias = Annotated[int, Range(at_least=0, at_most=1000)]


def construct(
    target: Callable[..., T], config: Mapping[str, Any], *, key: str, also: Iterable[str] = (), **runtime: Any
) -> T:
    """Call ``target`` with the keys of ``config``, checked against its signature.

    Args:
        target: A class or function whose keyword arguments are the schema.
        config: Plain values.
        key: Path of ``config`` in the configuration, for messages; empty at the top level.
        also: Keys at the same place that are read elsewhere, to be suggested for a mistyped one.
        runtime: Arguments that are not configuration; ``target`` must take all of them.
    """
    parameters, hints = _signature(target)
    schema = {name: p for name, p in parameters.items() if name not in runtime}
    prefix = f"{key}." if key else ""
    for name, value in config.items():
        if name in runtime:
            raise ConfigError(f"{prefix}{name} is set by gantrain itself and can't be configured")
        if name not in schema:
            raise ConfigError(f"{prefix}{name}={value}: unknown key; {nearest(str(name), [*schema, *also])}")
    missing = [name for name, p in schema.items() if p.default is p.empty and name not in config]
    if missing:
        raise ConfigError(f"{prefix}{missing[0]} is missing (needed by {target.__name__})")
    values = {name: checked(value, hints.get(name, Any), f"{prefix}{name}") for name, value in config.items()}
    return target(**values, **runtime)


def takes(target: Callable[..., Any], parameter: str) -> bool:
    """Whether the constructor of ``target`` has a parameter of that name."""
    return parameter in _signature(target)[0]


@cache
def _signature(target: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """The named parameters and their types; ``**others`` in a constructor means its parent's parameters."""
    constructors = [target]
    if inspect.isclass(target):
        constructors = [vars(base)["__init__"] for base in target.__mro__ if "__init__" in vars(base)]
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    for constructor in constructors:
        own = inspect.signature(constructor).parameters
        named = {name: p for name, p in own.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        parameters = named | parameters
        own_hints = typing.get_type_hints(constructor, include_extras=True)
        hints = {name: own_hints[name] for name in named if name in own_hints} | hints  # Not that of ``**init: Any``.
        if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
            break
    parameters.pop("self", None)
    return parameters, hints


# ---- values


def checked(value: Any, annotation: Any, key: str) -> Any:
    """``value`` converted to the annotated type, or a ``ConfigError`` that names ``key``.

    An integral float (``1e3``) is accepted for an int and an int for a float; nothing else is converted.
    """
    try:
        return _converted(value, annotation)
    except _MisfitError:
        raise ConfigError(f"{key}: expected {describe(annotation)}, got {value!r}") from None


class _MisfitError(Exception):
    """A value does not fit its annotation."""


def _converted(value: Any, annotation: Any) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin in (Union, types.UnionType):
        for alternative in arguments:
            with suppress(_MisfitError):
                return _converted(value, alternative)
    elif origin is Annotated:
        inner, bounds = arguments
        converted = _converted(value, inner)
        if bounds.holds(converted):
            return converted
    elif origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):  # True equals 1 in Python.
            return value
    elif origin in (list, tuple):
        return _converted_items(value, origin, arguments)
    elif origin is dict and isinstance(value, dict):
        return {_converted(name, arguments[0]): _converted(inside, arguments[1]) for name, inside in value.items()}
    elif annotation in (int, float):
        return _converted_number(value, annotation)
    elif inspect.isclass(origin or annotation) and isinstance(value, origin or annotation):
        return value
    raise _MisfitError


def _converted_items(value: Any, kind: type, annotations: tuple[Any, ...]) -> Any:
    if not isinstance(value, list):
        raise _MisfitError
    each = annotations * len(value) if kind is list else annotations
    if len(value) != len(each):
        raise _MisfitError
    return kind(map(_converted, value, each))


def _converted_number(value: Any, kind: type[int] | type[float]) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if kind is float:
            return float(value)
        if value == value // 1 and -MOST <= value < MOST:
            return int(value)
    raise _MisfitError


def describe(annotation: Any) -> str:
    """An annotation in a user's words: ``one of 'adam', 'sgd'``, ``a whole number or null``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(map(describe, arguments))
    if origin is Literal:
        choices = ", ".join(map(repr, arguments))
        return f"one of {choices}" if len(arguments) > 1 else choices
    if origin is Annotated:
        return f"{describe(arguments[0])} {arguments[1]}".rstrip()
    if origin is tuple:
        return f"a list of {len(arguments)} ({describe(arguments[0])} each)"
    if origin is dict:
        return "a group of keys"
    if origin is list:
        return f"a list ({describe(arguments[0])} each)"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))
