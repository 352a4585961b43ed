"""One checkpoint file: sealed when it is written, checked when it is read, never trusted."""

from __future__ import annotations

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

from gantrain.checkpoints.upgrades import FORMAT, upgraded
from gantrain.errors import ConfigError

# A seal is the file's last bytes, the comment of the zip archive that torch writes, so that torch still reads the file.
MARK = b"gantrain sealed with blake2b: "
DIGEST = 32  # bytes
SEAL = len(MARK) + DIGEST
SEALED_SINCE = 3  # format
BLOCK = 1 << 20
# of the newest format; the rest is of the model's making
CONTENT = {
    "step": int,
    "position": int,
    "rollbacks": int,
    "images": int,
    "fingerprint": str,
    "overrides": list,
    "ranks": list,
    "config": dict,
    "spec": dict,
    "model": dict,
    "updates": dict,
    "objective": dict,
}


class DamagedError(ConfigError):
    """A file that is not what was written."""


def write(state: dict[str, Any], *paths: Path) -> None:
    """Write ``state``, one file under every name; it appears under each only once it is whole and on the disk.

    Raises:
        ConfigError: It can't be written; what was there before is untouched.
    """
    for path, other in zip(paths, (None, *paths), strict=False):
        scratch = path.with_suffix(".tmp")
        try:
            try:
                if other is None or not _is_linked(other, scratch):
                    _fill(scratch, state)
                scratch.replace(path)
                fsync_path(path.parent)
            finally:
                with suppress(OSError):
                    scratch.unlink(missing_ok=True)
        except OSError as error:
            needed = f"it takes {_amount(_size(state))}{_free(path.parent)}"
            raise ConfigError(f"can't write {path}: {error.strerror or error}; {needed}") from None


def read(path: Path) -> dict[str, Any]:
    """The state in a file, on the CPU, brought to the newest format.

    Raises:
        DamagedError: It is cut off or changed.
        ConfigError: It is foreign, holds code, or is of a newer gantrain.
    """
    try:
        with path.open("rb") as file:
            sealed = _is_sealed(file, path)
            if not sealed:
                _check_archive(file, path)
            state = _content(file, path, sealed=sealed)
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror or error}") from None
    version = state.get("format") if isinstance(state, dict) else None
    if not isinstance(version, int):
        raise ConfigError(f"{path} is not a checkpoint of gantrain")
    if version > FORMAT:
        raise ConfigError(
            f"{path} was written by a newer gantrain (format {version}, this one reads {FORMAT}): upgrade"
        )
    if version >= SEALED_SINCE and not sealed:
        raise DamagedError(f"can't read {path}: it is damaged (its seal is gone)")
    try:
        state = upgraded(state)
    except (KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} is not a checkpoint of gantrain") from None
    if missing := [key for key, kind in CONTENT.items() if not isinstance(state.get(key), kind)]:
        raise ConfigError(f"{path} is not a checkpoint of gantrain: it has no {missing[0]}")
    return state


# ---- writing


class _ErrorDeferringFile:
    """A file that torch writes to: its first error is kept, since torch loses it, and the rest is counted and let go.

    Args:
        file: None for one of which nothing is wanted but its size.

    Attributes:
        size: In bytes.
        error: None if there was none.
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
        """Nothing: the file is flushed at its end."""


def _save(state: dict[str, Any], file: _ErrorDeferringFile) -> None:
    torch.save({"format": FORMAT, **state}, cast(IO[bytes], file))


def _size(state: dict[str, Any]) -> int:
    """Bytes of its file."""
    nowhere = _ErrorDeferringFile(None)
    _save(state, nowhere)
    return nowhere.size + SEAL


def _fill(scratch: Path, state: dict[str, Any]) -> None:
    with scratch.open("w+b") as file:
        patient = _ErrorDeferringFile(file)
        _save(state, patient)
        if patient.error is not None:
            raise patient.error
        file.seek(-2, os.SEEK_END)
        file.write(SEAL.to_bytes(2, "little"))  # of the archive's comment, which was empty
        file.write(MARK)
        file.write(_digest(file, file.tell()))
        file.flush()
        os.fsync(file.fileno())


def _is_linked(path: Path, scratch: Path) -> bool:
    """Whether the file has got another name, which not every disk can give."""
    try:
        scratch.unlink(missing_ok=True)
        os.link(path, scratch)
    except OSError:
        return False
    return True


def fsync_path(place: Path) -> None:
    """Have a file, or the names in a folder, written to the disk, where the system can."""
    with suppress(OSError):
        number = os.open(place, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _free(folder: Path) -> str:
    try:
        return f", {_amount(shutil.disk_usage(folder).free)} are free"
    except OSError:
        return ""


def _amount(count: int) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


# ---- reading


def _is_sealed(file: IO[bytes], path: Path) -> bool:
    """Whether a file has a seal, which then fits."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - SEAL))
    if file.read(len(MARK)) != MARK:
        return False
    if file.read() != _digest(file, size - DIGEST):
        raise DamagedError(f"can't read {path}: it is damaged (its checksum is another)")
    return True


def _digest(file: IO[bytes], end: int) -> bytes:
    """Of the first ``end`` bytes; the place in the file is after them."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    file.seek(0)
    while block := file.read(min(BLOCK, end - file.tell())):
        digest.update(block)
    return digest.digest()


def _check_archive(file: IO[bytes], path: Path) -> None:
    """The checksums that any zip archive has, for files from before there were seals."""
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except Exception:  # bytes from anywhere
        raise DamagedError(f"can't read {path}: it is damaged (it is no archive, or half of one)") from None
    if broken is not None:
        raise DamagedError(f"can't read {path}: it is damaged ({broken} has another checksum)")


def _content(file: IO[bytes], path: Path, *, sealed: bool) -> Any:
    """What torch finds in a file whose bytes are those that were written, if it is ``sealed``."""
    file.seek(0)
    try:
        # never pickled code: a checkpoint may come from anywhere; torch warns of what is then refused
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ConfigError(
            f"can't read {path}: it holds code, which is never run (no checkpoint of gantrain does)"
        ) from None
    except Exception as error:  # bytes from anywhere make torch raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if sealed:  # the machine's fault, or the sender's
            raise ConfigError(f"can't read {path}: {reason}") from None
        raise DamagedError(f"can't read {path}: it is damaged ({reason})") from None
