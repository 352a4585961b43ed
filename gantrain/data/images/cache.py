"""Caches of decoded and scaled images, on the disk or in memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import PIL
import torch

from gantrain.config.schema import Range
from gantrain.data.images.remote import UnreachableConfigError
from gantrain.data.images.store import DecodeJob, FileStore, ImageCache, ImageStore, Pixels, write_images
from gantrain.errors import ConfigError
from gantrain.runtime import console, distributed
from gantrain.runtime.atomic import cache_dir, file_lock, remove_if_unused
from gantrain.runtime.memory import free_memory
from gantrain.runtime.parallel import in_parallel

CacheMode: TypeAlias = Literal["auto", "disk", "memory", "off"]
Gigabytes: TypeAlias = Annotated[float, Range(above=0)]

GB = 10**9
SUFFIX = ".images"
SAMPLE_SIZE = 16  # The number of images decoded to estimate the size and time of all.
MIN_DECODE_SECONDS = 2.0  # Seconds of one core for all images; `auto` stores nothing that takes less.
MAX_FREE_SHARE = 0.8  # The fraction of the free space that is used; other processes need some too.
REMEDY = "set data.cache=off, or GANTRAIN_CACHE to a folder on a larger disk"


@dataclass(frozen=True, kw_only=True)
class Cache(ImageCache):
    """Stores decoded images as configured by the keys ``data.cache`` and ``data.cache_limit``."""

    # ``disk`` stores decoded images in $GANTRAIN_CACHE, for all runs and processes; ``memory`` stores them in each
    # training process, for this run; ``auto`` is ``disk`` if there is space and decoding all images takes two seconds
    # of a core or more, and otherwise ``off``.
    cache: CacheMode = "off"
    # Gigabytes (10^9 bytes) of all caches on the disk, or of what this object stores in memory. A cache never takes
    # more than four fifths of the free disk or memory. On the disk, the least recently used caches that no process has
    # open are evicted for new ones. With ``disk`` and ``auto``, files that are read from a URL take at most as much.
    cache_limit: Gigabytes = 50
    encoded_only: bool = False  # Whether only files that are read from a URL are stored.
    skips: bool = False  # Whether unreadable images are left out instead of ending the run.
    stop: Callable[[], bool] = lambda: False  # Called while images are decoded; returns whether to stop.
    _bytes_in_memory: list[int] = field(init=False, repr=False, default_factory=list)  # For each domain.

    @property
    def bytes_of_files(self) -> float:
        """The limit of the encoded images on the disk that are read from elsewhere."""
        return self.cache_limit * GB if self.cache in ("auto", "disk") else 0

    def get_or_build(self, job: DecodeJob) -> ImageStore | None:
        if self.cache == "off" or self.encoded_only:
            return None
        if self.cache == "memory":
            return self._in_memory(job)
        try:
            with distributed.rank_zero_first():
                return self._on_disk(job)
        except _NoSpaceError as error:
            reason = str(error)
        except OSError as error:
            reason = f"images can't be stored in {_folder()} ({error.strerror or error}): {REMEDY}"
        if self.cache == "disk":
            raise ConfigError(f"data.cache=disk: {reason}")
        if distributed.rank() == 0:
            console.err(f"warning: data.cache=auto: not used, as {reason}")
        return None

    def _in_memory(self, job: DecodeJob) -> ImageStore:
        needed, _ = self._estimate(job)
        unused = self.cache_limit * GB - sum(self._bytes_in_memory)
        available = min(unused, MAX_FREE_SHARE * free_memory() / distributed.local_world_size())
        if needed > available:
            raise ConfigError(
                f"data.cache=memory: {job.label} needs {_gb(needed)}, and {_gb(available)} are available (the rest of "
                "data.cache_limit, or four fifths of the free memory): set data.cache=disk or off, or a smaller "
                "data.load_size"
            )
        images = dict(self._decode_all(job))
        self._bytes_in_memory.append(sum(pixels.nbytes for pixels in images.values()))
        return images

    def _on_disk(self, job: DecodeJob) -> ImageStore | None:
        cpu = torch.backends.cpu.get_cpu_capability()  # Decoded and scaled values depend on it and on the libraries.
        identity = {**job.identity(), "pillow": PIL.__version__, "torch": torch.__version__, "cpu": cpu}
        digest = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=12).hexdigest()
        path = _folder() / f"{digest}{SUFFIX}"
        store = _open(path, identity)
        if store is not None:
            return store
        needed, seconds = self._estimate(job)
        if self.cache == "auto" and seconds < MIN_DECODE_SECONDS:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        message = f"Waiting for another process that decodes {job.label}"
        with file_lock(path, message, wait=self._raise_if_stopped):
            store = _open(path, identity)  # Another process may just have written it.
            if store is None:
                self._reserve(job, path.parent, needed)
                write_images(path, identity, self._decode_all(job))
                store = FileStore(path, identity)
        return store

    def _reserve(self, job: DecodeJob, folder: Path, needed: int) -> None:
        limit = self.cache_limit * GB
        free = shutil.disk_usage(folder).free
        available = min(limit, used_bytes(folder) + MAX_FREE_SHARE * free)
        if needed <= available:  # Otherwise other caches would be evicted in vain.
            evict(folder, needed, available)
        used = used_bytes(folder)
        if used + needed <= available:
            return
        if available < limit:
            reason = f"only {_gb(free)} are free, a fifth of which is left alone: {REMEDY}"
        else:
            reason = (
                f"caches use {_gb(used)} already, and data.cache_limit is {self.cache_limit:g}: "
                f"raise it to {-(-(used + needed) // GB)}, or {REMEDY}"
            )
        raise _NoSpaceError(f"{job.label} needs {_gb(needed)} in {folder}, where {reason}")

    def _estimate(self, job: DecodeJob) -> tuple[int, float]:
        """Bytes of all images, and seconds of one core, from a sample."""
        sizes, start, count = [], 0.0, len(job.indices)
        for position in np.linspace(0, count - 1, min(SAMPLE_SIZE, count)).astype(int):
            pixels = self._decode(job, int(job.indices[position]))
            sizes.append(0 if pixels is None else pixels.nbytes)
            start = start or time.thread_time()  # The first image is not timed: it may load decoders.
        seconds = (time.thread_time() - start) / max(1, len(sizes) - 1)
        return round(np.mean(sizes) * count), seconds * count

    def _decode(self, job: DecodeJob, index: int) -> Pixels | None:
        try:
            return job.decode(index)
        except ConfigError as error:
            if not self.skips or isinstance(error, UnreachableConfigError):
                raise
        return None

    def _decode_all(self, job: DecodeJob) -> Iterator[tuple[int, Pixels]]:
        decode, indices = partial(self._decode, job), job.indices.tolist()
        images = in_parallel(decode, indices, total=len(indices), label=f"decoding {job.label}")
        with _single_threaded_torch():
            for index, pixels in zip(indices, images, strict=True):
                self._raise_if_stopped()
                if pixels is not None:
                    yield index, pixels

    def _raise_if_stopped(self) -> None:
        if self.stop():
            raise KeyboardInterrupt


class _NoSpaceError(Exception):
    """There is not enough space for a cache."""


def evict(folder: Path, needed: int, limit: float) -> None:
    """Delete leftovers, then the least recently used caches until ``needed`` bytes fit in the limit.

    Files that a process reads or writes are not deleted, so the bytes may still not fit.
    """
    for path in _files(folder):
        if path.suffix != SUFFIX:
            remove_if_unused(path)
    files = _files(folder)
    total = sum(status.st_size for status in files.values())
    for path in sorted(files, key=lambda path: files[path].st_mtime):
        if total + needed <= limit:
            return
        if path.suffix == SUFFIX and remove_if_unused(path):
            total -= files[path].st_size


def used_bytes(folder: Path) -> int:
    """Total size of the files in a folder."""
    return sum(status.st_size for status in _files(folder).values())


def _files(folder: Path) -> dict[Path, os.stat_result]:
    """The files of a folder, without those that are deleted meanwhile."""
    found = {}
    for path in folder.iterdir():
        with suppress(OSError):
            found[path] = path.stat()
    return found


def _folder() -> Path:
    return cache_dir() / "images"


def _open(path: Path, identity: Mapping[str, Any]) -> FileStore | None:
    """Open a cache and mark it as just used; None if there is none of that identity."""
    try:
        store = FileStore(path, identity)
    except (OSError, ValueError):
        return None
    with suppress(OSError):  # It may belong to another user, or be on a read-only disk.
        os.utime(path)
    return store


@contextmanager
def _single_threaded_torch() -> Iterator[None]:
    """Images are decoded in as many threads as there are cores, each of which needs one of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _gb(count: float) -> str:
    return f"{count / GB:.3g} GB"
