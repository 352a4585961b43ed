"""One checkpoint file: written with a checksum, verified when read, never trusted."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import torch

from gantrain.checkpoints.bounded import BombError, load_bounded
from gantrain.checkpoints.upgrades import FORMAT, upgraded
from gantrain.config.side_files import open_regular
from gantrain.errors import ConfigError

# The checksum is stored as the comment of the zip archive that torch writes, at the end of the file, so that torch can
# still read it.
MARK = b"gantrain sealed with blake2b: "
DIGEST_BYTES = 32
COMMENT_BYTES = len(MARK) + DIGEST_BYTES
CHECKSUM_SINCE = 3  # The first format with checksums.
# The entries of a checkpoint in the newest format, by type; the contents of the dictionaries depend on the model.
ENTRIES: dict[type, tuple[str, ...]] = {
    int: ("step", "position", "rollbacks", "images"),
    str: ("fingerprint",),
    list: ("overrides", "ranks", "segments"),
    dict: ("config", "spec", "model", "updates", "objective", "origin", "plan"),
}


class CorruptCheckpointError(ConfigError):
    """The bytes of a checkpoint are not those that were written, or the disk fails to return them."""


def write(state: dict[str, Any], *paths: Path) -> None:
    """Write ``state`` to one file under every path; each appears only once the file is complete and on the disk.

    Raises:
        ConfigError: Writing failed; the files that were there before are unchanged.
    """
    for path, source in zip(paths, (None, *paths), strict=False):
        temporary = path.with_suffix(".tmp")
        try:
            try:
                if source is None or not _hard_link(source, temporary):
                    _write_file(temporary, state)
                temporary.replace(path)
                fsync_path(path.parent)
            finally:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
        except OSError as error:
            message = f"can't write {path}: {error.strerror or error}"
            with suppress(OSError):
                needed, free = _save(state, None).size + COMMENT_BYTES, shutil.disk_usage(path.parent).free
                message += f"; {_format_bytes(needed)} needed, {_format_bytes(free)} free"
            raise ConfigError(message) from None


def read(path: Path) -> dict[str, Any]:
    """The state in a file, with tensors on the CPU, upgraded to the newest format.

    Raises:
        CorruptCheckpointError: The file is truncated or changed, or on a damaged part of the disk.
        ConfigError: It can't be read for another reason, is not a checkpoint, contains pickled code, or was written by
            a newer gantrain.
    """
    try:
        with open_regular(path) as file:
            verified = _verify_checksum(file, path)
            if not verified:
                _verify_archive(file, path)
            state = _load(file, path, verified=verified)
    except OSError as error:
        message = f"can't read {path}: {error.strerror or error}"
        if error.errno in (errno.EIO, errno.ENOENT, errno.ELOOP, None):  # The disk fails, or there is no file.
            raise CorruptCheckpointError(message) from None
        raise ConfigError(f"{message}; make it readable, or remove it") from None
    version = state.get("format") if isinstance(state, dict) else None
    if not isinstance(version, int):
        raise ConfigError(f"{path} is not a checkpoint of gantrain")
    if version > FORMAT:
        raise ConfigError(
            f"{path} was written by a newer gantrain (format {version}, this one reads {FORMAT}): upgrade gantrain"
        )
    if version >= CHECKSUM_SINCE and not verified:
        raise CorruptCheckpointError(f"can't read {path}: corrupt (no checksum)")
    try:
        state = upgraded(state)
    except (KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} is not a checkpoint of gantrain") from None
    if missing := [key for kind, keys in ENTRIES.items() for key in keys if not isinstance(state.get(key), kind)]:
        raise ConfigError(f"{path} is not a checkpoint of gantrain: it has no {missing[0]}")
    if negative := next((key for key in ("step", "rollbacks", "images") if state[key] < 0), None):
        raise ConfigError(f"{path} is not a checkpoint of gantrain: its {negative} is {state[negative]}")
    return state


# ---- writing


class _ErrorDeferringFile:
    """A file for ``torch.save``, which loses an ``OSError``: it stores the first, and then only counts the bytes.

    Without a ``file``, it only counts them.
    """

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file = file
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.size += len(data)
        if self._file is not None and self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Does nothing: ``_write_file`` flushes at the end."""


def _save(state: dict[str, Any], file: IO[bytes] | None) -> _ErrorDeferringFile:
    deferring = _ErrorDeferringFile(file)
    torch.save({"format": FORMAT, **state}, cast(IO[bytes], deferring))
    return deferring


def _write_file(path: Path, state: dict[str, Any]) -> None:
    if path.is_symlink():  # It could lead to any file.
        path.unlink()
    with path.open("w+b") as file:
        if error := _save(state, file).error:
            raise error
        file.seek(-2, os.SEEK_END)
        file.write(COMMENT_BYTES.to_bytes(2, "little"))  # The length of the archive's comment, which was 0.
        file.write(MARK)
        file.write(_digest(file, file.tell()))
        file.flush()
        os.fsync(file.fileno())


def _hard_link(source: Path, path: Path) -> bool:
    """Create a hard link to ``source``; return False on a file system without hard links."""
    try:
        path.unlink(missing_ok=True)
        os.link(source, path)
    except OSError:
        return False
    return True


def fsync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk where the system supports that."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # A named pipe would block.
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _format_bytes(count: int) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


# ---- reading


def _verify_checksum(file: IO[bytes], path: Path) -> bool:
    """Whether a file has a checksum; raise ``CorruptCheckpointError`` if it does not match."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - COMMENT_BYTES))
    if file.read(len(MARK)) != MARK:
        return False
    if file.read() != _digest(file, size - DIGEST_BYTES):
        raise CorruptCheckpointError(f"can't read {path}: corrupt (checksum mismatch)")
    return True


def _digest(file: IO[bytes], end: int) -> bytes:
    """The digest of the first ``end`` bytes; leaves the file position there."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    file.seek(0)
    while block := file.read(min(1 << 20, end - file.tell())):
        digest.update(block)
    return digest.digest()


def _verify_archive(file: IO[bytes], path: Path) -> None:
    """Verify the checksums of the zip archive's members, for formats before ``CHECKSUM_SINCE``."""
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except Exception:  # zipfile raises anything for arbitrary bytes.
        raise CorruptCheckpointError(f"can't read {path}: corrupt (no zip archive, or a truncated one)") from None
    if broken is not None:
        raise CorruptCheckpointError(f"can't read {path}: corrupt (checksum mismatch in {broken})")


def _load(file: IO[bytes], path: Path, *, verified: bool) -> Any:
    """Load a file without running pickled code; ``verified`` if it has a checksum."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about content that is then refused.
            return load_bounded(file)
    except BombError as error:
        raise ConfigError(f"can't read {path}: {error}; only load checkpoints that gantrain wrote") from None
    except pickle.UnpicklingError:
        raise ConfigError(
            f"can't read {path}: it contains pickled code, which is never run (gantrain's checkpoints contain none)"
        ) from None
    except Exception as error:  # torch raises anything for arbitrary bytes.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if verified:  # The file is not corrupt: memory ran out, or another program wrote the file and its checksum.
            raise ConfigError(f"can't read {path}: {reason}") from None
        raise CorruptCheckpointError(f"can't read {path}: corrupt ({reason})") from None
