"""Temporary folders that do not outlive a killed process for long."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gantrain.runtime.atomic import MIN_LEFTOVER_AGE, remove_if_unused, try_lock
from gantrain.runtime.signals import scratch_folders

PREFIX = "gantrain-"
LOCK = ".gantrain-in-use"  # The locked file in such a folder.


@contextmanager
def scratch_folder(parent: Path | None = None, prefix: str = PREFIX) -> Iterator[Path]:
    """A temporary folder, which is removed at the end; those that killed processes left are removed at the start.

    Args:
        parent: Where it is created; by default in the folder for temporary files.
        prefix: Its name begins with this.
    """
    parent = parent or Path(tempfile.gettempdir())
    _remove_leftovers(parent, prefix)
    with ExitStack() as stack:
        while True:  # Repeated if another process has taken it for a leftover before it was locked.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix, dir=parent)))
            lock = stack.enter_context((folder / LOCK).open("wb"))
            if try_lock(lock, exclusive=True) and (folder / LOCK).exists():
                break
        scratch_folders.append(folder)
        stack.callback(scratch_folders.remove, folder)
        yield folder


def _remove_leftovers(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{glob.escape(prefix)}*/"):
        lock = folder / LOCK
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            if remove_if_unused(lock):
                shutil.rmtree(folder, ignore_errors=True)
            elif not lock.exists() and time.time() - folder.stat().st_mtime > MIN_LEFTOVER_AGE:
                folder.rmdir()  # It is empty: its process was killed before it locked it.
