"""Temporary folders that do not outlive a killed process for long."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gantrain.runtime.atomic import remove_if_unused, try_lock
from gantrain.runtime.signals import scratch_folders

PREFIX = "gantrain-"
LOCK = "in_use"  # The locked file in such a folder.


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder, which is removed at the end; those that killed processes left are removed at the start."""
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError):
            if lock.stat().st_uid == os.getuid() and remove_if_unused(lock):
                shutil.rmtree(lock.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, (Path(folder) / LOCK).open("wb") as file:
        try_lock(file, exclusive=True)
        scratch_folders.append(Path(folder))
        try:
            yield Path(folder)
        finally:
            scratch_folders.remove(Path(folder))
