"""Messages that may be lost, but stop no run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import Any, TextIO, cast


class SafeStream:
    """A stream that keeps its errors to itself: of a full disk, or of a terminal or pipe that is gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or not."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unfailing_messages() -> Iterator[None]:
    """What is printed on stderr inside may be lost."""
    with redirect_stderr(cast(TextIO, SafeStream(sys.stderr))):
        yield
