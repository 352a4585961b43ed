"""The data sets that their authors hand out: fetched, verified, and there whole or not at all."""

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

from tqdm import tqdm

from gantrain.data.images.convert import EXTENSIONS
from gantrain.data.sets.catalog import BY_REQUEST, NAMES, PAIRED_NAMES
from gantrain.data.sets.lmdb_index import open_database
from gantrain.data.tools.making import resumable_dir
from gantrain.errors import ConfigError, nearest

TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 20  # bytes
# what broken archives lead to, and those that are encrypted or compressed in an unknown way
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, OSError)
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS)


class BadArchiveError(ConfigError):
    """What came is not what was asked for."""


def download(name: str, root: Path) -> None:
    """Fetch a data set into ``root/name`` and say what it holds; if it is there already, say so.

    Raises:
        ConfigError: No data set of that name is handed out, the server can't be reached, or what came is not whole.
    """
    if name in BY_REQUEST:
        raise ConfigError(f"{name} must be requested from {BY_REQUEST[name].format(folder=root / name)}")
    if name not in NAMES:
        raise ConfigError(f"no data set '{name}' to download; {nearest(name, NAMES)}")
    address = NAMES[name]
    if not name.startswith("lsun_"):
        _download_archive(address, root / name, partial(_images_of_phases, name=name))
        return
    for part in (address.replace("_train_", "_val_"), address):  # the small one first, to fail early
        _download_archive(part, root / "lsun" / part.rpartition("/")[2].removesuffix(".zip"), _images_in_lmdb)


def _download_archive(address: str, target: Path, check: Callable[[Path, str], str]) -> None:
    """Fetch one archive; ``check`` says what is in the folder that came from an address, or refuses it."""
    if target.exists():
        print(f"{target} is already there")
        return
    try:
        with resumable_dir(target, (), f"{address}\n") as scratch, TemporaryDirectory(dir=scratch) as unpacked:
            fetched, whole = scratch / "fetched", scratch / "whole"
            try:
                folder = _unpack(_fetch(address, fetched, label=target.name), Path(unpacked), address)
                holds = check(folder, address)
            except BaseException as error:
                if isinstance(error, BadArchiveError) or not _version(fetched):
                    shutil.rmtree(fetched, ignore_errors=True)  # there is nothing to go on with
                raise
            shutil.rmtree(whole)
            folder.replace(whole)
            shutil.rmtree(fetched)
    except OSError as error:
        raise ConfigError(f"can't write {target}: {error.strerror or error}") from None
    print(f"{target}: {holds}")


def _fetch(address: str, folder: Path, *, label: str) -> Path:
    """The archive at an address, put into ``folder``, where an earlier call may have put the beginning of it."""
    archive = folder / "archive"
    tag = _version(folder)
    there = archive.stat().st_size if tag else 0
    answer = _ask(address, there, tag)
    if answer is None:
        return archive
    if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
        there = 0
    total = None if answer.length is None else there + answer.length  # None if it doesn't say
    folder.mkdir(exist_ok=True)
    _see_room(answer.length or 0, folder.parents[1], address)
    with (
        answer,
        archive.open("ab" if there else "wb") as file,
        tqdm(total=total, initial=there, desc=label, unit="B", unit_scale=True, leave=False, disable=None) as bar,
    ):
        if not there:
            tags = (answer.headers.get(name, "") for name in ("ETag", "Last-Modified"))
            # W/ begins one that other bytes may have, too
            (folder / "version").write_text(next((tag for tag in tags if tag and not tag.startswith("W/")), ""))
        while chunk := _read(answer, address):
            file.write(chunk)
            bar.update(len(chunk))
        came = file.tell()
    if total is not None and came != total:
        raise ConfigError(f"{address}: the connection ended after {came:,} of {total:,} bytes; try again")
    return archive


def _version(folder: Path) -> str:
    """What the server calls the archive of which ``folder`` holds the beginning; empty if there is none, or no name."""
    version = folder / "version"
    return version.read_text() if version.exists() else ""


def _ask(address: str, there: int, tag: str) -> http.client.HTTPResponse | None:
    """For all after so many bytes, or for everything if the archive isn't that of ``tag``; None if nothing is left."""
    headers = {"Range": f"bytes={there}-", "If-Range": tag} if there else {}
    with _reaching(address):
        try:
            answer: http.client.HTTPResponse = urllib.request.urlopen(
                urllib.request.Request(address, headers=headers), timeout=TIMEOUT
            )
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            return None
        return answer


def _see_room(needed: int, folder: Path, address: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(f"{address} takes {needed:,} bytes, and only {free:,} are free in {folder}")


def _read(answer: http.client.HTTPResponse, address: str) -> bytes:
    with _reaching(address):
        return answer.read(CHUNK)


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    """Whatever the network does becomes one line."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise ConfigError(f"can't fetch {address}: the server answers {error.code} ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise ConfigError(f"can't reach {address}: {' '.join(reason.split())}") from None


def _unpack(archive: Path, folder: Path, address: str) -> Path:
    """The folder in an archive; whatever is wrong with that becomes one line."""
    try:
        (_unpack_zip if address.endswith(".zip") else _unpack_tar)(archive, folder)
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno in OF_THE_DISK:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadArchiveError(f"{address}: what came is no good archive ({reason}); try again") from None
    top = folder / address.rpartition("/")[2].partition(".")[0]
    return top if top.is_dir() else folder


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            path = PureWindowsPath(member.filename)  # which knows both slashes
            if path.anchor or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
                raise zipfile.BadZipFile(f"it would write outside its folder: {member.filename}")
        broken = opened.testzip()
        if broken is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {broken}")
        opened.extractall(folder)


def _unpack_tar(archive: Path, folder: Path) -> None:
    with gzip.open(archive) as stream:
        with tarfile.open(fileobj=stream) as opened:
            opened.extractall(folder, filter=_plain)
        while stream.read(CHUNK):  # the checksum stands at the end, behind what tar reads
            pass


def _plain(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Files and folders alone: Python's own check lets links through that have led outside in some of its versions."""
    if not (member.isfile() or member.isdir()):
        raise tarfile.ReadError(f"it holds a link or a device: {member.name}")
    return tarfile.data_filter(member, folder)


def _count_images(folder: Path) -> dict[str, int]:
    """How many there are in each sub-folder."""
    return {
        part.name: sum(path.suffix.lower() in EXTENSIONS for path in part.rglob("*"))
        for part in sorted(folder.iterdir())
        if part.is_dir()
    }


def _images_of_phases(folder: Path, address: str, *, name: str) -> str:
    """How many there are, or a refusal if a folder that is needed is missing or has nothing in it."""
    images = _count_images(folder)
    if name in PAIRED_NAMES:
        needed = ["train", "val" if "val" in images else "test"]
    elif name == "ae_photos":  # nothing to train on
        needed = [*images] or ["testA"]
    else:
        needed = ["trainA", "trainB", "testA", "testB"]
    empty = [phase for phase in needed if not images.get(phase)]
    if empty:
        raise BadArchiveError(f"{address}: the archive holds no images in {', '.join(empty)}")
    return ", ".join(f"{phase} {count}" for phase, count in images.items()) + " images"


def _images_in_lmdb(folder: Path, address: str) -> str:
    try:
        return f"{open_database(folder).state().entries:,} images"
    except ConfigError:
        raise BadArchiveError(f"{address}: the archive holds no LMDB, or an empty or damaged one") from None
