"""Images in tar files in the layout of WebDataset."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from braceexpand import braceexpand

from gantrain.config.extras import is_url, is_web, without_credentials
from gantrain.data.images.finding import contents, counted, matching, report_once
from gantrain.data.images.remote import RangeCache, listed, read_range
from gantrain.data.images.sources import Source, state_of
from gantrain.data.names import phase_of
from gantrain.data.sets.layout import no_folder, of_phase, root_path
from gantrain.data.sets.shard_index import ShardIndex, label, shard_index
from gantrain.data.sets.single import Found, Images
from gantrain.data.sets.tar_samples import LABEL, SUFFIXES, Shard, compressed, path_of
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS
from gantrain.runtime import distributed

URLS_AT_ONCE = 16  # Requests for the states of shards.
MAX_OPEN = 128  # The maximum number of open shards of a data set in each process.


class OpenShard:
    """A shard to read from, which is closed when the object is deleted."""

    def __init__(self, shard: Shard) -> None:
        self._file = os.open(shard.path, os.O_RDONLY)
        if state_of(os.fstat(self._file)) != shard.state:
            raise OSError("the shard was changed after the run was started")

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def read(self, start: int, size: int) -> bytes:
        """Bytes from an offset on; processes and threads may read at the same time."""
        parts = []
        while size > 0 and (part := os.pread(self._file, size, start)):
            parts.append(part)
            start, size = start + len(part), size - len(part)
        if size:
            raise OSError("the shard is truncated")
        return b"".join(parts)


class RemoteShard:
    """A shard at a URL to read from."""

    def __init__(self, shard: Shard) -> None:
        if not shard.is_current():
            raise OSError("the shard was changed after the run was started")
        self._url = shard.url

    def read(self, start: int, size: int) -> bytes:
        """Bytes from an offset on; processes and threads may read at the same time."""
        return read_range(self._url, start, size)


class ShardSource(Source):
    """The images in shards.

    Args:
        limit: Bytes of the images of shards at URLs that are kept on the disk; see ``RangeCache``.
    """

    def __init__(self, shards: Sequence[Shard], index: ShardIndex, limit: float = 0) -> None:
        self.shards = shards
        self.index = index
        self._folder = os.path.commonpath([shard.path.parent for shard in shards])
        self._opened = lru_cache(maxsize=MAX_OPEN)(OpenShard)
        self._opened_urls = lru_cache(maxsize=None)(RemoteShard)
        self._stored = RangeCache(limit)

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardSource, (self.shards, self.index, self._stored.limit)  # Each process opens the shards itself.

    def keep(self, limit: float) -> None:
        self._stored = RangeCache(limit)

    def __len__(self) -> int:
        return len(self.index)

    def name(self, index: int) -> str:
        """The path of the shard, without suffix, below the common folder, and that of the member in it."""
        shard = self.shards[self.index[index].shard]
        return f"{shard.path.relative_to(self._folder).with_suffix('').as_posix()}/{self.index.name(index)}"

    def open(self, index: int) -> bytes:
        """The content of the member."""
        member = self.index[index]
        shard = self.shards[member.shard]
        try:
            if not shard.url:
                return self._opened(shard).read(member.start, member.size)
            key = f"{shard} {shard.state} {member.start}"
            content = self._stored.get(key, member.size)
            if content is None:
                content = self._opened_urls(shard).read(member.start, member.size)
                self._stored.put(key, content)
            return content
        except OSError as error:
            raise ConfigError(f"can't read the image {self.location(index)}: {error.strerror or error}") from None

    def location(self, index: int) -> str:
        return f"{self.shards[self.index[index].shard]}/{self.index.name(index)}"

    def stamp(self, indices: Sequence[int]) -> str:
        digest = hashlib.blake2b(self.fingerprint().encode(), digest_size=16)
        for shard in self.shards:
            digest.update(shard.identity)
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Sixteen digits that depend on all names and labels."""
        digest = hashlib.blake2b(self.index.digest.encode(), digest_size=8)
        for shard in self.shards:
            digest.update(f"{shard.path.relative_to(self._folder)}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@DATASETS.register("shards")
class Shards(Images):
    """Shards of images: uncompressed tar files in the layout of WebDataset.

    The files of a sample follow one another in a shard and share their names up to the first dot: ``7.jpg``, ``7.cls``.
    Its image is the one file with the suffix of an image and nothing else after that dot (``.npy`` only if there is no
    other); ``7.seg.png`` is not read. Samples without an image are skipped; ``gantrain data check`` counts the files
    that are not read. Labels are the integers in the ``.cls`` files, which either all images have or none; those of the
    training images, sorted, are the classes, named by their numbers.

    Args:
        root: A folder of ``.tar`` files, read in the order of their names; if it contains folders named ``train`` and
            ``test`` (or ``val``), each phase reads its own. Or one file, or a pattern (``shards/*.tar``,
            ``shards/train-{000..012}.tar``). Or a URL of one of these (``s3://bucket/shards``, ``gs://``, ``https://``),
            of which images are read in ranges and kept in $GANTRAIN_CACHE.
        others: The arguments of ``Images``.
    """

    def _find(self, root: str, phase: str) -> Found:
        of_train, own = (_of_phase(root, each) for each in ("train", phase))
        train = open_source(find_shards(str(of_train or root)))
        source = train if own == of_train else open_source(find_shards(str(own)))
        classes = _classes(train)
        labels = _labels(source, classes) if classes else None
        return Found(source, source.fingerprint(), [str(number) for number in classes], labels, own is not None)


def open_source(shards: Sequence[Shard]) -> ShardSource:
    """The images in shards, which are indexed if necessary."""
    with distributed.rank_zero_first():
        index = shard_index(shards)
    if index.unread:
        number, kinds = sum(index.unread.values()), counted(Counter(index.unread))
        report_once(f"{label(shards)}: {number:,} files are not read, because of their suffixes: {kinds}")
    return ShardSource(shards, index)


def find_shards(root: str) -> list[Shard]:
    """The shards of a root, at least one; see ``Shards``."""
    if root.startswith("pipe:"):
        raise ConfigError(f"data.root={root}: shards are read as files, or by URL (s3://, gs://, https://)")
    if is_url(root):
        return _at_urls(root)
    path = root_path(root)
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


def _of_phase(root: str, phase: str) -> Path | str | None:
    """The folder of a phase, or its URL; see ``of_phase``."""
    if not is_url(root):
        return of_phase(root_path(root), phase)
    if _is_tar(root) or "*" in root or "{" in root:
        return None
    folders = {phase_of(url.rpartition("/")[2]): url for url in listed(root) if not _is_tar(url)}
    if "train" not in folders or not {"test", "val"} & folders.keys():
        return None
    return folders.get(phase) or folders.get("val" if phase == "test" else phase, f"{root.rstrip('/')}/{phase}")


def _at_urls(root: str) -> list[Shard]:
    """The shards of a URL of a folder, of a file, or with a pattern."""
    urls = []
    for url in expanded(root):
        found = [url] if _is_tar(url) and "*" not in url else [each for each in listed(url) if _is_tar(each)]
        if not found:
            what = "no shard matches" if "*" in url else "there are no .tar files in"
            raise ConfigError(f"data.root: {what} {without_credentials(url)}")
        urls += found
    for url in urls:
        if path_of(url).suffix.lower() in SUFFIXES:
            raise compressed(without_credentials(url))
    with ThreadPoolExecutor(URLS_AT_ONCE) as pool:
        return list(pool.map(Shard.at_url, dict.fromkeys(urls)))


def _is_tar(url: str) -> bool:
    """Whether a URL is that of a file instead of a folder; one with a query is."""
    return path_of(url).suffix.lower() in (".tar", *SUFFIXES) or (is_web(url) and "?" in url)


def expanded(pattern: str) -> list[str]:
    """Expand braces as a shell does, ``{000..012}`` and ``{a,b}``, unless there is a file of that name."""
    if Path(pattern).exists():
        return [pattern]
    try:
        return list(braceexpand(pattern, escape=False))
    except ValueError:  # Unbalanced braces are literal.
        return [pattern]


def _matching(pattern: str) -> list[Path]:
    """The files that match a pattern, after brace expansion."""
    path = Path(pattern)
    if path.is_file():
        return [path]
    if not glob.has_magic(pattern):
        raise ConfigError(f"data.root: there is no shard {path}") if path.suffix else no_folder(path)
    paths = matching(pattern)
    if not paths:
        raise ConfigError(f"data.root: no shard matches {pattern}")
    return paths


def _tars(folder: Path, suffixes: Sequence[str] = (".tar",)) -> list[Path]:
    """The files with these suffixes, sorted, without hidden ones."""
    return sorted(path for path in contents(folder).files if path.suffix.lower() in suffixes)


def _no_tar(folder: Path) -> ConfigError:
    """The error for a folder without shards, with a hint from what it contains instead."""
    packed = _tars(folder, SUFFIXES)
    if packed:
        return compressed(packed[0])
    below = [path for path in sorted(contents(folder).folders) if _tars(path)]
    hint = f"; there are some in {', '.join(map(str, below))}" if below else " (data=single reads images)"
    return ConfigError(f"data.root: there are no .tar files in {folder}{hint}")


def _classes(source: ShardSource) -> list[int]:
    """The labels, sorted; empty if no image has one."""
    labels = source.index.labels
    if labels.max() < 0 and LABEL not in source.index.unread:
        return []
    if labels.min() < 0:
        raise _no_label(source)
    classes: list[int] = np.unique(labels).tolist()
    return classes


def _labels(source: ShardSource, classes: Sequence[int]) -> list[int]:
    """The class number of every image."""
    labels = source.index.labels
    if labels.min() < 0:
        raise _no_label(source)
    numbers = np.searchsorted(classes, labels)
    unknown = np.asarray(classes)[numbers.clip(max=len(classes) - 1)] != labels
    if unknown.any():
        index = int(unknown.argmax())
        raise ConfigError(
            f"data.root: {source.location(index)} has the label {labels[index]}, which none of the training images has"
        )
    return numbers.tolist()


def _no_label(source: ShardSource) -> ConfigError:
    unlabelled = source.location(int(source.index.labels.argmin()))
    return ConfigError(
        f"data.root: {unlabelled} has no label, a {LABEL} right beside it in the shard, but others have (tar "
        "--sort=name puts the files of a sample together)"
    )
