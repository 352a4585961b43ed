"""Keys of constructors and types of values are checked."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pytest
from constructors import Child, Parent

from gantrain.config.schema import NonNegativeFloat, NonNegativeInt, PositiveInt, Range, UnitFloat, checked, construct
from gantrain.errors import ConfigError


class Stranger(Parent):
    """Its constructor does not accept the keys of its parent."""

    def __init__(self, *, depth: int) -> None:
        super().__init__(spec="", width=depth, rate=0.0)


class Grandchild(Child):
    def __init__(self, *, width: bool, **others: Any) -> None:
        super().__init__(width=int(width), **others)


def test_only_constructors_with_others_inherit_keys() -> None:
    assert construct(Stranger, {"depth": 4}, key="model").width == 4
    with pytest.raises(ConfigError, match=re.escape("model.rate=1.0: unknown key; there are: depth")):
        construct(Stranger, {"depth": 4, "rate": 1.0}, key="model")


def test_an_inherited_key_may_have_another_type() -> None:
    made = construct(Grandchild, {"width": True, "depth": 2, "rate": 1}, key="model", spec="s")
    assert (made.width, made.depth, made.rate) == (1, 2, 1.0)
    with pytest.raises(ConfigError, match=re.escape("model.width: expected true or false, got 3")):
        construct(Grandchild, {"width": 3, "depth": 2, "rate": 1}, key="model", spec="s")


def test_a_key_at_the_top_has_no_prefix() -> None:
    with pytest.raises(ConfigError, match="^deep=4: unknown key; did you mean 'depth'?"):
        construct(Stranger, {"deep": 4}, key="")


HALF_OPEN = Range(above=0, at_most=1)
BETAS = "a list of 2 (a number at least 0 and below 1 each)"


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, int, 3),
        (1e3, int, 1000),
        (-2.0, int, -2),
        (3, float, 3.0),
        (2e-4, float, 2e-4),
        (True, bool, True),
        ("a", str, "a"),
        (None, int | None, None),
        (4.0, int | None, 4),
        (None, float | None, None),
        ("auto", int | Literal["auto"], "auto"),
        (2, int | Literal["auto"], 2),
        ("min", Literal["min", "max"], "min"),
        (3, Literal[1, 3], 3),
        ([1, 0.5], list[float], [1.0, 0.5]),
        ([], list[float], []),
        ([2.0], list[int], [2]),
        ([[1], [2, 3]], list[list[int]], [[1], [2, 3]]),
        ({"a": 1}, dict[str, int], {"a": 1}),
        (0, NonNegativeInt, 0),
        (1.0, PositiveInt, 1),
        (0, NonNegativeFloat, 0.0),
        (None, PositiveInt | None, None),
        (2.0, PositiveInt | None, 2),
        (1, Annotated[float, HALF_OPEN], 1.0),
        (0.001, Annotated[float, HALF_OPEN], 0.001),
        ([0.5, 1], list[Annotated[float, HALF_OPEN]], [0.5, 1.0]),
        ([0, 0.5], tuple[UnitFloat, UnitFloat], (0.0, 0.5)),
        (None, tuple[UnitFloat, UnitFloat] | None, None),
        ("anything", Any, "anything"),
    ],
)
def test_a_valid_value_is_converted_to_the_annotated_type(value: Any, annotation: Any, expected: Any) -> None:
    result = checked(value, annotation, "key")
    assert result == expected
    assert type(result) is type(expected)
    if isinstance(expected, (list, tuple)):
        assert [type(item) for item in result] == [type(item) for item in expected]


@pytest.mark.parametrize(
    ("value", "annotation", "text"),
    [
        (0.5, int, "expected a whole number, got 0.5"),
        (float("nan"), int, "expected a whole number, got nan"),
        (float("inf"), int, "expected a whole number, got inf"),
        (True, int, "expected a whole number, got True"),
        ("3", int, "expected a whole number, got '3'"),
        (None, int, "expected a whole number, got None"),
        (False, float, "expected a number, got False"),
        ("2e-4", float, "expected a number, got '2e-4'"),
        (1, bool, "expected true or false, got 1"),
        ("true", bool, "expected true or false, got 'true'"),
        (3, str, "expected text, got 3"),
        ("x", int | None, "expected a whole number or null, got 'x'"),
        ("x", int | Literal["auto"], "expected a whole number or 'auto', got 'x'"),
        ("mean", Literal["min", "max"], "expected one of 'min', 'max', got 'mean'"),
        (2, Literal[1, 3], "expected one of 1, 3, got 2"),
        (3.0, Literal[1, 3], "expected one of 1, 3, got 3.0"),
        (True, Literal[1, 3], "expected one of 1, 3, got True"),
        (0.5, list[float], "expected a list (a number each), got 0.5"),
        ([0.5, "x"], list[float], "expected a list (a number each), got [0.5, 'x']"),
        ([0.5], list[int], "expected a list (a whole number each), got [0.5]"),
        ([1, 2], dict[str, int], "expected a group of keys, got [1, 2]"),
        (-1, NonNegativeInt, "expected a whole number at least 0, got -1"),
        (0, PositiveInt, "expected a whole number at least 1, got 0"),
        (1.5, PositiveInt, "expected a whole number at least 1, got 1.5"),
        ("x", PositiveInt, "expected a whole number at least 1, got 'x'"),
        (True, PositiveInt, "expected a whole number at least 1, got True"),
        (-0.1, NonNegativeFloat, "expected a number at least 0, got -0.1"),
        (float("nan"), NonNegativeFloat, "expected a number at least 0, got nan"),
        (1, UnitFloat, "expected a number at least 0 and below 1, got 1"),
        (0, Annotated[float, HALF_OPEN], "expected a number above 0 and at most 1, got 0"),
        (1.001, Annotated[float, HALF_OPEN], "expected a number above 0 and at most 1, got 1.001"),
        (0, PositiveInt | None, "expected a whole number at least 1 or null, got 0"),
        (0, PositiveInt | Literal["auto"], "expected a whole number at least 1 or 'auto', got 0"),
        ([1, 0], list[PositiveInt], "expected a list (a whole number at least 1 each), got [1, 0]"),
        ([0.5], tuple[UnitFloat, UnitFloat], f"expected {BETAS}, got [0.5]"),
        ([0.5] * 3, tuple[UnitFloat, UnitFloat], f"expected {BETAS}, got [0.5, 0.5, 0.5]"),
        ([0.5, 1.5], tuple[UnitFloat, UnitFloat], f"expected {BETAS}, got [0.5, 1.5]"),
        ([0.5, "x"], tuple[UnitFloat, UnitFloat], f"expected {BETAS}, got [0.5, 'x']"),
        (0.5, tuple[UnitFloat, UnitFloat] | None, f"expected {BETAS} or null, got 0.5"),
    ],
)
def test_an_invalid_value_is_refused(value: Any, annotation: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^group.key: {re.escape(text)}$"):
        checked(value, annotation, "group.key")


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "text"),
    [
        (Range(), [-1e9, 0], [float("inf"), float("-inf")], ""),
        (Range(at_least=2), [2, 3], [1.99], "at least 2"),
        (Range(above=2), [2.01], [2, 1], "above 2"),
        (Range(at_most=0.5), [0.5, -9], [0.51], "at most 0.5"),
        (Range(below=0.5), [0.49], [0.5, 9], "below 0.5"),
        (Range(at_least=-1, below=1), [-1, 0], [-2, 1], "at least -1 and below 1"),
    ],
    ids=str,
)
def test_a_range_contains_the_values_that_its_text_describes(
    bounds: Range, inside: list[float], outside: list[float], text: str
) -> None:
    assert str(bounds) == text
    assert all(bounds.holds(value) for value in inside)
    assert not any(bounds.holds(value) for value in [*outside, float("nan")])
