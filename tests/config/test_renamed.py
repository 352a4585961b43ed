"""Old names keep working, with a warning that gives the new one."""

from __future__ import annotations

import importlib

import pytest

from gantrain.config.renamed import RenamedMethod, rename_overrides

OLD = [
    ("gantrain.networks.common", "uses_bias", "needs_bias"),
    ("gantrain.networks.common", "bias_before", "reference_bias"),
    ("gantrain.networks.common", "finish", "init_weights"),
    ("gantrain.data.base", "to_unit_range", "to_signed_range"),
    ("gantrain.registry", "Positive", "PositiveInt"),
]


@pytest.mark.parametrize(("module", "old", "new"), OLD)
def test_an_old_name_is_the_new_one(module: str, old: str, new: str) -> None:
    imported = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=rf"{old} is now .*\.{new}$"):
        found = getattr(imported, old)
    assert found is getattr(imported, new, found)


@pytest.mark.parametrize("module", sorted({module for module, *_ in OLD}))
def test_an_unknown_name_is_an_attribute_error(module: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        _ = importlib.import_module(module).nothing


class Base:
    old = RenamedMethod("new")

    def __init_subclass__(cls) -> None:
        rename_overrides(cls)

    def new(self) -> str:
        return "base"


def test_the_old_name_of_a_method_calls_the_new_one_even_if_overridden() -> None:
    class Modern(Base):
        def new(self) -> str:
            return "modern"

    with pytest.warns(DeprecationWarning, match="old is now new"):
        assert Modern().old() == "modern"


def test_an_override_under_the_old_name_is_called_by_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match="Legacy.old is now new"):

        class Legacy(Base):
            def old(self) -> str:
                return f"legacy {super().old()}"

    with pytest.warns(DeprecationWarning, match="old is now new"):
        assert Legacy().new() == "legacy base"
    with pytest.warns(DeprecationWarning, match="Grandchild.old is now new"):

        class Grandchild(Legacy):
            def old(self) -> str:
                return "grandchild"

    assert Grandchild().new() == "grandchild"
