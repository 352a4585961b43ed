"""The images in tar files by number: found in one pass over the headers, and memory-mapped afterwards."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gantrain.data.images.convert import EXTENSIONS
from gantrain.data.sets.tar_samples import LABEL, Sample, Shard, samples
from gantrain.errors import ConfigError
from gantrain.runtime.atomic import atomic, cache_folder, one_at_a_time

SUFFIX = ".index"
MAGIC = b"gantshrd"
VERSION = 1
DIGEST = 16  # bytes
# magic, version, unused, how many images, bytes of their names and of the description, digest of names and labels
HEADER = struct.Struct(f"<8sIIQQQ{DIGEST}s")
# where an image begins in its shard, its bytes, where its name ends among all, the number of the shard, the label
ROW = np.dtype([("start", "<u8"), ("size", "<u8"), ("name", "<u8"), ("shard", "<u4"), ("label", "<i4")])
CHUNK = 4096  # images
KINDS = 30  # of files that are not read, told apart


class Member(NamedTuple):
    """Where an image is.

    Attributes:
        shard: The number of its file.
        start: Of its first byte.
        size: In bytes.
    """

    shard: int
    start: int
    size: int


class ShardIndex:
    """The images of shards by number, in their order, from a memory-mapped file.

    Layout of the file: a header, a ``ROW`` for each image, their names one after another, a description in JSON.

    Args:
        path: Of the index.

    Attributes:
        digest: Differs where names, labels or the division into shards do.
        unread: How many other files there are, by what follows the first dot of their names.

    Raises:
        ConfigError: This is no whole index.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        problem = ConfigError(f"the index {path} is damaged")
        with path.open("rb") as file:
            header = file.read(HEADER.size)
            size = os.fstat(file.fileno()).st_size
            if len(header) != HEADER.size:
                raise problem
            magic, version, _, count, length, described, digest = HEADER.unpack(header)
            names = HEADER.size + ROW.itemsize * count
            if (magic, version, names + length + described) != (MAGIC, VERSION, size) or not count:
                raise problem
            file.seek(names + length)
            self.unread: dict[str, int] = json.loads(file.read(described))
        self.digest: str = digest.hex()
        self._rows = np.memmap(path, ROW, "r", offset=HEADER.size, shape=(count,))
        self._names = np.memmap(path, np.uint8, "r", offset=names, shape=(length,))

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardIndex, (self._path,)  # else the memory map would be copied

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Member:
        row = self._rows[index]
        return Member(int(row["shard"]), int(row["start"]), int(row["size"]))

    def name(self, index: int) -> str:
        """Of the member, as its shard has it."""
        start = self._rows[index - 1]["name"] if index else 0
        return self._names[start : self._rows[index]["name"]].tobytes().decode("utf-8", "surrogateescape")

    @property
    def labels(self) -> NDArray[np.int32]:
        """One number per image; -1 for one that has none."""
        return self._rows["label"]


def shard_index(shards: Sequence[Shard]) -> ShardIndex:
    """The index of these shards, built if there is none, which is kept in the folder of ``cache_folder``.

    Its name is a digest of theirs, their sizes and times: that of changed shards is another file, so that none that a
    process reads is ever replaced, which many a network folder would punish with the end of that process.

    Raises:
        ConfigError: A shard is damaged, none holds an image, or the index can't be written.
    """
    state = hashlib.blake2b(digest_size=DIGEST)
    for shard in shards:
        state.update(shard.identity)
    path = cache_folder() / "shards" / f"{state.hexdigest()}{SUFFIX}"
    index = _open(path)
    if index is not None:
        return index
    told: list[str] = []

    def wait() -> None:
        if not told:
            told.append(f"Waiting for another process that indexes {label(shards)}")
            print(told[0], file=sys.stderr)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(path, wait=wait):
            if _open(path) is None:  # else another process has just written it
                _build(shards, path)
        return ShardIndex(path)
    except OSError as error:
        raise ConfigError(
            f"the index of {label(shards)} can't be written as {path} ({error.strerror or error}): set GANTRAIN_CACHE "
            "to a folder with room for it"
        ) from None


def _open(path: Path) -> ShardIndex | None:
    with suppress(OSError, ValueError, ConfigError):
        return ShardIndex(path)
    return None


def label(shards: Sequence[Shard]) -> str:
    """How messages name them all."""
    return str(shards[0].path) + ("" if len(shards) == 1 else f" and {len(shards) - 1:,} more")


def _build(shards: Sequence[Shard], path: Path) -> None:
    """Write the index in one pass over the shards, in constant memory; until it is whole it has another name."""
    unread: Counter[str] = Counter()
    digest = hashlib.blake2b(digest_size=DIGEST)
    count = length = 0
    with atomic(path) as file, tempfile.TemporaryFile(dir=path.parent) as names:
        file.write(bytes(HEADER.size))
        found = _numbered(shards, unread)
        while chunk := list(itertools.islice(found, CHUNK)):
            encoded = [sample.name.encode("utf-8", "surrogateescape") for _, sample in chunk]
            ends = length + np.cumsum([len(name) for name in encoded])
            rows = [(s.start, s.size, end, shard, s.label) for (shard, s), end in zip(chunk, ends, strict=True)]
            file.write(np.array(rows, dtype=ROW).tobytes())
            names.write(b"".join(encoded))
            for (shard, sample), name in zip(chunk, encoded, strict=True):
                digest.update(b"%d %d %s\n" % (shard, sample.label, name))
            count, length = count + len(chunk), int(ends[-1])
        if not count:
            raise _no_image(shards, unread)
        names.seek(0)
        shutil.copyfileobj(names, file)
        described = json.dumps(unread).encode()
        file.write(described)
        file.seek(0)
        file.write(HEADER.pack(MAGIC, VERSION, 0, count, length, len(described), digest.digest()))


def _numbered(shards: Sequence[Shard], unread: Counter[str]) -> Iterator[tuple[int, Sample]]:
    """Every image with the number of its shard, with a progress bar; other files are counted in ``unread``."""

    def ignore(kind: str) -> None:
        known = kind == LABEL or kind in unread or len(unread) < KINDS
        unread[kind if known else "others"] += 1

    total = sum(shard.size for shard in shards)
    with tqdm(total=total, desc="index of shards", unit="B", unit_scale=True, leave=False, disable=None) as bar:
        before = 0
        for number, shard in enumerate(shards):
            for sample in samples(shard, ignore):
                bar.update(before + sample.start - bar.n)
                yield number, sample
            if Shard.at(shard.path) != shard:
                raise ConfigError(f"data.root: the shard {shard.path} is being changed")
            before += shard.size
            bar.update(before - bar.n)


def _no_image(shards: Sequence[Shard], unread: Counter[str]) -> ConfigError:
    there = ", ".join(f"{kind} ({count:,})" for kind, count in unread.most_common(5))
    return ConfigError(
        f"data.root: no image in {label(shards)} (looked for {', '.join(sorted(EXTENSIONS))} after the first dot "
        f"of a name; there are: {there or 'no files'})"
    )
