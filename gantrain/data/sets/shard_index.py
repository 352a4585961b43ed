"""Memory-mapped indices of the images in tar files, built in one pass over the headers."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gantrain.data.images.formats import EXTENSIONS
from gantrain.data.sets.tar_samples import LABEL, Sample, Shard, samples
from gantrain.errors import ConfigError
from gantrain.runtime import console
from gantrain.runtime.atomic import cache_dir, file_lock
from gantrain.runtime.mapped_file import MappedFile, write_mapped_file

SUFFIX = ".index"
KIND = "images in shards"
IMAGES_AT_ONCE = 4096
MAX_KINDS = 30  # The number of suffixes by which unread files are counted; those with others are counted together.


class Member(NamedTuple):
    """The position of an image, in bytes."""

    shard: int
    start: int
    size: int


class ShardIndex:
    """The images of shards by number, in their order, from a memory-mapped file.

    Attributes:
        digest: Depends on names, labels and the division into shards.
        unread: Number of other files, by what follows the first dot of their names.
        labels: One number per image; -1 for an image without label.

    Raises:
        OSError, ValueError: See ``MappedFile``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = file = MappedFile(path, KIND)
        self.digest: str = file.description["digest"]
        self.unread: dict[str, int] = file.description["unread"]
        self.labels: NDArray[np.int64] = file.arrays["labels"]
        self._names, self._ends = file.arrays["names"], file.arrays["ends"]
        self._members = [file.arrays[key] for key in Member._fields]

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardIndex, (self._path,)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Member:
        return Member(*(int(values[index]) for values in self._members))

    def name(self, index: int) -> str:
        """The name of the member in its shard."""
        start, stop = int(self._ends[index - 1]) if index else 0, int(self._ends[index])
        self._file.verify(start, stop)
        return self._names[start:stop].tobytes().decode("utf-8", "surrogateescape")


def shard_index(shards: Sequence[Shard]) -> ShardIndex:
    """The index of these shards, from ``cache_dir``, where it is built if it is missing.

    Its name is a digest of their paths and states, and of the suffixes of images, so that changed shards get
    another file: replacing one that a process reads would end that process on many network file systems.
    """
    digest = hashlib.blake2b(" ".join(sorted(EXTENSIONS)).encode(), digest_size=16)
    for shard in shards:
        digest.update(shard.identity)
    path = cache_dir() / "shards" / f"{digest.hexdigest()}{SUFFIX}"
    index = _open(path)
    if index is not None:
        return index
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path, f"Waiting for another process that indexes {label(shards)}"):
            if _open(path) is None:  # Otherwise another process has just written it.
                _build(shards, path)
        return ShardIndex(path)
    except OSError as error:
        raise ConfigError(
            f"can't write the index of {label(shards)} as {path} ({error.strerror or error}): set GANTRAIN_CACHE to a "
            "folder with free space"
        ) from None


def _open(path: Path) -> ShardIndex | None:
    with suppress(OSError, ValueError):
        return ShardIndex(path)
    return None


def label(shards: Sequence[Shard]) -> str:
    """The name of shards in messages."""
    return str(shards[0]) + ("" if len(shards) == 1 else f" and {len(shards) - 1:,} more")


def _build(shards: Sequence[Shard], path: Path) -> None:
    """Write the index in one pass over the shards, in constant memory."""
    unread: Counter[str] = Counter()
    digest = hashlib.blake2b(digest_size=16)
    length = 0
    with write_mapped_file(path, KIND) as file:
        found = _numbered(shards, unread)
        while batch := list(itertools.islice(found, IMAGES_AT_ONCE)):
            names = [sample.name.encode("utf-8", "surrogateescape") for _, sample in batch]
            ends = length + np.cumsum([len(name) for name in names])
            file.append("names", np.frombuffer(b"".join(names), np.uint8))
            file.append("ends", ends)
            columns = {
                "labels": [sample.label for _, sample in batch],
                "shard": [shard for shard, _ in batch],
                "start": [sample.start for _, sample in batch],
                "size": [sample.size for _, sample in batch],
            }
            for key, values in columns.items():
                file.append(key, np.asarray(values, dtype=np.int64))
            for (shard, sample), name in zip(batch, names, strict=True):
                digest.update(b"%d %d %s\n" % (shard, sample.label, name))
            length = int(ends[-1])
        if not length:
            raise _no_image(shards, unread)
        file.description = {"digest": digest.hexdigest(), "unread": unread}


def _numbered(shards: Sequence[Shard], unread: Counter[str]) -> Iterator[tuple[int, Sample]]:
    """Yield every image with the number of its shard; other files are counted in ``unread``."""

    def ignore(kind: str) -> None:
        known = kind == LABEL or kind in unread or len(unread) < MAX_KINDS
        unread[kind if known else "others"] += 1

    total = sum(shard.size for shard in shards)
    with console.bar("index of shards", total=total, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        before = 0
        for number, shard in enumerate(shards):
            for sample in samples(shard, ignore):
                bar.update(before + sample.start - bar.n)
                yield number, sample
            if not shard.is_current():
                raise ConfigError(f"data.root: the shard {shard} was changed while it was read: start again")
            before += shard.size
            bar.update(before - bar.n)


def _no_image(shards: Sequence[Shard], unread: Counter[str]) -> ConfigError:
    found = ", ".join(f"{kind} ({count:,})" for kind, count in unread.most_common(5))
    return ConfigError(
        f"data.root: no image in {label(shards)} (looked for {', '.join(sorted(EXTENSIONS))} after the first dot "
        f"of a name; found: {found or 'no files'})"
    )
