"""``gantrain data``: its commands, and the errors for invalid arguments."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Annotated, Literal

import pytest

from gantrain.cli import data as data_commands
from gantrain.cli.data import COMMANDS, Command
from gantrain.cli.main import main
from gantrain.config.schema import Range


@pytest.fixture
def paint(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A command ``paint``, and the list of its calls."""
    calls: list[object] = []

    def run(
        wall: str,
        colour: str,
        *,
        coats: Annotated[int, Range(at_least=1)] = 2,
        tool: Literal["brush", "roller"] = "brush",
        ladder: bool = False,
    ) -> int | None:
        if wall == "wet":
            raise KeyboardInterrupt
        calls.append((wall, colour, coats, tool, ladder))
        return 3 if wall == "crooked" else None

    takes = "WALL COLOUR [coats=2]"
    monkeypatch.setitem(COMMANDS, "paint", Command(run, takes, "Paints a wall", interrupted="paint again"))
    return calls


def test_the_commands_are_listed_each_in_two_lines(capsys) -> None:
    for arguments in ([], ["-h"], ["--help"]):
        assert main(["data", *arguments]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[::2] == [f"gantrain data {name} {command.takes}" for name, command in COMMANDS.items()]
        assert lines[1::2] == [f"    {command.summary}" for command in COMMANDS.values()]
        assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str, capsys) -> None:
    assert main(["data", name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"gantrain data {name} {COMMANDS[name].takes}\n\n")
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (["north", "red"], ("north", "red", 2, "brush", False)),
        (["north", "red", "coats=3", "tool=roller", "ladder=true"], ("north", "red", 3, "roller", True)),
        (["coats=1", "north", "red"], ("north", "red", 1, "brush", False)),
        (["wall=1", "red"], ("1", "red", 2, "brush", False)),  # Text remains text.
        (["./a=b", "colour=dark=red"], ("./a=b", "dark=red", 2, "brush", False)),
    ],
)
def test_arguments_are_checked_against_the_signature(
    paint: list[object], words: list[str], call: tuple[object, ...]
) -> None:
    assert main(["data", "paint", *words]) == 0
    assert paint == [call]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ([], "expected: gantrain data paint WALL COLOUR [coats=2]; see gantrain data paint --help"),
        (["north"], "expected: gantrain data paint WALL COLOUR"),
        (["north", "red", "blue"], "expected: gantrain data paint WALL COLOUR"),
        (["north", "red", "coat=3"], "coat=3: unknown key; did you mean 'coats'?"),
        (["north", "red", "coats=0"], "coats: expected a whole number at least 1, got 0"),
        (["north", "red", "coats=many"], "coats: expected a whole number at least 1, got 'many'"),
        (["north", "red", "tool=spoon"], "tool: expected one of 'brush', 'roller', got 'spoon'"),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(paint, words: list[str], answer: str, capsys) -> None:
    assert main(["data", "paint", *words]) == 2
    err = capsys.readouterr().err
    assert answer in err
    assert err.count("\n") == 1
    assert paint == []


def test_the_exit_status_is_that_of_the_command(paint) -> None:
    assert main(["data", "paint", "crooked", "red"]) == 3


def test_an_interruption_is_reported_with_the_way_to_resume(paint, capsys) -> None:
    assert main(["data", "paint", "wet", "red"]) == 130
    assert capsys.readouterr().err == "gantrain: interrupted; paint again\n"


def test_a_command_may_take_unparsed_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def run(*words: str) -> None:
        seen.extend(words)

    monkeypatch.setitem(COMMANDS, "raw", Command(run, "...", "Takes all", interrupted="no"))
    assert main(["data", "raw", "data=single", "data.root=x", "plain"]) == 0
    assert seen == ["data=single", "data.root=x", "plain"]


def test_an_unknown_command_is_refused_with_the_nearest_one(capsys) -> None:
    assert main(["data", "downlod"]) == 2
    assert re.search("'data downlod'.* did you mean 'download'", capsys.readouterr().err)


def test_the_list_of_commands_does_not_import_torch() -> None:
    script = "import sys; from gantrain.cli.main import main; main(['data']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert data_commands.main([]) == 0
