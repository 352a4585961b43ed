"""Files of weights in the folder of ``torch.hub``, downloaded if they are not there."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from gantrain.checkpoints.bounded import load_bounded
from gantrain.data.tools.download import CHUNK, fetch
from gantrain.errors import ConfigError, reason_of
from gantrain.runtime import distributed
from gantrain.runtime.atomic import file_lock
from gantrain.runtime.storage import storage_errors

NAMED_HASH = re.compile(r"-([0-9a-f]{8})\.pth$")  # The end of names in torch.hub: the start of the SHA-256.


def stored_file(address: str, *, also: Sequence[str] = ()) -> tuple[Path, Path | None]:
    """Where the file of a URL is stored in ``$TORCH_HOME/hub/checkpoints``, and the file that is there, if any."""
    folder = Path(torch.hub.get_dir(), "checkpoints")
    target = folder / address.rpartition("/")[2]
    return target, next((path for path in (target, *(folder / name for name in also)) if path.is_file()), None)


def hub_file(address: str, *, also: Sequence[str] = (), needed_by: str, remedy: str) -> Path:
    """The file of weights at a URL, in ``$TORCH_HOME/hub/checkpoints``; rank 0 downloads it if it is not there.

    Args:
        address: Ends with its name in that folder.
        also: Other names that the same file may have there.
        needed_by: What needs it (``metrics.features=inception``), for messages.
        remedy: What else could be done than to put it there, for messages.

    Raises:
        ConfigError: It can't be downloaded or written, or is another file than its name says.
    """
    with distributed.rank_zero_first():
        target, found = stored_file(address, also=also)
        if found is not None:
            return found
        with storage_errors(f"write {target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(target, f"Waiting for another process that downloads {target}"):
                if not target.is_file():
                    _download(address, target, needed_by, remedy)
    return target


def _download(address: str, target: Path, needed_by: str, remedy: str) -> None:
    """Download a file completely or not at all; a later call resumes a partial download."""
    partial = target.with_name(f".{target.name}-unfinished")
    try:
        found = fetch(address, partial, label=target.name)
        if not _is_named(target, digest := _hash(found)):
            shutil.rmtree(partial)
            raise ConfigError(f"{address} is corrupt: its SHA-256 begins with {digest}; try again")
    except ConfigError as error:
        raise ConfigError(f"{needed_by} needs weights: {error}; put the file at {target}, or {remedy}") from None
    found.replace(target)
    shutil.rmtree(partial)


def _hash(path: Path) -> str:
    """The first 8 hexadecimal digits of the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:8]


def _is_named(path: Path, digest: str) -> bool:
    """Whether the name of a file contains its hash, or none."""
    named = NAMED_HASH.search(path.name)
    return named is None or named[1] == digest


def load_weights(path: Path) -> tuple[dict[str, Any], str]:
    """The state dictionary in a file of weights, and the start of the file's hash. No code in it is run.

    Raises:
        ConfigError: It is no such file, or another file than its name says.
    """
    try:
        digest = _hash(path)
    except OSError as error:
        raise ConfigError(f"can't read weights from {path}: {error.strerror or error}") from None
    if not _is_named(path, digest):
        raise ConfigError(f"{path} is corrupt: its SHA-256 begins with {digest}, unlike its name; remove it")
    try:
        with path.open("rb") as file:
            state = load_bounded(file)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise ConfigError(f"{path} is no file of weights ({reason_of(error)})") from None
    if not isinstance(state, dict):
        raise ConfigError(f"{path} is no file of weights: it contains a {type(state).__name__}")
    return state, digest
