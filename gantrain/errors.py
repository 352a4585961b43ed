"""The error that a user can correct, and suggestions for mistyped words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(Exception):
    """A mistake that the user can correct: one line that names the key, its value and what would work.

    Its arguments are that line, and further lines only for commands to be copied. Unprintable characters, such as line
    breaks and terminal commands in a value, are shown as escapes; the middle of a very long line is left out.
    """

    def __str__(self) -> str:
        return "\n".join(map(_printable, self.args))


LONGEST_LINE = 2000  # Characters of a message.


def _printable(line: str) -> str:
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)
    half = LONGEST_LINE // 2
    return shown if len(shown) <= LONGEST_LINE else f"{shown[:half]} [...] {shown[-half:]}"


LONGEST_REASON = 300  # Characters of the text of a library.


def reason_of(error: BaseException) -> str:
    """The first line of a library's error, cut; its type if it has no text."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]} [...]"


def nearest(word: str, choices: Iterable[str]) -> str:
    """A suggestion for a mistyped word: the closest choice, or else the list of all."""
    choices = sorted(set(choices) - {word})
    close = difflib.get_close_matches(word, choices, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"there are: {', '.join(choices)}" if choices else "there are none"
