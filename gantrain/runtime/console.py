"""Everything that is printed: lines, and progress bars. Names in them can't send commands to the terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TextIO, cast

from gantrain.errors import printable

if TYPE_CHECKING:
    from tqdm import tqdm

CLOSED_PIPE = 128 + 13  # The exit status that a shell reports for a tool whose reader has gone (SIGPIPE is 13).


def out(*lines: str) -> None:
    """Print lines on stdout; a closed pipe ends the process silently."""
    _write(sys.stdout, *lines)


def err(*lines: str) -> None:
    """Print lines on stderr; a closed pipe ends the process silently."""
    _write(sys.stderr, *lines)


def bar(label: str, **options: Any) -> tqdm[Any]:
    """A progress bar with a label; for the options see ``tqdm``."""
    return bar_class()(desc=printable(label), **options)


def bar_class() -> Any:
    """The class of progress bars: a widget in a notebook that can show it, and text elsewhere."""
    if find_spec("ipywidgets") is not None:
        from tqdm.auto import tqdm  # It warns without ipywidgets. Help and completion do without any.
    else:
        from tqdm import tqdm
    return tqdm


def above_bars(*lines: str) -> None:
    """Print lines on stderr, above the progress bars."""
    from tqdm import tqdm

    for line in lines:
        tqdm.write(_encodable(printable(line), sys.stderr), file=sys.stderr)


@contextmanager
def escaped_stdout() -> Iterator[None]:
    """Inside, what a library prints on stdout passes ``out``."""
    stream = _Escaped(sys.stdout)
    try:
        with redirect_stdout(cast(TextIO, stream)):
            yield
    finally:
        for handler in [each for each in logging.root.handlers if getattr(each, "stream", None) is stream]:
            logging.root.removeHandler(handler)  # Hydra's, which would print later messages of any library.


class _Escaped:
    """A text stream whose lines are printed by ``out``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        _write(self._stream, *text.split("\n"), end="")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _write(stream: TextIO, *lines: str, end: str = "\n") -> None:
    if not lines:
        return
    try:
        # In one piece, so that lines of several processes do not mix.
        print(_encodable("\n".join(map(printable, lines)), stream) + end, file=stream, end="", flush=True)
    except OSError as error:
        with suppress(OSError):  # The interpreter flushes the stream again at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise SystemExit(CLOSED_PIPE) from None
        raise


def _encodable(text: str, stream: TextIO) -> str:
    """The text, with escapes for the characters that the terminal's encoding lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
