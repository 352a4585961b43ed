"""What is printed contains no commands to the terminal, in any encoding, and ends silently with its reader."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from gantrain.runtime import console

HOSTILE = ["\x1b[31m", "\r", "\n", "\x07", "\x9b2J", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\udcff", "\x00"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_lines_and_labels_show_escapes_for_commands_to_the_terminal(text: str, capsys) -> None:
    console.out(f"a{text}b")
    console.err(f"a{text}b")
    console.above_bars(f"a{text}b")
    with console.bar(f"a{text}b", total=1, ncols=60):
        pass
    shown = capsys.readouterr()
    assert text not in shown.out.removesuffix("\n")
    assert shown.out.startswith("a\\")
    assert shown.err.count("a\\") >= 3
    assert text in "\r\n" or text not in shown.err


@pytest.mark.parametrize("text", ["Übung", "эмодзи", "名前", "😀", "e\u0301", "a  b", "a\\b"])
def test_plain_text_is_unchanged(text: str, capsys) -> None:
    console.out(text)
    with console.escaped_stdout():
        print(text, "-", text)
    assert capsys.readouterr().out == f"{text}\n{text} - {text}\n"


def test_what_libraries_print_passes_too(capsys) -> None:
    with console.escaped_stdout():
        print("a\u202eb\nc", end="")
        print()
    assert capsys.readouterr().out == "a\\u202eb\nc\n"


def test_letters_that_the_encoding_lacks_are_escaped(monkeypatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    console.out("é名")
    assert stream.buffer.getvalue() == b"\\xe9\\u540d\n"


def test_nothing_else_in_the_package_prints() -> None:
    package = Path(console.__file__).parent.parent
    own = {Path(console.__file__)}
    words = ("print(", "tqdm(", "tqdm.write(", "print_exc(", "sys.stdout.write(", "sys.stderr.write(")
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in set(package.rglob("*.py")) - own
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if any(line.lstrip().startswith(word) or f" {word}" in line for word in words)
    ]
    assert not found, "\n".join(found)
