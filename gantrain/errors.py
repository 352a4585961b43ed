"""The error that a user can correct, and suggestions for mistyped words."""

from __future__ import annotations

import difflib
from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import accumulate


class ConfigError(Exception):
    """A mistake that the user can correct: one line that names the key, its value and what would work.

    Its arguments are that line, and further lines only for commands to be copied. Unprintable characters, such as line
    breaks and terminal commands in a value, are shown as escapes; the middle of a very long line is left out.
    """

    def __str__(self) -> str:
        return "\n".join(_cut(printable(line)) for line in self.args)


LONGEST_LINE = 2000  # Characters of a message.
LONGEST_LIST = 400  # Characters of the choices or names in it.


def printable(line: str) -> str:
    """The line with escapes for control, bidirectional and other format characters, and for undecodable bytes.

    In a name of a file they could send commands to the terminal, or show it as another name.
    """
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)


def _cut(line: str) -> str:
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} [...] {line[-half:]}"


LONGEST_REASON = 300  # Characters of the text of a library.


def reason_of(error: BaseException) -> str:
    """The first line of a library's error, cut; its type if it has no text."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]} [...]"


def nearest(word: str, choices: Iterable[str]) -> str:
    """A suggestion for a mistyped word: the closest choice, or else the list of all."""
    choices = sorted(set(choices) - {word})
    same = [choice for choice in choices if choice.lower() == word.lower()]
    close = same or difflib.get_close_matches(word, choices, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"there are: {listed(choices)}" if choices else "there are none"


def listed(words: Sequence[str]) -> str:
    """The words in a line, as many as fit into ``LONGEST_LIST`` characters, and the number of the others."""
    count = bisect(list(accumulate(len(word) + 2 for word in words)), LONGEST_LIST)
    more = f", and {len(words) - count} more" if count < len(words) else ""
    return ", ".join(words[:count]) + more
