"""Converting folders of images to LMDB files and back, without any change to the image files."""

from __future__ import annotations

import bisect
import csv
import hashlib
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import quote

from gantrain.config.schema import Fraction
from gantrain.data.base import drawn
from gantrain.data.images import tiff
from gantrain.data.images.finding import find_images
from gantrain.data.images.formats import EXTENSIONS
from gantrain.data.images.opening import NPY_MAGIC
from gantrain.data.sets.layout import divided
from gantrain.data.sets.listing import HEADER
from gantrain.data.sets.lmdb_index import COMMIT_BYTES, KeyIndex, map_size, open_database, open_for_writing
from gantrain.data.sets.lsun import LmdbSource, class_ranges, open_source
from gantrain.data.sets.single import classes_in, warn_of_empty_classes
from gantrain.data.tools.folder_writer import changed
from gantrain.errors import ConfigError
from gantrain.runtime import console
from gantrain.runtime.directories import is_complete, resumable_dir
from gantrain.runtime.parallel import in_parallel

MAX_KEY_BYTES = 511  # The limit of an LMDB with default build options.
MAX_NAME_BYTES = 255 - len(".webp")  # The limit of a file name, less the suffix that may be added.
LIST = "files.csv"
SIGNATURE = ".made_by"  # The file in the output that identifies the command and its input.

# The first bytes of files of each format.
MAGIC = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n\x1a\n": ".png",
    b"BM": ".bmp",
    NPY_MAGIC: ".npy",
    **dict.fromkeys(tiff.MAGIC, ".tif"),
}


def write_lmdb(folder: Path, out: Path) -> None:
    """Write an LMDB of the images in a folder: keys are paths relative to the folder, values are the files.

    Sub-folders that are classes become classes of ``data=lsun``. An interrupted call is resumed.
    """
    signature = f"LMDB of {folder.resolve()}\n"
    if _is_complete(out, signature):
        return
    if phases := divided(folder):
        names = " and ".join(path.name for path in phases.values())
        raise ConfigError(
            f"{folder} contains the folders {names}: write an LMDB of each, "
            f"{' and '.join(f'{out}_{phase}_lmdb' for phase in phases)}; "
            f"data=lsun data.root={out.parent} data.category={out.name} then reads them"
        )
    paths = find_images(folder, key="")
    warn_of_empty_classes(folder, paths)
    files = {key_of(path.relative_to(folder).as_posix()): path for path in paths}
    with resumable_dir(out, [folder], signature) as scratch:
        fill(scratch / "whole", files, label=out.name)
        (scratch / "whole" / SIGNATURE).write_bytes(os.fsencode(signature))
    classes = len(classes_in(folder, paths))
    console.out(f"{out}: {len(files):,} images" + (f" in {classes} classes" if classes else ""))


def _is_complete(out: Path, signature: str) -> bool:
    """Whether ``out`` has been written by the same command; if so, print that."""
    is_complete(out, signature)  # Removes what a killed process has left beside it.
    note = out / SIGNATURE
    if not note.is_file() or note.read_bytes() != os.fsencode(signature):
        return False
    console.out(f"{out} already exists")
    return True


def key_of(name: str) -> bytes:
    """The key of a file: its relative path, or if that is too long, its first folder and a hash."""
    key = name.encode("utf-8", "surrogateescape")
    if len(key) <= MAX_KEY_BYTES:
        return key
    top, _, _ = name.partition("/")  # It may be a class.
    digest = hashlib.blake2b(key, digest_size=20).hexdigest()
    return f"{top}/{digest}{Path(name).suffix}".encode("utf-8", "surrogateescape")


def fill(database: Path, files: Mapping[bytes, Path], *, label: str) -> None:
    """Write files to an LMDB, and delete all other keys.

    A file with a stored value of the same size is skipped unless it has changed since the last transaction.
    """
    data = database / "data.mdb"
    last = data.stat().st_mtime_ns if data.exists() else 0
    if last and data.stat().st_size:
        deque(open_database(database).keys(), maxlen=0)  # A damaged page would end the process.
    size = map_size(path.stat().st_size for path in files.values())
    keys = iter(sorted(files))
    bar = console.bar(label, total=len(files), leave=False, disable=None)
    with open_for_writing(database, size) as environment, bar:
        pending = True
        while pending:  # After an interruption, only the last transaction is repeated.
            with environment.begin(write=True) as transaction:
                pending = _put(transaction, keys, files, last, bar)
        with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
            for key in [key for key in cursor.iternext(values=False) if key not in files]:
                transaction.delete(key)


def _put(transaction: Any, keys: Iterator[bytes], files: Mapping[bytes, Path], last: int, bar: Any) -> bool:
    """Write files up to ``COMMIT_BYTES``; whether there may be more."""
    size = 0
    for key in keys:
        status = files[key].stat()
        stored = transaction.get(key)
        if stored is None or len(stored) != status.st_size or changed(files[key]) > last:
            transaction.put(key, files[key].read_bytes())
            size += status.st_size
        bar.update()
        if size > COMMIT_BYTES:
            return True
    return False


def export(
    db: Path, out: Path, *, layout: Literal["flat", "tree"] = "flat", fraction: Fraction = 1.0, seed: int = 0
) -> None:
    """Write the values of an LMDB as unchanged files, and ``files.csv`` with their paths and classes.

    A file is named after its key, plus the suffix of its format if the key has none. An interrupted call is resumed.

    Args:
        db: The LMDB.
        out: A new folder.
        layout: ``flat``, or ``tree`` for three levels of folders named after the first letters of the keys.
        fraction: The fraction that is written; ``data.fraction`` selects the same images.
        seed: The seed of the selection.
    """
    source = open_source(db)
    indices = range(len(source)) if fraction == 1 else drawn(len(source), fraction, seed)
    part = "all" if fraction == 1 else f"{fraction} by {seed}"
    signature = f"{layout} files of {source.database.path} {source.stamp(indices)} {part}\n"
    if _is_complete(out, signature):
        return
    with resumable_dir(out, [db], signature) as scratch, TemporaryDirectory(dir=scratch) as parts:
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
        (folder / SIGNATURE).write_bytes(os.fsencode(signature))
    console.out(f"{out}: {len(indices):,} images")


def _files(source: LmdbSource, indices: Iterable[int], layout: str) -> Iterator[tuple[int, str, bytes]]:
    """The number, relative path and content of each file."""
    for number, index in enumerate(indices):
        value = source.open(index)
        name = _file_name(source.index[index], value, source.index)
        yield number, "/".join([*re.sub("[./]", "_", name[:3]), name]) if layout == "tree" else name, value


def _file_name(key: bytes, value: bytes, keys: KeyIndex) -> str:
    """A key as a valid relative path, with the suffix of the value's format; ``.bin`` if that is unknown.

    A path that would be the file or a folder of another key's path is replaced by a hash.
    """
    name = key.decode("utf-8", "surrogateescape")
    parts = name.split("/")
    plain = name.isprintable() and "\\" not in name and not {"", ".", ".."}.intersection(parts)
    if not plain or max(len(os.fsencode(part)) for part in parts) > MAX_NAME_BYTES:
        name = quote(key, safe="").replace(".", "%2E")
    suffix = "" if Path(name).suffix.lower() in EXTENSIONS else _suffix(value)
    folders = [str(folder) for folder in Path(name).parents]
    files = [folder for folder in folders if Path(folder).suffix.lower() in EXTENSIONS]
    others = {name, name + suffix, *files, *(str(Path(file).with_suffix("")) for file in files)}
    taken = any(other != key and other in keys for other in map(os.fsencode, others))
    if taken or {LIST, SIGNATURE}.intersection(folders) or len(os.fsencode(Path(name).name)) > MAX_NAME_BYTES:
        return hashlib.blake2b(key, digest_size=20).hexdigest() + (suffix or Path(name).suffix)
    return name + suffix


def _suffix(value: bytes) -> str:
    if value[:4] == b"RIFF" and value[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for magic, suffix in MAGIC.items() if value.startswith(magic)), ".bin")


def _class_names(source: LmdbSource, indices: Iterable[int]) -> list[str]:
    """The class of each image; empty without classes."""
    ranges = class_ranges(source.index)
    stops = [keys.stop for _, keys in ranges]
    return [ranges[bisect.bisect(stops, index)][0] for index in indices] if ranges else []
