"""Commands with other overrides, for a shell."""

from __future__ import annotations

import shlex

import pytest

from gantrain.cli.quoting import quoted
from gantrain.config.overrides import command_line


@pytest.mark.parametrize("path", ["~/images", "my images", "images (2)", "1e3", "images", "a,b", "it's", "5\\"])
def test_a_printed_command_has_paths_as_they_were_typed(path: str) -> None:
    word = quoted(f"data.root={path}", sweeps=False)
    name, *words, last = shlex.split(command_line("train", [word, "seed=1", "trainer.steps=5"], "seed=2"))[1:]
    assert (name, words[1:], last) == ("train", ["trainer.steps=5"], "seed=2")
    assert quoted(words[0], sweeps=False) == word
    assert words[0] == (word if set(path) & set(",'\\") else f"data.root={path}")


@pytest.mark.parametrize("word", ["data.root='null'", "data.root='[a]'"])
def test_a_printed_command_has_quotes_that_its_meaning_needs(word: str) -> None:
    assert shlex.split(command_line("train", [word]))[-1] == word
