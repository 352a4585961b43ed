"""Downloading public data sets: an archive is verified and unpacked completely or not at all."""

from __future__ import annotations

import errno
import gzip
import http.client
import lzma
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import IO, cast

from gantrain.config.side_files import read_text
from gantrain.data.images.finding import contents, images_under
from gantrain.data.sets.catalog import BY_REQUEST, NAMES, PAIRED_NAMES
from gantrain.data.sets.lmdb_index import open_database
from gantrain.data.sets.tar_samples import HeaderReader
from gantrain.errors import ConfigError, nearest, reason_of
from gantrain.runtime import console
from gantrain.runtime.directories import is_complete, resumable_dir

TIMEOUT = 30  # The maximum number of seconds without data.
CHUNK = 1 << 20  # In bytes.
# Raised for corrupt and encrypted archives, and for unknown compression.
ARCHIVE_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(EOFError, RuntimeError, ValueError, OverflowError, OSError),
)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS)


class BadArchiveError(ConfigError):
    """The downloaded file is not the expected archive."""


def download(name: str, root: Path = Path("datasets")) -> None:
    """Download a data set to ``root/name`` and print what it contains."""
    if name in BY_REQUEST:
        raise ConfigError(f"{name} must be requested from {BY_REQUEST[name].format(folder=root / name)}")
    if name not in NAMES:
        raise ConfigError(f"unknown data set '{name}'; {nearest(name, NAMES)}")
    address = NAMES[name]
    if not name.startswith("lsun_"):
        _download_archive(address, root / name, partial(_images_of_phases, name=name))
        return
    for part in (address.replace("_train_", "_val_"), address):  # The small one first, to fail early.
        _download_archive(part, root / "lsun" / part.rpartition("/")[2].removesuffix(".zip"), _images_in_lmdb)


def _download_archive(address: str, target: Path, check: Callable[[Path, str], str]) -> None:
    """Download one archive; ``check`` returns a summary of the unpacked folder, or raises an error."""
    if target.exists():
        is_complete(target, f"{address}\n")  # Removes what a killed process has left beside it.
        console.out(f"{target} already exists")
        return
    with resumable_dir(target, (), f"{address}\n") as scratch, TemporaryDirectory(dir=scratch) as unpacked:
        fetched, whole = scratch / "fetched", scratch / "whole"
        try:
            folder = _unpack(fetch(address, fetched, label=target.name), Path(unpacked), address)
            found = check(folder, address)
        except BaseException as error:
            if isinstance(error, BadArchiveError) or not _version(fetched):
                shutil.rmtree(fetched, ignore_errors=True)  # Nothing can be resumed.
            raise
        shutil.rmtree(whole)
        folder.replace(whole)
        shutil.rmtree(fetched)
    console.out(f"{target}: {found}")


def fetch(address: str, folder: Path, *, label: str) -> Path:
    """Download the archive at a URL to ``folder``, resuming the partial download of an earlier call."""
    archive = folder / "archive"
    tag = _version(folder)
    start = archive.stat().st_size if tag else 0
    response = _request(address, start, tag)
    if response is None:
        return archive
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        start = 0
    total = None if response.length is None else start + response.length  # None if the server does not report it.
    folder.mkdir(exist_ok=True)
    free, size = shutil.disk_usage(folder).free, response.length or 0
    if size > free:
        raise ConfigError(f"{address} takes {size:,} bytes, and only {free:,} are free in {folder.parents[1]}")
    with (
        response,
        archive.open("ab" if start else "wb") as file,
        console.bar(label, total=total, initial=start, unit="B", unit_scale=True, leave=False, disable=None) as bar,
    ):
        if not start:
            tags = (response.headers.get(name, "") for name in ("ETag", "Last-Modified"))
            # W/ marks a weak validator, which does not guarantee identical bytes.
            (folder / "version").write_text(next((tag for tag in tags if tag and not tag.startswith("W/")), ""))
        while chunk := _read(response, address):
            file.write(chunk)
            bar.update(len(chunk))
        received = file.tell()
    if total is not None and received != total:
        raise ConfigError(f"{address}: the connection ended after {received:,} of {total:,} bytes; try again")
    return archive


def _version(folder: Path) -> str:
    """The validator (ETag or date) of the partial download in ``folder``; empty if there is none."""
    version = read_text(folder / "version") or ""
    return version if version.isprintable() and (folder / "archive").is_file() else ""


def _request(address: str, start: int, tag: str) -> http.client.HTTPResponse | None:
    """The response with the bytes from ``start`` on, or with all if the tag has changed; None if none are left."""
    headers = {"Range": f"bytes={start}-", "If-Range": tag} if start else {}
    request = urllib.request.Request(address, headers=headers)
    with _network_errors(address):
        try:
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            return None
        return response


def _read(response: http.client.HTTPResponse, address: str) -> bytes:
    with _network_errors(address):
        return response.read(CHUNK)


@contextmanager
def _network_errors(address: str) -> Iterator[None]:
    """Raise network errors as ConfigError."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise ConfigError(f"can't download {address}: the server returns {error.code} ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise ConfigError(f"can't reach {address}: {' '.join(reason.split())}") from None


def _unpack(archive: Path, folder: Path, address: str) -> Path:
    """Unpack an archive and return its top folder."""
    try:
        (_unpack_zip if address.endswith(".zip") else _unpack_tar)(archive, folder)
    except ARCHIVE_ERRORS as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        reason = " ".join(reason_of(error).split())
        raise BadArchiveError(f"{address}: the archive is corrupt ({reason}); try again") from None
    top = folder / address.rpartition("/")[2].partition(".")[0]
    return top if top.is_dir() else folder


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            path = PureWindowsPath(member.filename)  # It recognizes both kinds of slashes.
            if path.anchor or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
                raise zipfile.BadZipFile(f"it contains a path outside its folder: {member.filename}")
        broken = opened.testzip()
        if broken is not None:
            raise zipfile.BadZipFile(f"checksum mismatch of {broken}")
        opened.extractall(folder)


def _unpack_tar(archive: Path, folder: Path) -> None:
    with gzip.open(archive) as stream:
        with tarfile.open(fileobj=cast(IO[bytes], HeaderReader(cast(IO[bytes], stream))), mode="r:") as opened:
            for member in opened:
                _extract(opened, member, folder)
        while stream.read(CHUNK):  # The checksum follows the end of the tar file.
            pass


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Extract a file or folder; others are refused, so that ``folder`` contains no link to write through."""
    path = folder / member.name.lstrip("/")
    if not (member.isfile() or member.isdir()):
        raise tarfile.ReadError(f"it contains a link or a device: {member.name}")
    if ".." in path.parts:
        raise tarfile.ReadError(f"it contains a path outside its folder: {member.name}")
    (path if member.isdir() else path.parent).mkdir(parents=True, exist_ok=True)
    if member.isfile():
        archive.makefile(member, path)


def _images_of_phases(folder: Path, address: str, *, name: str) -> str:
    """The number of images of each phase; a required folder that is missing or empty is a ``BadArchiveError``."""
    images = {part.name: sum(1 for _ in images_under(part)) for part in sorted(contents(folder).folders)}
    if name in PAIRED_NAMES:
        needed = ["train", "val" if "val" in images else "test"]
    elif name == "ae_photos":  # It has no training images.
        needed = [*images] or ["testA"]
    else:
        needed = ["trainA", "trainB", "testA", "testB"]
    empty = [phase for phase in needed if not images.get(phase)]
    if empty:
        raise BadArchiveError(f"{address}: the archive contains no images in {', '.join(empty)}")
    return ", ".join(f"{phase} {count}" for phase, count in images.items()) + " images"


def _images_in_lmdb(folder: Path, address: str) -> str:
    try:
        return f"{open_database(folder).state().entries:,} images"
    except ConfigError:
        raise BadArchiveError(f"{address}: the archive contains no LMDB, or an empty or corrupt one") from None
