"""Writing a new folder of images: complete or absent, and resumed by the same command after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from gantrain.data.sets.layout import differ_in_suffix, images_in, stems_of
from gantrain.runtime import console
from gantrain.runtime.directories import is_complete, resumable_dir
from gantrain.runtime.parallel import in_parallel

PIXEL_SUFFIXES = (".png", ".npy")  # Suffixes that ``write_pixels`` adds.


class FileTask(NamedTuple):
    """How to write a file."""

    sources: tuple[Path, ...]  # The files that it is computed from.
    write: Callable[[Path], Path]  # Writes to a given path, to which it may add a suffix, and returns the path written.


def write_folder(
    out: Path,
    tasks: Mapping[str, FileTask],
    *,
    inputs: Sequence[Path],
    options: Mapping[str, object],
    suffixes: Sequence[str] = PIXEL_SUFFIXES,
) -> None:
    """Write the folder ``out`` within ``resumable_dir``.

    Files that an interrupted call with the same inputs and options has written are reused unless their sources are
    newer, or were put in their place later.

    Args:
        out: Must not exist, or be empty.
        tasks: How to write each file, by its path relative to ``out``, with or without suffix; called in threads.
        inputs: The folders that contain the sources.
        options: Distinguish this call from others with the same inputs and another result.
        suffixes: Suffixes that tasks may add.
    """
    numbers = count()
    if already_written(out, inputs=inputs, options=options):
        return
    signature = _signature(inputs, options)
    with resumable_dir(out, inputs, signature) as scratch, TemporaryDirectory(dir=scratch) as parts:
        folder = scratch / "whole"

        def write(target: str) -> Path:
            path, task = folder / target, tasks[target]
            finished = next((p for suffix in suffixes if (p := path.with_name(path.name + suffix)).is_file()), None)
            if finished is not None and changed(finished) >= max(map(changed, task.sources)):
                return finished
            part = Path(parts, str(next(numbers)))
            written = task.write(part)
            path = path.with_name(path.name + written.name.removeprefix(part.name))
            path.parent.mkdir(parents=True, exist_ok=True)
            return written.replace(path)

        complete = set(in_parallel(write, tasks, total=len(tasks), label=out.name))
        for path in folder.rglob("*"):
            if path not in complete and not path.is_dir():  # Its source has been removed since the interruption.
                path.unlink()
    console.out(f"{out}: {len(complete):,} images")


def already_written(out: Path, *, inputs: Sequence[Path], options: Mapping[str, object]) -> bool:
    """Whether a killed call of ``write_folder`` had completed ``out``; if so, print that."""
    if not is_complete(out, _signature(inputs, options)):
        return False
    console.out(f"{out} is complete")
    return True


def _signature(inputs: Sequence[Path], options: Mapping[str, object]) -> str:
    return f"{[str(folder.resolve()) for folder in inputs]} {dict(options)}\n"


def changed(path: Path) -> int:
    """When a file was changed or put in its place, in nanoseconds."""
    status = path.stat()
    return max(status.st_mtime_ns, status.st_ctime_ns)


def by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by relative path without suffix, which must be unique."""
    found, ambiguous = stems_of(images_in(folder, key=""))
    if ambiguous:
        raise differ_in_suffix(*ambiguous[0])
    return found
