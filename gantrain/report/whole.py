"""Files that are put in their place whole."""

from __future__ import annotations

import os
import time
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


def remove_leftovers(*folders: Path, age: float = 0.0) -> None:
    """Remove what ``write_whole`` leaves behind where it is killed.

    Args:
        folders: Where to look, not below.
        age: Seconds; what is younger may be at work.
    """
    for folder in folders:
        for path in folder.glob("*.tmp"):
            with suppress(OSError):
                if path.stat().st_mtime <= time.time() - age:
                    path.unlink()
