"""Files that are put in their place whole."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Put a file in its place: a reader never sees half of it, two writers don't mix, a full disk keeps the one before.

    Args:
        path: The file.
        content: A text may hold names of files that are none; what can't be encoded becomes a question mark.

    Raises:
        OSError: It can't be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode(errors="replace") if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def is_leftover(path: Path) -> bool:
    """Whether a file is one that ``write_whole`` is at work on, or has left behind where it was killed."""
    return re.fullmatch(r".+\.[0-9]+\.tmp", path.name) is not None
