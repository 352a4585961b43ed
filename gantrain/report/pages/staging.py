"""Replaces the results of an earlier call when the new ones are complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes

from gantrain.config.side_files import is_path, read_text
from gantrain.errors import ConfigError
from gantrain.report.pages.page import PAGE, quoted
from gantrain.runtime import console
from gantrain.runtime.atomic import write_file
from gantrain.runtime.directories import refuse_links
from gantrain.runtime.storage import storage_errors

RECORD = "files.txt"  # In a results folder: the command, and the files that it wrote, one per line, quoted for a URL.
MAX_RECORD = 200 << 20  # Bytes.


@contextmanager
def staging_folder(folder: Path, *, command: str) -> Iterator[Path]:
    """A folder to write results into: ``<folder>.part``, whose files move to ``folder`` when all are written.

    Then the files of the earlier call, which are listed in ``files.txt`` in ``folder``, are removed, and no others. An
    error inside leaves ``folder`` unchanged and removes ``<folder>.part``. If the earlier results are those of another
    ``command``, this is reported on standard error.

    Raises:
        ConfigError: ``<folder>.part`` exists, and was not left by a killed call; or links in ``folder`` lead out of it;
            or the disk can't store the results.
    """
    target = folder.resolve()  # Resolved, because "." has no name.
    part = target.with_name(f"{target.name}.part")
    if part.exists() and not (part / RECORD).exists():
        raise ConfigError(f"{part} exists and was not created by gantrain: move it, or give another out=FOLDER")
    shutil.rmtree(part, ignore_errors=True)
    line = "# " + " ".join(command.split())
    refuse_links(target)
    with storage_errors(f"write the results to {folder}"), ExitStack() as cleanup:
        part.mkdir(parents=True)
        cleanup.callback(shutil.rmtree, part, ignore_errors=True)
        _write_record(part, line, [])
        yield part
        written = [path.relative_to(part).as_posix() for path in part.rglob("*") if path.is_file()]
        written = sorted(name for name in written if name not in (PAGE, RECORD)) + [PAGE]
        earlier_command, earlier = _read_record(target)
        if earlier_command not in (None, line):
            console.err(f"replacing the results of: {str(earlier_command).removeprefix('# ')}")
        _write_record(target, line, sorted({*earlier, *written}))  # If killed from here on, the next call cleans up.
        _remove(target, earlier)
        for name in written:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(part / name, target / name)
        _write_record(target, line, written)


def _write_record(folder: Path, command: str, names: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [command, *map(quoted, names)]  # Quoted, because a name may contain line breaks.
    write_file(folder / RECORD, "".join(f"{line}\n" for line in lines))


def _read_record(folder: Path) -> tuple[str | None, list[str]]:
    """The line with the command, None if there is none, and the listed files that are inside the folder."""
    lines = (read_text(folder / RECORD, limit=MAX_RECORD) or "").splitlines()
    command = lines.pop(0) if lines and lines[0].startswith("# ") else None
    names = [os.fsdecode(unquote_to_bytes(line)) for line in lines]
    paths = [PurePosixPath(name) for name in names if is_path(name)]
    outside = {parent for parent in {path.parent for path in paths} if not _is_inside(folder / parent, folder)}
    return command, [path.as_posix() for path in paths if path.parent not in outside and ".." not in path.parts]


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is inside a folder, also if it leads through symbolic links."""
    try:
        return path.resolve().is_relative_to(folder)
    except (OSError, RuntimeError):  # A loop of links.
        return False


def _remove(folder: Path, names: Sequence[str]) -> None:
    """Remove files and then empty folders; the page first, so that it never links to missing files."""
    for name in (PAGE, *names) if names else ():
        if not (folder / name).is_dir() or (folder / name).is_symlink():
            with suppress(FileNotFoundError, NotADirectoryError):
                (folder / name).unlink()
    for parent in sorted({parent for name in names for parent in PurePosixPath(name).parents}, reverse=True):
        inside = folder / parent
        if inside != folder and inside.is_dir() and not any(inside.iterdir()):
            inside.rmdir()
