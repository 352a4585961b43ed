"""Images in tar files, as WebDataset lays them out."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gantrain.data.images.sources import Source
from gantrain.data.sets.layout import no_folder, of_phase
from gantrain.data.sets.shard_index import ShardIndex, shard_index
from gantrain.data.sets.single import Found, Images
from gantrain.data.sets.tar_samples import LABEL, SUFFIXES, Shard, compressed
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS
from gantrain.runtime import distributed

MOST_OPEN = 128  # shards of a data set in each process
COUNTED = re.compile(r"\{(\d+)\.\.(\d+)\}")


class OpenShard:
    """A shard to read from; it closes when nobody holds it.

    Raises:
        OSError: It can't be opened, or is another file than when it was listed.
    """

    def __init__(self, shard: Shard) -> None:
        self._file = os.open(shard.path, os.O_RDONLY)
        status = os.fstat(self._file)
        if (status.st_size, status.st_mtime_ns) != (shard.size, shard.modified):
            raise OSError("the shard has been changed since the run was started")

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def read(self, start: int, size: int) -> bytes:
        """Bytes from a place on; the place of no other reader moves, whichever process or thread it is in."""
        parts = []
        while size > 0 and (part := os.pread(self._file, size, start)):
            parts.append(part)
            start, size = start + len(part), size - len(part)
        if size:
            raise OSError("the shard is cut off")
        return b"".join(parts)


class ShardSource(Source):
    """The images in shards.

    Args:
        shards: In their order.
        index: Theirs.
    """

    def __init__(self, shards: Sequence[Shard], index: ShardIndex) -> None:
        self.shards = shards
        self.index = index
        self._folder = os.path.commonpath([shard.path.parent for shard in shards])
        self._opened = lru_cache(maxsize=MOST_OPEN)(OpenShard)

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardSource, (self.shards, self.index)  # each process opens its own

    def __len__(self) -> int:
        return len(self.index)

    def name(self, index: int) -> str:
        """The path of the shard, without suffix, below the folder of all, and that of the member."""
        shard = self.shards[self.index[index].shard]
        return f"{shard.path.relative_to(self._folder).with_suffix('').as_posix()}/{self.index.name(index)}"

    def open(self, index: int) -> bytes:
        """The content of the member.

        Raises:
            ConfigError: The shard is not what it was, or can't be read.
        """
        member = self.index[index]
        try:
            return self._opened(self.shards[member.shard]).read(member.start, member.size)
        except OSError as error:
            raise ConfigError(f"can't read the image {self.location(index)}: {error.strerror or error}") from None

    def location(self, index: int) -> str:
        """The path of the shard, and that of the member in it."""
        return f"{self.shards[self.index[index].shard].path}/{self.index.name(index)}"

    def stamp(self, indices: Sequence[int]) -> str:
        """From the places, sizes and times of the last change of the shards, and from the names in them."""
        digest = hashlib.blake2b(self.fingerprint().encode(), digest_size=16)
        for shard in self.shards:
            digest.update(shard.identity)
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Sixteen digits that differ where names or labels do."""
        digest = hashlib.blake2b(self.index.digest.encode(), digest_size=8)
        for shard in self.shards:
            digest.update(f"{shard.path.relative_to(self._folder)}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@DATASETS.register("shards")
class Shards(Images):
    """Tar files of images, as WebDataset lays them out: cut up into shards, none of them compressed.

    The files of a sample follow one another in a shard and share their names up to the first dot: ``7.jpg``, ``7.cls``.
    Its image is the one file whose name has the suffix of an image and nothing else after that dot (``.npy`` counts
    where there is no other); ``7.seg.png`` is none. Samples without an image are left out, as other files are in a
    folder; ``gantrain data check`` counts what is not read. Labels are the whole numbers in the ``.cls``, which either
    all images have or none; those that come up in training are the classes, in their order, named by their numbers.

    Args:
        root: A folder of ``.tar`` files, read in the order of their names; if it holds folders named ``train`` and
            ``test`` (or ``val``), each phase reads its own. Or one file; or a pattern (``shards/*.tar``,
            ``shards/train-{000..012}.tar``).
        others: As for any set of images.
    """

    def _find(self, root: str, phase: str) -> Found:
        folder = Path(root).expanduser()
        of_train, own = (of_phase(folder, each) for each in ("train", phase))
        train = open_source(find_shards(str(of_train or root)))
        source = train if own == of_train else open_source(find_shards(str(own)))
        classes = _classes(train)
        labels = _labels(source, classes) if classes else None
        return Found(source, source.fingerprint(), [str(number) for number in classes], labels, own is not None)


def open_source(shards: Sequence[Shard]) -> ShardSource:
    """The images in shards, which are indexed if they are not."""
    with distributed.rank_zero_first():
        return ShardSource(shards, shard_index(shards))


def find_shards(root: str) -> list[Shard]:
    """The shards that ``root`` stands for, at least one.

    Raises:
        ConfigError: There are none, or one is missing or compressed.
    """
    if re.match(r"\w+://|pipe:", root):
        raise ConfigError(f"data.root={root}: shards are read as files: copy them, or mount where they lie")
    path = Path(root).expanduser()
    if path.is_dir():
        paths = _tars(path)
        if not paths:
            raise _no_tar(path)
    else:
        paths = [found for pattern in expanded(str(path)) for found in _matching(pattern)]
    for found in paths:
        if found.suffix.lower() in SUFFIXES:
            raise compressed(found)
    return [Shard.at(Path(found)) for found in dict.fromkeys(map(os.path.abspath, paths))]


def expanded(pattern: str) -> Iterator[str]:
    """What a shell makes of braces: ``{000..012}`` counts, ``{a,b}`` lists; several make every combination."""
    found = _first_braces(pattern)
    if found is None or Path(pattern).exists():
        yield pattern
        return
    before, words, after = found
    for word in words:
        yield from expanded(before + word + after)


def _first_braces(pattern: str) -> tuple[str, Iterable[str], str] | None:
    """What stands before the first braces that mean something, the words in them, and what stands after."""
    for start in (place for place, letter in enumerate(pattern) if letter == "{"):
        depth, cuts = 0, [start]
        for place in range(start, len(pattern)):
            depth += {"{": 1, "}": -1}.get(pattern[place], 0)
            if depth == 0 or (depth == 1 and pattern[place] == ","):
                cuts.append(place)
            if depth == 0:
                break
        words: Iterable[str] = (pattern[one + 1 : other] for one, other in pairwise(cuts))
        counted = COUNTED.fullmatch(pattern, start, cuts[-1] + 1)
        if depth == 0 and (len(cuts) > 2 or counted):
            return pattern[:start], _numbers(counted[1], counted[2]) if counted else words, pattern[cuts[-1] + 1 :]
    return None


def _numbers(first: str, last: str) -> Iterator[str]:
    """From the first to the last, upwards or downwards, with as many digits if one of them begins with a zero."""
    width = max(len(first), len(last)) if any(len(end) > 1 and end.startswith("0") for end in (first, last)) else 0
    step = 1 if int(first) <= int(last) else -1
    for number in range(int(first), int(last) + step, step):
        yield f"{number:0{width}}"


def _matching(pattern: str) -> list[Path]:
    """The files of a pattern without braces, or the one of that name."""
    path = Path(pattern)
    if path.is_file():
        return [path]
    if not glob.has_magic(pattern):
        raise ConfigError(f"data.root: there is no shard {path}") if path.suffix else no_folder(path)
    paths = sorted(found for found in map(Path, glob.glob(pattern, recursive=True)) if found.is_file())
    if not paths:
        raise ConfigError(f"data.root: no shard matches {pattern}")
    return paths


def _tars(folder: Path, suffixes: Sequence[str] = (".tar",)) -> list[Path]:
    """Sorted, without those of hidden names, which are a computer's own."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )


def _no_tar(folder: Path) -> ConfigError:
    """What to say of a folder without shards, and what is there instead."""
    packed = _tars(folder, SUFFIXES)
    if packed:
        return compressed(packed[0])
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and _tars(path)]
    hint = f"; there are in {', '.join(map(str, below))}" if below else " (data=single reads images)"
    return ConfigError(f"data.root: there are no .tar files in {folder}{hint}")


def _classes(source: ShardSource) -> list[int]:
    """The labels that come up, in their order; none if nothing has one."""
    labels = source.index.labels
    if labels.max() < 0 and LABEL not in source.index.unread:
        return []
    if labels.min() < 0:
        raise _no_label(source)
    found: list[int] = np.unique(labels).tolist()
    return found


def _labels(source: ShardSource, classes: Sequence[int]) -> list[int]:
    """The class number of every image."""
    labels = source.index.labels
    if labels.min() < 0:
        raise _no_label(source)
    numbers = np.searchsorted(classes, labels)
    strange = np.asarray(classes)[numbers.clip(max=len(classes) - 1)] != labels
    if strange.any():
        index = int(strange.argmax())
        raise ConfigError(
            f"data.root: {source.location(index)} has the label {labels[index]}, which none of the training images has"
        )
    return numbers.tolist()


def _no_label(source: ShardSource) -> ConfigError:
    bare = source.location(int(source.index.labels.argmin()))
    return ConfigError(
        f"data.root: {bare} has no label, a {LABEL} right beside it in the shard, as others have "
        "(tar --sort=name keeps the files of a sample together)"
    )
