"""One checkpoint file: sealed when it is written, checked when it is read, never trusted."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import torch

from gantrain.registry import ConfigError
from gantrain.upgrades import FORMAT, upgraded

# A seal is the file's last bytes, the comment of the zip archive that torch writes, so that torch still reads the file.
MARK = b"gantrain sealed with blake2b: "
DIGEST = 32  # bytes
SEALED_SINCE = 3  # format
BLOCK = 1 << 20


class DamagedError(ConfigError):
    """A file that is not what was written."""


def write(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``; the file appears under its name only once it is whole and on the disk.

    Raises:
        ConfigError: It can't be written; what was there before is untouched.
    """
    scratch = path.with_suffix(".tmp")
    try:
        try:
            with scratch.open("w+b") as file:
                patient = _Patient(file)
                with suppress(RuntimeError):  # torch's own, once it has noticed that its writing failed
                    torch.save({"format": FORMAT, **state}, cast(IO[bytes], patient))
                if patient.error is not None:
                    raise patient.error
                _seal(file)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
            _settle(path.parent)
        finally:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"can't write {path}: {error.strerror or error}; it takes {_bytes(size_of(state))}{_free(path.parent)}"
        ) from None


def read(path: Path) -> dict[str, Any]:
    """The state in a file, on the CPU, brought to the newest format.

    Raises:
        DamagedError: It is cut off or changed.
        ConfigError: It is foreign, holds code, or is of a newer gantrain.
    """
    try:
        with path.open("rb") as file:
            sealed = _check(file, path)
            # never pickled code: a checkpoint may come from anywhere
            state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DamagedError(
            f"can't read {path}: it is damaged, or holds code, which is never run (no checkpoint of gantrain does)"
        ) from None
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror or error}") from None
    except (ConfigError, MemoryError):
        raise
    except Exception as error:  # bytes from anywhere make torch raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedError(f"can't read {path}: it is damaged ({reason})") from None
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        raise ConfigError(f"{path} is not a checkpoint of gantrain")
    if state["format"] > FORMAT:
        raise ConfigError(
            f"{path} was written by a newer gantrain (format {state['format']}, this one reads {FORMAT}): upgrade"
        )
    if state["format"] >= SEALED_SINCE and not sealed:
        raise DamagedError(f"can't read {path}: it is damaged (its seal is gone)")
    return upgraded(state)


def size_of(state: Any) -> int:
    """Bytes of all tensors in a nested state."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(map(size_of, state.values()))
    return sum(map(size_of, state)) if isinstance(state, (list, tuple)) else 0


class _Patient:
    """A file that torch writes to: its first error is kept, since torch loses it, and the rest is let go."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Nothing: the file is flushed at its end."""


def _seal(file: IO[bytes]) -> None:
    """Add the digest of all that comes before it."""
    length = len(MARK) + DIGEST
    file.seek(-2, os.SEEK_END)
    file.write(length.to_bytes(2, "little"))  # of the archive's comment, which was empty
    file.write(MARK)
    end = file.tell()
    file.write(_digest(file, end))


def _check(file: IO[bytes], path: Path) -> bool:
    """Whether a file has a seal, which then fits."""
    end = file.seek(0, os.SEEK_END) - DIGEST
    sealed = False
    if end >= len(MARK):
        file.seek(end - len(MARK))
        sealed = file.read(len(MARK)) == MARK
        if sealed and file.read() != _digest(file, end):
            raise DamagedError(f"can't read {path}: it is damaged (its checksum is another)")
    file.seek(0)
    return sealed


def _digest(file: IO[bytes], end: int) -> bytes:
    """Of the first ``end`` bytes; the place in the file is after them."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    file.seek(0)
    while missing := end - file.tell():
        block = file.read(min(BLOCK, missing))
        if not block:
            break
        digest.update(block)
    return digest.digest()


def _settle(folder: Path) -> None:
    """Have the names in a folder written to the disk, where the system can."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _free(folder: Path) -> str:
    try:
        return f", {_bytes(shutil.disk_usage(folder).free)} are free"
    except OSError:
        return ""


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.2f} GB"
