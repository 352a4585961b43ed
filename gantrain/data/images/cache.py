"""Images decoded and scaled once, then taken from the disk or from memory: whether, and where."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from gantrain.config.schema import Range
from gantrain.data.images.cache_file import SUFFIX, ImageFile, ImageStore, make_room, taken, write_images
from gantrain.data.images.decoding import Pixels
from gantrain.errors import ConfigError
from gantrain.runtime import distributed
from gantrain.runtime.atomic import cache_folder, one_at_a_time
from gantrain.runtime.parallel import in_parallel

CacheMode: TypeAlias = Literal["auto", "disk", "memory", "off"]
Gigabytes: TypeAlias = Annotated[float, Range(above=0)]

GB = 10**9
SAMPLE = 16  # images decoded to see what all of them take
MIN_DECODE_SECONDS = 2.0  # seconds of one core for all images, from which on `auto` keeps them
MAX_FREE_SHARE = 0.8  # of what is free, what a cache may take: the rest of the machine wants some too
WAYS = "set data.cache=off, or GANTRAIN_CACHE to a folder on a larger disk"


@dataclass(frozen=True)
class DecodeJob:
    """What there is to decode.

    Attributes:
        label: How messages name it.
        identity: Tells all that the decoded images depend on, as plain values, for which it may look at every file.
        count: How many there are.
        decode: Makes one of them, by number: (H, W, C). Called in threads.
    """

    label: str
    identity: Callable[[], Mapping[str, Any]]
    count: int
    decode: Callable[[int], Pixels]


@dataclass(frozen=True)
class InMemory(ImageStore):
    """Images of this process and of those forked from it; a spawned one gets a copy."""

    images: list[Pixels | None]

    def get(self, index: int) -> Pixels | None:
        """(H, W, C)."""
        return self.images[index]


@dataclass(frozen=True)
class Subset(ImageStore):
    """Images with numbers of their own among those below."""

    below: ImageStore
    numbers: NDArray[np.int64]

    def get(self, index: int) -> Pixels | None:
        """(H, W, C); None for one that is not among them."""
        place = int(np.searchsorted(self.numbers, index))
        return self.below.get(place) if place < len(self.numbers) and self.numbers[place] == index else None


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Where decoded images are kept.

    Attributes:
        cache: ``disk`` keeps them in ``cache_folder``, for all runs and processes; ``memory`` in that of each process
            that trains, for this run; ``auto`` on the disk where there is room and decoding all takes a core two
            seconds or more; ``off`` nowhere.
        cache_limit: Gigabytes (10^9 bytes) that all caches on the disk may take, or what this object keeps in memory.
            Of what is free on the disk or in memory, a cache never takes more than four fifths. For new ones on the
            disk, those that no process uses and that were used longest ago make room.
        skips: Whether images that can't be read are left out, and not the end.
        stop: Asked while images are decoded, whether to stop.
    """

    cache: CacheMode = "off"
    cache_limit: Gigabytes = 50
    skips: bool = False
    stop: Callable[[], bool] = lambda: False
    _held: list[int] = field(init=False, repr=False, default_factory=list)  # bytes in memory, of each domain

    def get_or_build(self, work: DecodeJob) -> ImageStore | None:
        """The images, decoded now if they are not yet; None where they are not kept.

        Raises:
            ConfigError: An image can't be read; or there is no room, and the cache was asked for.
            KeyboardInterrupt: It was to stop.
        """
        if self.cache == "off":
            return None
        if self.cache == "memory":
            return self._in_memory(work)
        try:
            with distributed.rank_zero_first():
                return self._on_disk(work)
        except _NoRoomError as error:
            reason = str(error)
        except OSError as error:
            reason = f"images can't be kept in {_folder()} ({error.strerror or error}): {WAYS}"
        if self.cache == "disk":
            raise ConfigError(f"data.cache=disk: {reason}")
        _say(f"warning: data.cache=auto: not used, as {reason}")
        return None

    def _in_memory(self, work: DecodeJob) -> ImageStore:
        needed, _ = self._estimate(work)
        left = self.cache_limit * GB - sum(self._held)
        room = min(left, MAX_FREE_SHARE * _free_memory() / distributed.local_world_size())
        if needed > room:
            raise ConfigError(
                f"data.cache=memory: {work.label} takes {_gb(needed)}, of {_gb(room)} (what is left of "
                "data.cache_limit, or four fifths of the free memory): set data.cache=disk or off, or a smaller "
                "data.load_size"
            )
        images = list(self._images(work))
        self._held.append(sum(pixels.nbytes for pixels in images if pixels is not None))
        return InMemory(images)

    def _on_disk(self, work: DecodeJob) -> ImageStore | None:
        identity = {**work.identity(), **_libraries()}
        folder = _folder()
        path = folder / f"{_name(identity)}{SUFFIX}"
        kept = _open(path, identity)
        if kept is not None:
            return kept
        needed, seconds = self._estimate(work)
        if self.cache == "auto" and seconds < MIN_DECODE_SECONDS:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(path, wait=self._waiting(work)):
            kept = _open(path, identity)  # another process may just have written it
            if kept is None:
                self._make_room(work, folder, needed)
                write_images(path, identity, self._images(work))
                kept = ImageFile(path, identity)
        return kept

    def _make_room(self, work: DecodeJob, folder: Path, needed: int) -> None:
        limit = self.cache_limit * GB
        free = shutil.disk_usage(folder).free
        room = min(limit, taken(folder) + MAX_FREE_SHARE * free)
        if needed <= room:  # else the others would go in vain
            make_room(folder, needed, room)
        there = taken(folder)
        if there + needed <= room:
            return
        if room < limit:
            why = f"only {_gb(free)} are free, a fifth of which is left alone: {WAYS}"
        else:
            why = (
                f"caches take {_gb(there)} already, and data.cache_limit is {self.cache_limit:g}: "
                f"raise it to {-(-(there + needed) // GB)}, or {WAYS}"
            )
        raise _NoRoomError(f"{work.label} takes {_gb(needed)} in {folder}, where {why}")

    def _estimate(self, work: DecodeJob) -> tuple[int, float]:
        """Bytes, and seconds of one core, from some images."""
        sizes, start = [], 0.0
        for number in np.linspace(0, work.count - 1, min(SAMPLE, work.count)).astype(int).tolist():
            pixels = self._decode(work, number)
            sizes.append(0 if pixels is None else pixels.nbytes)
            start = start or time.thread_time()  # the first one may load decoders
        seconds = (time.thread_time() - start) / max(1, len(sizes) - 1)
        return round(np.mean(sizes) * work.count), seconds * work.count

    def _decode(self, work: DecodeJob, number: int) -> Pixels | None:
        try:
            return work.decode(number)
        except ConfigError:
            if not self.skips:
                raise
        return None

    def _images(self, work: DecodeJob) -> Iterator[Pixels | None]:
        label = f"decoding {work.label}"
        with _one_thread_each():
            for pixels in in_parallel(
                lambda number: self._decode(work, number), range(work.count), total=work.count, label=label
            ):
                if self.stop():
                    raise KeyboardInterrupt
                yield pixels

    def _waiting(self, work: DecodeJob) -> Callable[[], None]:
        told: list[str] = []

        def wait() -> None:
            if self.stop():
                raise KeyboardInterrupt
            if not told:
                told.append(f"Waiting for another process that decodes {work.label}")
                _say(told[0])

        return wait


class _NoRoomError(Exception):
    """There is not enough room for a cache."""


def _folder() -> Path:
    return cache_folder() / "images"


def _name(identity: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=12).hexdigest()


def _libraries() -> dict[str, str]:
    """On which the values of decoded and scaled images depend."""
    return {"pillow": PIL.__version__, "torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}


def _open(path: Path, identity: Mapping[str, Any]) -> ImageFile | None:
    """The file, marked as used now; None if there is none that fits."""
    try:
        kept = ImageFile(path, identity)
    except (OSError, ValueError):
        return None
    with suppress(OSError):  # it may be another user's, or on a disk that is only read
        os.utime(path)
    return kept


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Torch leaves it to us to use all cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _free_memory() -> int:
    """Bytes that can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux: half of what is built in
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _gb(count: float) -> str:
    return f"{count / GB:.3g} GB"


def _say(message: str) -> None:
    if distributed.rank() == 0:
        print(message, file=sys.stderr)
