"""Suggestions for mistyped words."""

from __future__ import annotations

from gantrain.errors import nearest


def test_the_nearest_word_is_suggested_if_there_is_one() -> None:
    assert nearest("adm", ["sgd", "adam"]) == "did you mean 'adam'?"
    assert nearest("xyz", ["sgd", "adam"]) == "there are: adam, sgd"
    assert nearest("xyz", []) == "there are none"
