"""Folders of images to LMDB files and back, without a change to any image."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import quote

from tqdm import tqdm

from gantrain.data.base import drawn
from gantrain.data.images.convert import EXTENSIONS
from gantrain.data.images.decoding import NPY_MAGIC, TIFF_MAGIC
from gantrain.data.sets.layout import divided
from gantrain.data.sets.listing import HEADER
from gantrain.data.sets.lmdb_index import KeyIndex
from gantrain.data.sets.lsun import LmdbSource, class_ranges, open_source
from gantrain.data.sets.single import classes_in
from gantrain.data.tools.making import images_below, resumable_dir
from gantrain.errors import ConfigError
from gantrain.runtime.parallel import in_parallel

LONGEST_KEY = 511  # bytes, of any LMDB that was not compiled for more
LONGEST_NAME = 255  # bytes, of a file
CHUNK = 1 << 26  # bytes of images that are committed at once
LIST = "files.csv"
NOTE = ".made_by"  # in what was made

# how the files of each format begin
BEGINNINGS = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n\x1a\n": ".png",
    b"BM": ".bmp",
    NPY_MAGIC: ".npy",
    **dict.fromkeys(TIFF_MAGIC, ".tif"),
}


def write_lmdb(folder: Path, out: Path) -> None:
    """Make an LMDB of the images in a folder: the path below the folder is the key, the file as it is the value.

    Sub-folders that are classes are so in ``data=lsun``, too. What an interrupted call has written is kept.

    Raises:
        ConfigError: The folder holds no images, or those of several phases, or ``out`` is something else already,
            like the LMDB of another folder.
    """
    made_by = f"LMDB of {folder.resolve()}\n"
    if _is_made(out, made_by):
        return
    if phases := divided(folder):
        raise ConfigError(
            f"{folder} holds the folders {' and '.join(phases)}: make an LMDB of each, "
            f"{' and '.join(f'{out}_{phase}_lmdb' for phase in phases)}; "
            f"data=lsun data.root={out.parent} data.category={out.name} then reads them"
        )
    paths = images_below(folder)
    plan = {key_of(path.relative_to(folder).as_posix()): path for path in paths}
    with resumable_dir(out, [folder], made_by) as scratch:
        fill(scratch / "whole", plan, label=out.name)
        (scratch / "whole" / NOTE).write_bytes(os.fsencode(made_by))
    classes = len(classes_in(folder, paths))
    print(f"{out}: {len(plan):,} images" + (f" in {classes} classes" if classes else ""))


def _is_made(out: Path, made_by: str) -> bool:
    """Whether it is there, which is said then; made of anything else, it is something else."""
    note = out / NOTE
    if not note.is_file() or note.read_bytes() != os.fsencode(made_by):
        return False
    print(f"{out} is already there")
    return True


def key_of(name: str) -> bytes:
    """What a path below the folder is called in the database: the same, unless that is too long."""
    key = name.encode("utf-8", "surrogateescape")
    if len(key) <= LONGEST_KEY:
        return key
    top, _, _ = name.partition("/")  # which may be a class
    digest = hashlib.blake2b(key, digest_size=20).hexdigest()
    return f"{top}/{digest}{Path(name).suffix}".encode("utf-8", "surrogateescape")


def fill(database: Path, plan: Mapping[bytes, Path], *, label: str) -> None:
    """Put files into an LMDB, and take out what else is there.

    A file that is there in the same size is not put again, unless it has been changed since the last ones were put.

    Args:
        database: A folder, made unless it is there.
        plan: The files by their keys.
        label: Of the progress bar.
    """
    data = database / "data.mdb"
    last = data.stat().st_mtime_ns if data.exists() else 0
    room = room_for(path.stat().st_size for path in plan.values())
    keys = iter(sorted(plan))
    with writing(database, room) as environment, tqdm(total=len(plan), desc=label, leave=False, disable=None) as bar:
        pending = True
        while pending:  # a transaction for each chunk, so that an interruption costs no more than one
            with environment.begin(write=True) as transaction:
                pending = _put(transaction, keys, plan, last, bar)
        with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
            for key in [key for key in cursor.iternext(values=False) if key not in plan]:
                transaction.delete(key)


def _put(transaction: Any, keys: Iterator[bytes], plan: Mapping[bytes, Path], last: int, bar: Any) -> bool:
    """Put files until they make a chunk; whether there may be more."""
    size = 0
    for key in keys:
        status = plan[key].stat()
        there = transaction.get(key)
        changed = max(status.st_mtime_ns, status.st_ctime_ns)  # the latter where an older file took its place
        if there is None or len(there) != status.st_size or changed > last:
            transaction.put(key, plan[key].read_bytes())
            size += status.st_size
        bar.update()
        if size > CHUNK:
            return True
    return False


def room_for(sizes: Iterable[int]) -> int:
    """More bytes than an LMDB of values of these sizes can take; only what is used takes any on the disk."""
    return 2 * sum(size + 8192 for size in sizes) + CHUNK


@contextmanager
def writing(database: Path, room: int) -> Iterator[Any]:
    """An LMDB with room for so many bytes; it has as many as it says, in one file, when the block is through."""
    import lmdb

    try:
        database.mkdir(parents=True, exist_ok=True)
        with lmdb.open(str(database), map_size=room) as environment:
            yield environment
            pages, size = environment.info()["last_pgno"] + 1, environment.stat()["psize"]
        data = database / "data.mdb"
        if data.stat().st_size < pages * size:  # the last pages may have been given up before they were written
            os.truncate(data, pages * size)
        (database / "lock.mdb").unlink(missing_ok=True)
    except lmdb.Error as error:
        raise ConfigError(f"can't write the LMDB {database}: {error}") from None


def export(
    database: Path, out: Path, *, layout: Literal["flat", "tree"] = "flat", fraction: float = 1.0, seed: int = 0
) -> None:
    """Write the values of an LMDB as files, byte for byte, and ``files.csv`` with their paths and classes.

    A file has the name of its key and, unless that has one, the suffix of its format. What an interrupted call has
    written is kept.

    Args:
        database: The LMDB.
        out: A folder, which must not be there.
        layout: ``flat``, or ``tree`` for three levels of folders named after the first letters of the keys.
        fraction: The part that is written, the same that ``data.fraction`` draws.
        seed: Of that.

    Raises:
        ConfigError: There is no such database, or ``out`` is something else already, like other files of it.
    """
    source = open_source(database)
    indices = range(len(source)) if fraction == 1 else drawn(len(source), fraction, seed)
    part = "all" if fraction == 1 else f"{fraction} by {seed}"
    made_by = f"{layout} files of {source.database.path} {source.stamp(indices)} {part}\n"
    if _is_made(out, made_by):
        return
    with resumable_dir(out, [database], made_by) as scratch, TemporaryDirectory(dir=scratch) as parts:
        folder = scratch / "whole"

        def write(item: tuple[int, str, bytes]) -> str:
            number, name, value = item
            path = folder / name
            if not path.is_file() or path.stat().st_size != len(value):
                part = Path(parts, str(number))
                part.write_bytes(value)
                path.parent.mkdir(parents=True, exist_ok=True)
                part.replace(path)
            return name

        names = in_parallel(write, _files(source, indices, layout), total=len(indices), label=out.name)
        classes = _class_names(source, indices)
        with (folder / LIST).open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(HEADER if classes else HEADER[:1])
            rows.writerows(zip(names, classes, strict=True) if classes else ([name] for name in names))
        (folder / NOTE).write_bytes(os.fsencode(made_by))
    print(f"{out}: {len(indices):,} images")


def _files(source: LmdbSource, indices: Iterable[int], layout: str) -> Iterator[tuple[int, str, bytes]]:
    """A number, the path below the folder and the content of each file."""
    for number, index in enumerate(indices):
        value = source.open(index)
        name = _file_name(source.index[index], value, source.index)
        yield number, "/".join([*re.sub("[./]", "_", name[:3]), name]) if layout == "tree" else name, value


def _file_name(key: bytes, value: bytes, keys: KeyIndex) -> str:
    """A key as a path that a file can have, with the suffix of what the value is; ``.bin`` if that is unclear.

    That of another key is a file of its own, and neither's folder.
    """
    name = key.decode("utf-8", "surrogateescape")
    parts = name.split("/")
    plain = name.isprintable() and "\\" not in name and not {"", ".", ".."}.intersection(parts)
    if not plain or max(len(os.fsencode(part)) for part in parts) > LONGEST_NAME - len(".webp"):
        name = quote(key, safe="").replace(".", "%2E")
    suffix = "" if Path(name).suffix.lower() in EXTENSIONS else _suffix(value)
    folders = [str(folder) for folder in Path(name).parents]
    files = [folder for folder in folders if Path(folder).suffix.lower() in EXTENSIONS]
    others = {name, name + suffix, *files, *(str(Path(file).with_suffix("")) for file in files)}
    taken = any(other != key and other in keys for other in map(os.fsencode, others))
    if taken or {LIST, NOTE}.intersection(folders) or len(os.fsencode(Path(name).name)) > LONGEST_NAME - len(".webp"):
        return hashlib.blake2b(key, digest_size=20).hexdigest() + (suffix or Path(name).suffix)
    return name + suffix


def _suffix(value: bytes) -> str:
    if value[:4] == b"RIFF" and value[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for beginning, suffix in BEGINNINGS.items() if value.startswith(beginning)), ".bin")


def _class_names(source: LmdbSource, indices: Iterable[int]) -> list[str]:
    """Of each of the images; nothing if they have none. Both classes and indices are in the order of the keys."""
    ranges = iter(class_ranges(source.index))
    names = []
    name, keys = next(ranges, ("", range(0)))
    if not name:
        return []
    for index in indices:
        while index >= keys.stop:
            name, keys = next(ranges)
        names.append(name)
    return names
