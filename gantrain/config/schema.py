"""Constructors as schemas: keys and values of a configuration, checked against a signature."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, TypeVar

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
        """Whether ``value`` lies inside; nan and infinity never do."""
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


MOST = 2**63  # torch's numbers end before it


NonNegativeInt: TypeAlias = Annotated[int, Range(at_least=0)]


PositiveInt: TypeAlias = Annotated[int, Range(at_least=1)]


NonNegativeFloat: TypeAlias = Annotated[float, Range(at_least=0)]


Fraction: TypeAlias = Annotated[float, Range(above=0, at_most=1)]


UnitFloat: TypeAlias = Annotated[float, Range(at_least=0, below=1)]


# of what a slip of the finger must not multiply until the machine stands still
RepeatCount: TypeAlias = Annotated[int, Range(at_least=1, at_most=1000)]  # layers, or updates within a step


RepeatCountOrZero: TypeAlias = Annotated[int, Range(at_least=0, at_most=1000)]


Side: TypeAlias = Annotated[int, Range(at_least=1, at_most=65536)]  # of an image, in pixels


BatchSize: TypeAlias = Annotated[int, Range(at_least=1, at_most=1_000_000)]


ProcessCount: TypeAlias = Annotated[int, Range(at_least=0, at_most=1000)]


def construct(
    target: Callable[..., T], config: Mapping[str, Any], *, key: str, also: Iterable[str] = (), **runtime: Any
) -> T:
    """Call ``target`` with the keys of ``config``, checked against its signature.

    Args:
        target: A class or function whose keyword arguments are the schema.
        config: Plain values.
        key: Where ``config`` stands in the whole configuration, for messages; may be empty.
        also: Keys that stand beside it and are read by somebody else, for suggestions.
        runtime: Arguments that are not configuration; those that ``target`` does not take are left out.

    Raises:
        ConfigError: A key is unknown, missing or of the wrong type.
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
    return target(**values, **{name: value for name, value in runtime.items() if name in parameters})


def takes(target: Callable[..., Any], parameter: str) -> bool:
    """Whether the constructor of ``target`` has a parameter of that name."""
    return parameter in _signature(target)[0]


def _signature(target: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """The named parameters and their types; ``**others`` in a constructor stands for its parent's parameters."""
    constructors = [target]
    if inspect.isclass(target):
        constructors = [vars(base)["__init__"] for base in target.__mro__ if "__init__" in vars(base)]
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    for constructor in constructors:
        own = inspect.signature(constructor).parameters
        named = {name: p for name, p in own.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        parameters = named | parameters
        hints = typing.get_type_hints(constructor, include_extras=True) | hints
        if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
            break
    parameters.pop("self", None)
    return parameters, hints


def checked(value: Any, annotation: Any, key: str) -> Any:
    """``value`` as the annotated type, or a ConfigError that names ``key``.

    A whole number passes for a float, and a float without a fraction (``1e3``) for an int; nothing else is converted.
    """
    for accepted, converted in _candidates(value, annotation):
        if accepted:
            return converted
    raise ConfigError(f"{key}: expected {_describe(annotation)}, got {value!r}")


def _candidates(value: Any, annotation: Any) -> Iterator[tuple[bool, Any]]:
    """For each alternative of the annotation: does the value fit, and what does it become."""
    origin = typing.get_origin(annotation)
    if annotation is Any:
        yield True, value
    elif origin in (typing.Union, types.UnionType):
        for alternative in typing.get_args(annotation):
            yield from _candidates(value, alternative)
    elif origin is typing.Literal:
        # true equals 1 in Python
        yield any(value == choice and type(value) is type(choice) for choice in typing.get_args(annotation)), value
    elif origin is Annotated:
        inner, bounds = typing.get_args(annotation)
        for fits, converted in _candidates(value, inner):
            yield fits and bounds.holds(converted), converted
    elif origin is tuple:
        inners = typing.get_args(annotation)
        if isinstance(value, list) and len(value) == len(inners):
            items = [
                next((new for fits, new in _candidates(item, inner) if fits), _MISFIT)
                for item, inner in zip(value, inners, strict=True)
            ]
            yield _MISFIT not in items, tuple(items)
    elif origin is list:
        (inner,) = typing.get_args(annotation)
        if isinstance(value, list):
            items = [next((new for fits, new in _candidates(item, inner) if fits), _MISFIT) for item in value]
            yield _MISFIT not in items, items
    elif annotation in (None, type(None)):
        yield value is None, None
    elif annotation is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        yield number, float(value) if number else None
    elif annotation is int:
        whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1
        whole = whole and -MOST <= value < MOST
        yield whole, int(value) if whole else None
    elif inspect.isclass(origin or annotation):
        yield isinstance(value, origin or annotation), value


_MISFIT = object()


def _describe(annotation: Any) -> str:
    """An annotation in a user's words: ``one of 'adam', 'sgd'``, ``a whole number or null``."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(alternative) for alternative in typing.get_args(annotation))
    if origin is typing.Literal:
        choices = ", ".join(repr(choice) for choice in typing.get_args(annotation))
        return f"one of {choices}" if len(typing.get_args(annotation)) > 1 else choices
    if origin is Annotated:
        inner, bounds = typing.get_args(annotation)
        return f"{_describe(inner)} {bounds}"
    if origin is tuple:
        return f"a list of {len(typing.get_args(annotation))} ({_describe(typing.get_args(annotation)[0])} each)"
    if origin is dict:
        return "a group of keys"
    if origin is list:
        return f"a list ({_describe(typing.get_args(annotation)[0])} each)"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))
