"""Classes by name: valid configurations, and required arguments of classes."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from typing import Any

import pytest
from conftest import assert_mentions
from constructors import Child, Parent

import gantrain.registry
import gantrain.training.build
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS, DISCRIMINATORS, GENERATORS, LOGGERS, MODELS, OPTIMIZERS, REGISTRIES, Registry


class Keyless:
    pass


def registry() -> Registry[Any]:
    made: Registry[Any] = Registry("model", "model")
    for name, cls in {"child": Child, "parent": Parent, "keyless": Keyless}.items():
        made.register(name)(cls)
    return made


GOOD = {"name": "child", "depth": 2, "width": 3, "rate": 0.5}


def refusal(config: dict[str, Any], **runtime: Any) -> str:
    with pytest.raises(ConfigError) as error:
        registry().build(config, **runtime)
    return str(error.value)


def test_a_class_is_built_from_its_keys_and_its_parents() -> None:
    made = registry().build(GOOD, spec="images")
    assert type(made) is Child
    assert (made.depth, made.width, made.rate, made.spec) == (2, 3, 0.5, "images")


def test_building_does_not_change_the_configuration() -> None:
    config = dict(GOOD)
    registry().build(config, spec="images")
    assert config == GOOD


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    assert_mentions(refusal(GOOD | {"widht": 3}, spec=""), "model.widht=3", "unknown", "'width'")


def test_an_unknown_key_without_a_near_one_is_refused_with_the_list() -> None:
    assert_mentions(refusal(GOOD | {"zzz": 3}, spec=""), "model.zzz=3", "unknown", "depth, name, rate, width")


def test_an_unknown_key_of_a_class_without_any_is_refused() -> None:
    assert_mentions(refusal({"name": "keyless", "width": 1}), "model.width=1", "unknown", "there are: name")


def test_a_key_of_the_wrong_type_is_refused() -> None:
    assert_mentions(refusal(GOOD | {"width": "3"}, spec=""), "model.width", "whole number", "'3'")


def test_a_missing_key_is_reported_with_the_class_that_needs_it() -> None:
    config = {key: value for key, value in GOOD.items() if key != "rate"}
    assert_mentions(refusal(config, spec=""), "model.rate", "missing", "Child")


def test_a_key_that_gantrain_sets_cannot_be_configured() -> None:
    assert_mentions(refusal(GOOD | {"spec": "mine"}, spec=""), "model.spec", "set by gantrain")


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    assert_mentions(refusal(GOOD | {"name": "chlid"}, spec=""), "model.name=chlid", "no such model", "'child'")


def test_an_unknown_name_without_a_near_one_is_refused_with_the_list() -> None:
    assert_mentions(refusal({"name": "xyz"}), "model.name=xyz", "no such model", "child, keyless, parent")


def test_a_missing_name_is_refused_with_the_list() -> None:
    assert_mentions(refusal({"width": 3}), "model.name", "missing", "child, keyless, parent")


@pytest.mark.parametrize("name", [None, 3, ["child"], {"child": 1}])
def test_a_name_that_is_not_a_string_is_refused_like_any_other(name: Any) -> None:
    assert_mentions(refusal({"name": name}), f"model.name={name}: no such model", "child")


def test_a_key_that_is_not_a_string_is_refused_like_any_other() -> None:
    assert_mentions(refusal(GOOD | {5: 3}, spec=""), "model.5=3", "unknown", "depth, name, rate, width")


def test_keys_of_others_are_suggested_but_not_accepted() -> None:
    with pytest.raises(ConfigError, match=re.escape("model.batch_siz=3: unknown key; did you mean 'batch_size'?")):
        registry().build(GOOD | {"batch_siz": 3}, also=["batch_size"], spec="")
    with pytest.raises(ConfigError, match=re.escape("model.batch_size=3: unknown key")):
        registry().build(GOOD | {"batch_size": 3}, also=["batch_size"], spec="")


def test_data_sets_are_chosen_by_mode() -> None:
    made: Registry[Any] = Registry("data mode", "data", choose_by="mode")
    made.register("plain")(Keyless)
    assert type(made.build({"mode": "plain"})) is Keyless
    with pytest.raises(ConfigError, match=re.escape("data.mode=plian: no such data mode; did you mean 'plain'?")):
        made.build({"mode": "plian"})


def test_a_name_can_be_registered_only_once() -> None:
    made = registry()
    with pytest.raises(ConfigError, match=f"the model 'child' is registered twice .*{Child.__module__}"):
        made.register("child")(Parent)
    assert made["child"] is Child


def test_names_are_listed_in_order() -> None:
    assert list(registry()) == ["child", "keyless", "parent"]


# ---- runtime arguments

NETWORK = {"name": "plain", "width": 3}


class Plain:
    def __init__(self, *, width: int, shape: str) -> None:
        self.width = width


class Conditional:
    def __init__(self, *, width: int, shape: str, num_classes: int) -> None:
        self.num_classes = num_classes


class Unfinished(ABC):
    @abstractmethod
    def train_step(self) -> None: ...


def networks(**allowed: Any) -> Registry[Any]:
    made: Registry[Any] = Registry("generator", "network.generator", **allowed)
    for name, cls in {"plain": Plain, "conditional": Conditional, "unfinished": Unfinished}.items():
        made.register(name)(cls)
    return made


def test_a_class_without_a_required_runtime_argument_is_refused_by_name() -> None:
    with pytest.raises(ConfigError) as error:
        networks().build(NETWORK, needed_by="model=cgan", shape="", num_classes=0)
    text = "network/generator=plain: model=cgan needs a generator that takes num_classes"
    assert str(error.value).startswith(text)
    assert str(error.value).endswith("; these do: conditional")


def test_a_neutral_value_is_required_of_no_class_and_is_the_default() -> None:
    registry = networks(neutral={"num_classes": 0})
    assert type(registry.build(NETWORK, shape="", num_classes=0)) is Plain
    assert registry.build({**NETWORK, "name": "conditional"}, shape="").num_classes == 0
    assert registry.build({**NETWORK, "name": "conditional"}, shape="", num_classes=7).num_classes == 7
    with pytest.raises(ConfigError, match=r"network/generator=plain: .* num_classes .*; these do: conditional$"):
        registry.build(NETWORK, shape="", num_classes=7)


def test_an_optional_argument_is_required_of_no_class() -> None:
    registry = networks(optional={"num_classes"})
    assert type(registry.build(NETWORK, shape="", num_classes=7)) is Plain
    assert registry.build({**NETWORK, "name": "conditional"}, shape="", num_classes=7).num_classes == 7


def test_a_runtime_argument_is_not_a_key_even_if_it_is_neutral() -> None:
    registry = networks(neutral={"num_classes": 0})
    with pytest.raises(ConfigError, match="num_classes is set by gantrain itself"):
        registry.build({"name": "conditional", "width": 1, "num_classes": 3}, shape="")
    with pytest.raises(ConfigError, match="num_classes=3: unknown key"):
        registry.build({**NETWORK, "num_classes": 3}, shape="")


def test_a_class_with_abstract_methods_is_refused_with_their_names() -> None:
    with pytest.raises(ConfigError, match="^network/generator=unfinished: Unfinished has to define train_step$"):
        networks().build({"name": "unfinished"})


RUNTIME: dict[str, tuple[Registry[Any], dict[str, Any], set[str]]] = {  # Those that a class need not take.
    "models": (MODELS, {"spec": 0, "make_generator": 0, "make_discriminator": 0}, set()),
    "generators": (GENERATORS, {"latent_dim": 3, "shape": 0, "num_classes": 3}, set()),
    "translating generators": (GENERATORS, {"input_shape": 0, "shape": 0, "num_classes": 0}, {"num_classes"}),
    "discriminators": (DISCRIMINATORS, {"shape": 0, "num_classes": 3, "num_outputs": 3}, set()),
    "plain discriminators": (
        DISCRIMINATORS,
        {"shape": 0, "num_classes": 0, "num_outputs": 1},
        {"num_classes", "num_outputs"},
    ),
    "data modes": (DATASETS, {"phase": "train"}, set()),
    "optimizers": (OPTIMIZERS, {"params": [], "fused": True}, {"fused"}),
    "loggers": (LOGGERS, {"run": "", "folder": ""}, {"run", "folder"}),
}


@pytest.mark.parametrize("kind", RUNTIME)
def test_every_registry_requires_its_runtime_arguments(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, runtime, spared = RUNTIME[kind]
    monkeypatch.setattr(registry, "_classes", {**registry._classes, "keyless": Keyless})
    if runtime.keys() == spared:
        assert type(registry.build({registry.choose_by: "keyless"}, **runtime)) is Keyless
        return
    with pytest.raises(ConfigError) as error:
        registry.build({registry.choose_by: "keyless"}, **runtime)
    message = str(error.value)
    assert "=keyless: " in message
    for argument in runtime:
        assert (argument in message) == (argument not in spared)
    assert "; these do: none" not in message


@pytest.mark.parametrize("name", ["Count", "Positive", "Weight", "Portion", "Share", "Repeats", "RepeatsOrNone"])
def test_old_names_of_types_still_exist(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"gantrain.registry.{name} is now gantrain.config.schema."):
        assert getattr(gantrain.registry, name) is not None


@pytest.mark.parametrize("name", ["ConfigError", "construct", "nearest", "takes"])
def test_names_that_plugins_import_still_exist(name: str) -> None:
    assert hasattr(gantrain.registry, name)


@pytest.mark.parametrize(
    ("name", "cls"), [(name, registry[name]) for registry in REGISTRIES for name in registry], ids=str
)
def test_no_registered_class_has_a_default_or_an_unannotated_key(name: str, cls: type) -> None:
    if "__init__" not in vars(cls):
        return
    keys = [p for p in inspect.signature(cls.__init__).parameters.values() if p.kind is not p.VAR_KEYWORD][1:]
    assert [p.name for p in keys if p.default is not p.empty or p.annotation is p.empty] == []
