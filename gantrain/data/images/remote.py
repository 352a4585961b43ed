"""Ranges of files at URLs, and those of them that are kept on the disk."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from gantrain.config.extras import is_web, open_url, without_credentials
from gantrain.data.names import is_ignored
from gantrain.errors import ConfigError, reason_of
from gantrain.runtime.atomic import MIN_LEFTOVER_AGE, atomic_write, cache_dir, is_leftover, remove_if_unused

T = TypeVar("T")

KEY = "data.root"
WAITS = (0.5, 1.0, 2.0, 4.0)  # Seconds before each further attempt.
TRANSIENT = (408, 425, 429)  # And from 500 on: HTTP errors that another attempt may not meet.
AT_ONCE = 8 << 20  # Bytes of a request where a file is read from the beginning to the end.
# What storages call the version of a file; the first that is there identifies its content.
VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "Content-MD5")
TIMES = ("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "created")
FOLDERS = 3  # Hexadecimal digits: the files of the cache are in as many sub-folders as they count.
CHECKSUM = 4  # In bytes.
STEP = 0.02  # After having written this fraction of the limit, a process looks at the size of the whole cache.
TRIMMED = 0.8  # The fraction of the limit to which it deletes files.
MAX_FREE_SHARE = 0.8  # As of the cache of decoded images.


class UnreachableConfigError(ConfigError):
    """A storage can't be read at all, which ``data.on_error=skip`` does not hide."""


def status_of(url: str) -> tuple[int, str]:
    """The size of a file in bytes, and what changes if its content does.

    Raises:
        UnreachableConfigError: It is not there or can't be read in ranges, or the storage does not answer.
    """

    def read() -> dict[str, Any]:
        files, path = open_url(url, KEY)
        files.invalidate_cache()
        info: dict[str, Any] = files.info(path)
        if info.get("size") and is_web(url):
            with files.open(path, cache_type="none", block_size=AT_ONCE, size=info["size"]) as file:
                file.seek(info["size"] - 1)
                file.read(1)
        return info

    info = attempt(url, read)
    if info.get("size") is None or not info.get("partial", True):
        raise _no_ranges(url)
    version = next((str(info[key]) for key in (*VERSIONS, *TIMES) if info.get(key)), "")
    return info["size"], version or hashlib.blake2b(url.encode(), digest_size=8).hexdigest()


def listed(url: str) -> list[str]:
    """The URLs in a folder, or those that match a pattern (``*``), sorted, without hidden ones.

    Raises:
        UnreachableConfigError: It is not there, or the storage does not answer.
    """

    def read() -> list[str]:
        files, path = open_url(url, KEY)
        files.invalidate_cache()
        if "*" in url:
            return [str(files.unstrip_protocol(each)) for each in files.glob(path)]
        names = (each.rstrip("/").rpartition("/")[2] for each in files.ls(path, detail=False))
        return [f"{url.rstrip('/')}/{name}" for name in names]

    return sorted(each for each in attempt(url, read) if not is_ignored(each.rpartition("/")[2]))


def read_range(url: str, start: int, size: int) -> bytes:
    """Bytes of a file; processes and threads may read at the same time, each process by connections of its own.

    Raises:
        UnreachableConfigError: As for ``status_of``; and the file has become shorter.
    """

    def read() -> bytes:
        files, path = open_url(url, KEY)
        content: bytes = files.cat_file(path, start=start, end=start + size)
        if len(content) < size:
            raise OSError(f"it ends after {start + len(content):,} bytes")
        return content

    content = attempt(url, read) if size else b""
    if len(content) > size:
        raise _no_ranges(url)
    return content


def attempt(url: str, action: Callable[[], T]) -> T:
    """The result of an action on a URL, which is repeated after errors that may be transient."""
    for wait in (*WAITS, None):
        try:
            return action()
        except ConfigError:
            raise
        except Exception as error:  # Drivers have their own.
            cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
            if wait is None or not _may_be_transient(cause):
                raise UnreachableConfigError(
                    f"{KEY}: can't read {without_credentials(url)}: {_reason(url, cause)}"
                ) from None
        time.sleep(wait)
    raise AssertionError


def _may_be_transient(error: BaseException) -> bool:
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(status, int):
        return status >= 500 or status in TRANSIENT
    final = isinstance(error, (FileNotFoundError, IsADirectoryError, PermissionError)) or _lacks_ranges(error)
    return not final and "credentials" not in str(error).lower()


def _lacks_ranges(error: BaseException) -> bool:
    """Whether fsspec says so of a server."""
    return isinstance(error, ValueError) and "range requests" in str(error)


def _reason(url: str, error: BaseException) -> str:
    status, message = getattr(error, "status", None), getattr(error, "message", "")
    if _lacks_ranges(error):
        return str(_no_ranges(url)).rpartition(": ")[2]
    if isinstance(error, FileNotFoundError) or status == 404:
        return "there is no such file or folder"
    if isinstance(status, int) and status >= 400:
        text = f"{status} {message}"
    else:
        text = without_credentials(reason_of(error).replace(url, without_credentials(url)))
    denied = isinstance(error, PermissionError) or status in (401, 403) or "credentials" in text.lower()
    return f"{text}; check the credentials" if denied else text


def _no_ranges(url: str) -> UnreachableConfigError:
    return UnreachableConfigError(
        f"{KEY}: can't read {without_credentials(url)}: the server answers no requests for ranges of bytes; copy the "
        "shards, or serve them with another one"
    )


class RangeReader(io.RawIOBase):
    """A file at a URL for ``io.BufferedReader``."""

    def __init__(self, url: str, size: int) -> None:
        super().__init__()
        self._url, self._size, self._position = url, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read into a writable buffer; return the number of bytes, 0 at the end."""
        size = max(0, min(len(buffer), self._size - self._position))
        buffer[:size] = read_range(self._url, self._position, size)
        self._position += size
        return size


class RangeCache:
    """Ranges of files on the disk, for all processes and runs, of which those read least recently are deleted.

    A file is its checksum and the range. One that a killed process or a full disk has left incomplete, or that is
    corrupt, is as good as none.

    Args:
        limit: Bytes of all files together; 0 to store none.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._unchecked: float | None = None  # Bytes written since the size of all files was checked.

    def get(self, key: str, size: int) -> bytes | None:
        """A range, if it is there."""
        path = _path(key)
        with suppress(OSError):
            content = path.read_bytes() if self.limit else b""
            if len(content) == CHECKSUM + size and _checksum(content[CHECKSUM:]) == content[:CHECKSUM]:
                with suppress(OSError):  # It may belong to another user.
                    os.utime(path)
                return content[CHECKSUM:]
        return None

    def put(self, key: str, content: bytes) -> None:
        """Store a range, unless the disk is full or can't be written."""
        size = len(content) + CHECKSUM
        if size > self.limit * (1 - TRIMMED):
            return
        with suppress(OSError):
            if self._unchecked is None or self._unchecked + size > STEP * self.limit:
                self._trim()
                self._unchecked = 0
            self._unchecked += size
            path = _path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, sync=False) as file:
                file.write(_checksum(content) + content)

    def _trim(self) -> None:
        """Delete what killed processes have left, and the files read least recently beyond the limit."""
        files, total = [], 0
        _folder().mkdir(parents=True, exist_ok=True)
        for folder in os.scandir(_folder()):
            for entry in os.scandir(folder):
                with suppress(OSError):
                    path, status = Path(entry.path), entry.stat()
                    if is_leftover(path) and time.time() - status.st_mtime > MIN_LEFTOVER_AGE:
                        remove_if_unused(path)
                        continue
                    files.append((status.st_mtime_ns, status.st_size, path))
                    total += status.st_size
        free = shutil.disk_usage(_folder()).free
        limit = TRIMMED * min(self.limit, total + MAX_FREE_SHARE * free)
        for _, size, path in sorted(files):
            if total <= limit:
                return
            path.unlink(missing_ok=True)
            total -= size


def _folder() -> Path:
    return cache_dir() / "ranges"


def _path(key: str) -> Path:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return _folder() / digest[:FOLDERS] / digest[FOLDERS:]


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(CHECKSUM, "little")
