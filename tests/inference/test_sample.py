"""Which classes ``gantrain test`` samples, by number or by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gantrain.errors import ConfigError
from gantrain.inference.sample import wanted_labels
from gantrain.models.base import LatentGAN


def model(*names: str) -> LatentGAN:
    spec = SimpleNamespace(class_names=names, num_classes=len(names))
    return cast(LatentGAN, SimpleNamespace(uses_labels=True, spec=spec))


def chosen(labels: Any, *names: str) -> list[int]:
    found = wanted_labels(model(*names), labels, 1)
    assert found is not None
    return found.tolist()


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        *[(None, [0, 1, 2]), ([2, 0], [2, 0]), (1, [1]), ("dog", [1]), (["dog", 0], [1, 0]), (["10"], [2])],
        *[("e\u0301t\u00e9", [0]), (["\u00e9te\u0301", "10"], [0, 2])],
    ],
)
def test_labels_are_numbers_or_names(labels: Any, numbers: list[int]) -> None:
    assert chosen(labels, "e\u0301te\u0301", "dog", "10") == numbers


@pytest.mark.parametrize(("label", "hint"), [("dogg", "did you mean 'dog'"), (2, "cat, dog"), ("2", "cat, dog")])
def test_an_unknown_label_is_named_with_the_classes(label: Any, hint: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"labels=\[{label}\]: expected class numbers from 0 to 1, or names; .*{hint}"
    ):
        chosen([0, label], "cat", "dog")


def test_a_number_that_is_also_the_name_of_another_class_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen([2], "1", "2", "3") == [2]
    assert "2 is the number of the class 3; '2' in quotation marks is a name" in capsys.readouterr().err
    assert chosen(["2"], "1", "2", "3") == [1]
    assert chosen([2], "0", "1", "2") == [2]
    assert capsys.readouterr().err == ""
