"""New directories that are either complete or absent, even if the process that writes them is killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from gantrain.errors import ConfigError
from gantrain.runtime.atomic import file_lock


@contextmanager
def atomic_dir(target: Path) -> Iterator[Path]:
    """A path for a new directory that is renamed to ``target`` if the block succeeds, and removed otherwise.

    A ``target`` that another process has created in the meantime is not replaced. Anything else that is written to the
    parent of the yielded path is removed in any case.
    """
    new = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            folder = Path(scratch) / target.name
            yield folder
            try:
                folder.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
    except BaseException:
        _remove_empty(new)
        raise


@contextmanager
def resumable_dir(out: Path, inputs: Sequence[Path], signature: str) -> Iterator[Path]:
    """The directory ``.OUT-unfinished`` for unfinished work, whose sub-directory ``whole`` becomes ``out`` in the end.

    If the process is killed or the block fails, it remains for the next process that enters with the same signature,
    unless it contains no files.

    Args:
        out: Must not exist, or be empty.
        inputs: The directories that are read.
        signature: Identifies what is written, and from which inputs.

    Raises:
        ConfigError: ``out`` is not empty or inside an input, or another process or another command is writing it.
    """

    def wait() -> None:
        raise ConfigError(f"another process is writing {out}: wait for it, or give another folder")

    check_output(out, inputs)
    scratch = out.with_name(f".{out.name}-unfinished")
    new = [folder for folder in scratch.parents if not folder.exists()]
    scratch.mkdir(parents=True, exist_ok=True)
    whole, note, encoded = scratch / "whole", scratch / "made_by", signature.encode("utf-8", "surrogateescape")
    with file_lock(whole, wait=wait):
        own = {note, whole.with_suffix(".lock")}
        check_output(out, inputs)  # Another process may have completed it just now.
        if not note.is_file() or note.read_bytes() != encoded:
            if set(scratch.iterdir()) - own:
                raise ConfigError(
                    f"{scratch} contains the unfinished work of another command: finish that, or remove it"
                )
            note.write_bytes(encoded)
        whole.mkdir(exist_ok=True)
        for left in scratch.glob("tmp*"):  # Temporary directories of killed processes.
            shutil.rmtree(left, ignore_errors=True)
        try:
            yield scratch
        except BaseException:
            if not any(path.is_file() for path in set(scratch.rglob("*")) - own):
                shutil.rmtree(scratch, ignore_errors=True)
                _remove_empty(new)
            raise
        whole.replace(out)
        shutil.rmtree(scratch, ignore_errors=True)


def check_output(out: Path, inputs: Sequence[Path]) -> None:
    """Refuse to write to a path that exists, unless it is an empty directory, or that is inside an input."""
    empty = out.is_dir() and not out.is_symlink() and not any(out.iterdir())
    if os.path.lexists(out) and not empty:
        raise ConfigError(f"{out} already exists: give another folder, or remove it first")
    for folder in inputs:
        if out.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"{out} is inside {folder}, which is read: give a folder outside")


def _remove_empty(folders: Sequence[Path]) -> None:
    with suppress(OSError):  # Another process may have written to them.
        for folder in folders:
            folder.rmdir()
