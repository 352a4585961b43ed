"""New directories that are either complete or absent, even if the process that writes them is killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gantrain.errors import ConfigError
from gantrain.runtime.atomic import file_lock
from gantrain.runtime.scratch import scratch_folder
from gantrain.runtime.storage import storage_errors

NOTE = "made_by"  # The file with the signature of unfinished work.


@contextmanager
def atomic_dir(target: Path) -> Iterator[Path]:
    """A path for a new directory that is renamed to ``target`` if the block succeeds, and removed otherwise.

    A ``target`` that another process has created in the meantime is not replaced. Anything else that is written to the
    parent of the yielded path is removed in any case, by the next call for this ``target`` if the process is killed.

    Raises:
        ConfigError: It can't be written.
    """
    new = [parent for parent in target.parents if not parent.exists()]
    try:
        with storage_errors(f"write {target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with scratch_folder(target.parent, f".{target.name}-") as scratch:
                folder = scratch / target.name
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
        ConfigError: ``out`` is not empty or inside an input, another process or another command is writing it, or the
            disk can't store it.
    """
    with storage_errors(f"write {out}"):
        check_output(out, inputs)
        scratch = _scratch(out)
        new = [folder for folder in scratch.parents if not folder.exists()]
        scratch.mkdir(parents=True, exist_ok=True)
        whole, note = scratch / "whole", scratch / NOTE
        with file_lock(whole, wait=lambda: _refuse_to_wait(out)):
            own = {note, whole.with_suffix(".lock")}
            check_output(out, inputs)  # Another process may have completed it just now.
            _sign(note, signature, others=set(scratch.iterdir()) - own)
            whole.mkdir(exist_ok=True)
            for left in scratch.glob("tmp*"):  # Temporary directories of killed processes.
                shutil.rmtree(left, ignore_errors=True)
            try:
                yield scratch
                whole.replace(out)
            except BaseException:
                if not any(path.is_file() for path in set(scratch.rglob("*")) - own):
                    shutil.rmtree(scratch, ignore_errors=True)
                    _remove_empty(new)
                raise
            _remove(scratch)


def is_complete(out: Path, signature: str) -> bool:
    """Whether a process of this signature has completed ``out`` and was killed before it removed its other files.

    These are removed.
    """
    if not out.name:  # The current folder or the root, which no process writes.
        return False
    scratch = _scratch(out)
    note = scratch / NOTE
    if out.is_dir():
        with suppress(OSError):  # It is not there, or not empty.
            scratch.rmdir()
    if not out.is_dir() or (scratch / "whole").exists() or not note.is_file() or note.read_bytes() != _bytes(signature):
        return False
    _remove(scratch)
    return True


def _remove(scratch: Path) -> None:
    """Remove unfinished work, and last the signature, by which the next process recognises what a killed one leaves."""
    for path in {*scratch.iterdir()} - {scratch / NOTE}:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)


def _scratch(out: Path) -> Path:
    return out.with_name(f".{out.name}-unfinished")


def _bytes(signature: str) -> bytes:
    return signature.encode("utf-8", "surrogateescape")


def _sign(note: Path, signature: str, *, others: set[Path]) -> None:
    """Write the signature, unless it is there; refuse the ``others``, files of another signature."""
    if note.is_file() and note.read_bytes() == _bytes(signature):
        return
    if others:
        raise ConfigError(f"{note.parent} contains the unfinished work of another command: finish that, or remove it")
    note.write_bytes(_bytes(signature))


def _refuse_to_wait(out: Path) -> None:
    raise ConfigError(f"another process is writing {out}: wait for it, or give another folder")


def check_output(out: Path, inputs: Sequence[Path]) -> None:
    """Refuse to write to a path that exists, unless it is an empty directory, or that is inside an input."""
    empty = out.is_dir() and not out.is_symlink() and not any(out.iterdir())
    if os.path.lexists(out) and not empty:
        raise ConfigError(f"{out} already exists: give another folder, or remove it first")
    for folder in inputs:
        if out.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"{out} is inside {folder}, which is read: give a folder outside")


def refuse_links(folder: Path) -> None:
    """Refuse to write to a folder that somebody else may have made, if links in it lead to folders outside.

    Links to files are harmless to what replaces files by renaming, as ``atomic_write`` does.

    Raises:
        ConfigError: There is such a link.
    """
    unvisited, whole = [folder], folder.resolve()
    while unvisited:
        with suppress(OSError), os.scandir(unvisited.pop()) as entries:
            for entry in entries:
                if not entry.is_symlink():
                    unvisited += [Path(entry.path)] if entry.is_dir() else []
                elif not entry.is_file() and not Path(os.path.realpath(entry.path)).is_relative_to(whole):
                    raise ConfigError(
                        f"{entry.path} is a symbolic link to a folder outside of {folder}, so nothing is written: "
                        "remove the link, or copy the folder to its place"
                    )


def _remove_empty(folders: Sequence[Path]) -> None:
    with suppress(OSError):  # Another process may have written to them.
        for folder in folders:
            folder.rmdir()
