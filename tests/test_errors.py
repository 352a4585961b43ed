"""Suggestions for mistyped words, and lists in messages."""

from __future__ import annotations

import re

import pytest

from gantrain.errors import listed, nearest


def test_the_nearest_word_is_suggested_if_there_is_one() -> None:
    assert nearest("adm", ["sgd", "adam"]) == "did you mean 'adam'?"
    assert nearest("xyz", ["sgd", "adam"]) == "there are: adam, sgd"
    assert nearest("lambda_A", ["lambda_a", "lambda_b"]) == "did you mean 'lambda_a'?"
    assert nearest("DCGAN", ["dcgan", "gan"]) == "did you mean 'dcgan'?"
    assert nearest("xyz", []) == "there are none"


@pytest.mark.parametrize("count", [0, 1, 5, 1000])
def test_lists_are_cut_to_a_few_lines_and_count_the_rest(count: int) -> None:
    words = [f"run_{number}" for number in range(count)]
    text = listed(words)
    assert len(text) < 450
    shown = [word for word in text.replace(", and ", ", ").split(", ") if word.startswith("run_")]
    assert shown == words[: len(shown)]
    more = re.search(", and ([0-9]+) more$", text)
    assert len(shown) + int(more[1] if more else 0) == count
