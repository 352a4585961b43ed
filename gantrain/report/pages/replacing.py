"""Results of one call in the place of those of an earlier one, all at once."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote_to_bytes

from gantrain.errors import ConfigError
from gantrain.report.pages.page import PAGE

# of a results folder: the command, and the files that it wrote, quoted as in a URL, one a line
RECORD = "files.txt"


@contextmanager
def replacing(folder: Path, *, command: str) -> Iterator[Path]:
    """A folder to write results into: ``<folder>.part``, whose files go to ``folder`` only when all are there.

    The files of an earlier call, which ``files.txt`` in ``folder`` lists, are then removed, and nothing else is. Who
    fails inside changes nothing but ``<folder>.part``, which is removed. What another command made is not replaced
    without a word.

    Args:
        folder: Where results go in the end.
        command: What makes them, as typed.

    Raises:
        ConfigError: ``<folder>.part`` is there, and not as a call leaves it that was killed.
    """
    place = folder.resolve()  # even "." has siblings then
    part = place.with_name(f"{place.name}.part")
    if part.exists() and not (part / RECORD).exists():
        raise ConfigError(f"{part} is in the way: move it, or give another out=FOLDER")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    line = "# " + " ".join(command.split())
    try:
        _write_record(part, line, [])
        yield part
        made = [path.relative_to(part).as_posix() for path in part.rglob("*") if path.is_file()]
        made = sorted(name for name in made if name not in (PAGE, RECORD)) + [PAGE]
        before, old = _read_record(place)
        if before not in (None, line):
            print(f"replacing the results of: {str(before).removeprefix('# ')}", file=sys.stderr)
        _write_record(place, line, sorted({*old, *made}))  # a call that is killed from here on is cleaned up after
        _remove(place, old)
        for name in made:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(part / name, place / name)
        _write_record(place, line, made)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_record(folder: Path, command: str, names: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [command, *(quote(os.fsencode(name)) for name in names)]  # a name may hold anything, line breaks included
    (folder / RECORD).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="replace")


def _read_record(folder: Path) -> tuple[str | None, list[str]]:
    """The line of the command, None where there is none, and the files; none that lies elsewhere."""
    record = folder / RECORD
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    command = lines.pop(0) if lines and lines[0].startswith("# ") else None
    names = [os.fsdecode(unquote_to_bytes(line)) for line in lines]
    paths = [PurePosixPath(name) for name in names]
    return command, [path.as_posix() for path in paths if not path.is_absolute() and ".." not in path.parts]


def _remove(folder: Path, names: Sequence[str]) -> None:
    """The page first, lest it lead to what is gone; then files, and the folders that are empty then."""
    for name in (PAGE, *names) if names else ():
        (folder / name).unlink(missing_ok=True)
    for parent in sorted({parent for name in names for parent in PurePosixPath(name).parents}, reverse=True):
        inside = folder / parent
        if inside != folder and inside.is_dir() and not any(inside.iterdir()):
            inside.rmdir()
